"""Questions about money and their answers. It owns what may be asked; it refuses to find it out.

A question is a period, cut into buckets, grouped by dimensions and filtered. Rows exist only where
there was usage, and totals cover every row of the question, also when a page shows a part of them.
What was metered is answered from rollups; what was invoiced from the rows of closed statements,
which know whole months and fewer dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tokenbudget.domain.allocation import DIMENSIONS
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import divide_half_even
from tokenbudget.domain.months import month_at, month_period
from tokenbudget.domain.outcomes import COST_PER_PREFIX, cost_per_outcome, outcome_of_metric
from tokenbudget.domain.periods import EPOCH, Period, zone
from tokenbudget.domain.rollups import quarter_hour_at

OWNER_DIMENSIONS: Final = ("owner", "cost_center")
COST_DIMENSIONS: Final = (*DIMENSIONS, "is_retry", *OWNER_DIMENSIONS)
TAG_PREFIX: Final = "tag:"
GRANULARITIES: Final = ("hour", "day", "week", "month", "none")
ADDITIVE_METRICS: Final = {
    "cost": "effective_nanos",
    "list_cost": "list_nanos",
    "contracted_cost": "contracted_nanos",
    "effective_cost": "effective_nanos",
    "billed_cost": "billed_nanos",
    "requests": "requests",
    "unpriced_requests": "unpriced_requests",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cached_input_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
UNIT_METRICS: Final = ("cost_per_request", "cost_per_1k_tokens")
METRICS: Final = (*ADDITIVE_METRICS, *UNIT_METRICS)
AS_INCURRED: Final = "as_incurred"
AS_INVOICED: Final = "as_invoiced"
VIEWS: Final = (AS_INCURRED, AS_INVOICED)
BILLED_COST: Final = "billed_cost"
STATED_DIMENSIONS: Final = (
    "team",
    "feature",
    "tenant",
    "provider",
    "model",
    *OWNER_DIMENSIONS,
)
STATED_METRICS: Final = ("cost", "effective_cost", BILLED_COST, "requests", "tokens")
STATED_GRANULARITIES: Final = ("month", "none")

LATEST_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
MAX_GROUPED_DIMENSIONS: Final = 8
MAX_PAGE_ROWS: Final = 10_000
MAX_OUTCOMES: Final = 8

Group = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class CostFilter:
    """A condition on a dimension: any of ``values`` (None is absent), or none when ``negated``."""

    dimension: str
    values: tuple[str | None, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        """Refuse a dimension nobody knows."""
        require_dimension(self.dimension, field="filter")

    def admits(self, value: str | None) -> bool:
        """Tell whether usage with this value is counted."""
        return (value in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class CostQuery:
    """One question about money; InvalidInput, naming the field, when it cannot be answered.

    ``granularity`` cuts the period into calendar buckets of ``timezone``. ``metrics`` are shown
    beside the effective cost. ``order`` is ``start`` or an additive metric, with a minus in front
    for descending. ``limit`` None gives every row; ``cursor`` is the ``next_cursor`` of the page
    before. ``view`` tells by which month statements are read: ``as_incurred`` by when it was used,
    ``as_invoiced`` by whose statement carries it.
    """

    period: Period
    group_by: tuple[str, ...] = ()
    granularity: str = "none"
    timezone: str = "UTC"
    filters: tuple[CostFilter, ...] = ()
    metrics: tuple[str, ...] = ()
    order: str = "start"
    limit: int | None = None
    cursor: str | None = None
    view: str = AS_INCURRED

    def __post_init__(self) -> None:
        """Refuse what neither rollups nor statements can answer."""
        _require_answerable_period(self.period)
        zone(self.timezone)
        _require_known("granularity", self.granularity, GRANULARITIES)
        _require_known("order", self.order.removeprefix("-"), ("start", *ADDITIVE_METRICS))
        for metric in self.metrics:
            if outcome_of_metric(metric) is None:
                _require_known("metric", metric, (*METRICS, f"{COST_PER_PREFIX}<name>"))
        if len(self.outcomes) > MAX_OUTCOMES:
            raise InvalidInput(f"metric names more than {MAX_OUTCOMES} outcomes", field="metric")
        _require_groups(self.group_by)
        if self.limit is not None and not 1 <= self.limit <= MAX_PAGE_ROWS:
            raise InvalidInput(
                f"limit {self.limit} must be between 1 and {MAX_PAGE_ROWS}", field="limit"
            )
        _require_known("view", self.view, VIEWS)
        if self.is_stated:
            _require_stated(self)

    @property
    def is_stated(self) -> bool:
        """Tell whether closed statements answer, since it is about what was invoiced."""
        return is_about_statements(self.view, self.metrics, self.order)

    @property
    def dimensions(self) -> set[str]:
        """Give every dimension that is grouped by or filtered on."""
        return {*self.group_by, *(each.dimension for each in self.filters)}

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Give the outcomes whose unit cost is asked for, each once."""
        names = (outcome_of_metric(metric) for metric in self.metrics)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def needs_owners(self) -> bool:
        """Tell whether the answer depends on the dated owners."""
        return not self.dimensions.isdisjoint(OWNER_DIMENSIONS)


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one group used and cost from ``start`` on (None: in the whole period).

    ``group`` has one value a dimension of ``group_by``; None is absent. Amounts leave unpriced
    requests out, since what they cost is unknown; ``input_tokens`` and ``output_tokens`` are totals
    that include their parts. ``billed_nanos`` and ``undivided_tokens``, which are not told apart
    into in and out, come from statements. ``outcomes`` has the sum of each outcome asked for, in
    billionths.
    """

    group: Group = ()
    start: datetime | None = None
    list_nanos: int = 0
    contracted_nanos: int = 0
    effective_nanos: int = 0
    requests: int = 0
    unpriced_requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    billed_nanos: int = 0
    undivided_tokens: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Give all tokens, in and out."""
        return self.input_tokens + self.output_tokens + self.undivided_tokens


@dataclass(frozen=True, slots=True)
class CostTable:
    """The rows of one page in the order asked for, and the totals of all rows of the question.

    ``next_cursor`` is None on the last page.
    """

    rows: list[CostRow]
    totals: CostRow
    next_cursor: str | None = None


def unit_cost(row: CostRow, metric: str) -> int | None:
    """Give a unit cost in nanos, rounded half to even; None without a denominator.

    ``metric`` is one of ``UNIT_METRICS`` or ``cost_per:<name>``. A request costs what the priced
    requests cost on average. Tokens of unpriced requests are not told apart, so the cost of 1,000
    tokens is a lower bound while ``unpriced_requests`` is above zero.
    """
    name = outcome_of_metric(metric)
    if name is not None:
        return cost_per_outcome(row.effective_nanos, row.outcomes.get(name, 0))
    if metric == "cost_per_request":
        numerator, denominator = row.effective_nanos, row.requests - row.unpriced_requests
    else:
        numerator, denominator = row.effective_nanos * 1_000, row.tokens
    return divide_half_even(numerator, denominator) if denominator > 0 else None


def is_unit_metric(metric: str) -> bool:
    """Tell whether a metric is a cost for one of something."""
    return metric in UNIT_METRICS or outcome_of_metric(metric) is not None


def is_about_statements(view: str, metrics: Sequence[str], order: str) -> bool:
    """Tell whether a question is about what was invoiced."""
    return view == AS_INVOICED or BILLED_COST in (*metrics, order.removeprefix("-"))


def require_dimension(dimension: str, *, field: str) -> None:
    """Raise InvalidInput, naming the field, unless the dimension is known or is ``tag:<name>``."""
    if dimension.startswith(TAG_PREFIX) and dimension != TAG_PREFIX:
        return
    _require_known(field, dimension, (*COST_DIMENSIONS, f"{TAG_PREFIX}<name>"))


def require_rolled_up(query: CostQuery, unrolled_tags: Collection[str]) -> None:
    """Raise InvalidInput when the question needs a tag that is kept on usage but not in rollups."""
    for dimension in sorted(query.dimensions):
        if dimension.startswith(TAG_PREFIX) and dimension.removeprefix(TAG_PREFIX) in unrolled_tags:
            raise InvalidInput(
                f"{dimension} is not in the rollups, because TOKENBUDGET_UNROLLED_TAGS names it",
                field="group_by" if dimension in query.group_by else "filter",
            )


def _require_stated(query: CostQuery) -> None:
    """Raise InvalidInput, naming what is too fine, when statements cannot answer."""
    field_of = {dimension: "group_by" for dimension in query.group_by}
    for dimension in sorted(query.dimensions - set(STATED_DIMENSIONS)):
        raise _finer(field_of.get(dimension, "filter"), dimension, STATED_DIMENSIONS)
    order = query.order.removeprefix("-")
    for metric in (*query.metrics, *(() if order == "start" else (order,))):
        if metric not in STATED_METRICS:
            raise _finer("metric" if metric in query.metrics else "order", metric, STATED_METRICS)
    if query.granularity not in STATED_GRANULARITIES:
        raise _finer("granularity", query.granularity, STATED_GRANULARITIES)
    if query.timezone != "UTC":
        raise InvalidInput(
            "timezone must be UTC, in which statements' months lie", field="timezone"
        )
    for name, instant in (("start", query.period.start), ("end", query.period.end)):
        if month_period(month_at(instant)).start != instant:
            raise InvalidInput(
                f"{name} must be the start of a month in UTC, since statements are of whole months",
                field=name,
            )


def _finer(field: str, value: str, known: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        f"{field} {value!r} is not what statements tell, which is {', '.join(known)}", field=field
    )


def _require_answerable_period(period: Period) -> None:
    for name, instant in (("start", period.start), ("end", period.end)):
        if not EPOCH <= instant <= LATEST_END:
            raise InvalidInput(f"{name} must lie between 1970 and 2200", field=name)
        if quarter_hour_at(instant) != instant:
            raise InvalidInput(
                f"{name} must lie on a quarter-hour, which is as fine as rollups are kept",
                field=name,
            )


def _require_groups(group_by: Sequence[str]) -> None:
    for dimension in group_by:
        require_dimension(dimension, field="group_by")
    if len(set(group_by)) < len(group_by):
        raise InvalidInput("group_by names a dimension twice", field="group_by")
    if len(group_by) > MAX_GROUPED_DIMENSIONS:
        raise InvalidInput(
            f"group_by names more than {MAX_GROUPED_DIMENSIONS} dimensions", field="group_by"
        )


def _require_known(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidInput(f"{field} {value!r} is not one of {', '.join(known)}", field=field)
