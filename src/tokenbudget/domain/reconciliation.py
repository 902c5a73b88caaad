"""Comparing what was metered with what was invoiced: it owns what is compared, rows and totals.

It refuses files, SQL and conversion: other currencies are only listed. How finely two sides meet is
``matching.py``'s, what a variance means ``variances.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.matching import Group, Subject, merge_groups
from tokenbudget.domain.matching import MatchLevel as MatchLevel
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.statements import NOBODY, Bearer
from tokenbudget.domain.variances import TOLERANCE_BASIS_POINTS as TOLERANCE_BASIS_POINTS
from tokenbudget.domain.variances import ZERO as ZERO
from tokenbudget.domain.variances import Verdict as Verdict
from tokenbudget.domain.variances import add_exactly as add_exactly
from tokenbudget.domain.variances import format_amount as format_amount
from tokenbudget.domain.variances import judge as judge
from tokenbudget.domain.variances import subtract_exactly

CanonicalModel = Callable[[str, str], str]
"""Gives the one name that (provider, model) goes by, the model itself when it knows no other."""

CommitmentOf = Callable[[BilledCost], str | None]
"""Gives the id of the commitment that a line pays, None for a line that pays none."""


@dataclass(frozen=True, slots=True)
class MeteredCost:
    """What the ledger holds for one model, bearer and UTC day, without unpriced usage.

    ``account`` is the provider's project, account or key that the usage named, None for none.
    ``commitment`` is the id of the one that covers it, whose fixed cost is then what it costs.
    """

    provider: str
    model: str
    period: Period
    effective_nanos: int
    unpriced_requests: int = 0
    account: str | None = None
    bearer: Bearer = NOBODY
    requests: int = 0
    tokens: int = 0
    list_nanos: int = 0
    contracted_nanos: int = 0
    commitment: str | None = None


@dataclass(frozen=True, slots=True)
class ReconciliationRow:
    """One line of the comparison; ``variance`` is invoiced less metered.

    ``metered`` or ``invoiced`` is None where there is nothing on that side, which is not zero.
    ``description`` is only there when ``model`` is None, ``account`` only at that level.
    ``category`` is usage for what is compared; rows of the others are lines that no usage stands
    for. ``commitment`` is the id of the one whose cost it compares with what pays it.
    """

    provider: str
    period: Period
    model: str | None
    description: str | None
    account: str | None
    level: MatchLevel
    metered: Decimal | None
    invoiced: Decimal | None
    variance: Decimal
    verdict: Verdict
    unpriced_requests: int
    category: ChargeCategory = ChargeCategory.USAGE
    commitment: str | None = None

    @property
    def is_untracked(self) -> bool:
        """Tell whether more was invoiced than anybody reported; unpriced usage was reported."""
        is_usage = self.category is ChargeCategory.USAGE
        return is_usage and self.verdict is Verdict.UNTRACKED and not self.unpriced_requests


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The whole comparison of one period in the ledger's currency, with rows in order of time.

    ``invoiced`` is the exact sum of every line in that currency; ``other_currencies`` holds what
    was invoiced in others, which is never added. ``metered_rows`` has, for each metered cost in the
    order given, the index of its row; ``line_rows`` likewise for each line, None for one that no
    usage stands for or of another currency.
    """

    period: Period
    currency: str
    rows: tuple[ReconciliationRow, ...]
    metered: Decimal
    invoiced: Decimal
    variance: Decimal
    other_currencies: Mapping[str, Decimal]
    metered_rows: Sequence[int] = ()
    line_rows: Sequence[int | None] = ()

    @property
    def is_over_counted(self) -> bool:
        """Tell whether any row was metered above its invoice, which must stop a close."""
        return any(row.verdict is Verdict.OVER_COUNTED for row in self.rows)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a month is compared.

    ``tolerance_basis_points`` is the share of an invoice that a variance may be. Days that are not
    over at ``as_of`` are not judged, and neither are longer times; None judges everything.
    ``commitment_of`` tells the lines that pay a commitment, whatever their category.
    """

    period: Period
    currency: str
    canonical_model: CanonicalModel = lambda _provider, model: model
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS
    as_of: datetime | None = None
    commitment_of: CommitmentOf = lambda _line: None

    def is_open(self, period: Period) -> bool:
        """Tell whether the time is not over yet."""
        return self.as_of is not None and period.end > self.as_of


def reconcile(
    metered: Sequence[MeteredCost],
    lines: Sequence[BilledCost],
    *,
    period: Period,
    currency: str,
    canonical_model: CanonicalModel = lambda _provider, model: model,
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS,
) -> Reconciliation:
    """Give the rows of a month that is over, each as fine as its two sides met."""
    return compare(
        metered, lines, Comparison(period, currency, canonical_model, tolerance_basis_points)
    )


def compare(
    metered: Sequence[MeteredCost], lines: Sequence[BilledCost], comparison: Comparison
) -> Reconciliation:
    """Give the rows of a month, each as fine as its two sides met.

    Names are made canonical on both sides, so a bill's ``gpt-4.1-2025-04-14`` meets usage recorded
    as ``gpt-4.1``; equal names meet whatever the function knows. Rows add up to the lines exactly,
    and the order of the inputs changes nothing but the order of the indices.
    """
    groups = _Groups(comparison)
    metered_groups = groups.add_metered(metered)
    line_groups = [groups.add_line(line) for line in lines]
    kept = merge_groups(
        groups.by_subject.values(),
        month=comparison.period,
        tolerance_basis_points=comparison.tolerance_basis_points,
    )
    kept.sort(key=lambda group: group.order)
    places = {group: place for place, group in enumerate(kept)}
    row_of = {group: places[group.root] for group in groups.by_subject.values()}
    rows = tuple(_row(group, comparison.tolerance_basis_points) for group in kept)
    return _with_totals(
        comparison,
        rows,
        add_by_currency(line for line in lines if line.currency != comparison.currency),
        metered_rows=[row_of[group] for group in metered_groups],
        line_rows=[
            row_of[group] if group is not None and group.subject.is_compared else None
            for group in line_groups
        ],
    )


def billed_period(period: Period) -> Period:
    """Give what a bill's line is compared and restated by: the UTC day that holds its period.

    A period that no single day holds (a month's fee) stands for itself.
    """
    day = window_at(Window.DAY, period.start, "UTC")
    return day if period.end <= day.end else period


def add_by_currency(lines: Iterable[BilledCost]) -> dict[str, Decimal]:
    """Give the exact sum of the lines in each currency, in order of the currencies."""
    totals: dict[str, Decimal] = {}
    for line in lines:
        totals[line.currency] = add_exactly(totals.get(line.currency, ZERO), line.amount)
    return dict(sorted(totals.items()))


@dataclass(slots=True)
class _Groups:
    """The groups as fine as they come, and the names that usage goes by."""

    comparison: Comparison
    by_subject: dict[Subject, Group] = field(default_factory=dict)
    _accounts: set[tuple[str, str | None]] = field(default_factory=set)
    _models: dict[tuple[str, str], str] = field(default_factory=dict)
    _billed: dict[Period, Period] = field(default_factory=dict)
    _days: dict[Period, bool] = field(default_factory=dict)
    _providers: dict[str, str] = field(default_factory=dict)

    def add_metered(self, metered: Sequence[MeteredCost]) -> list[Group]:
        """Give the group of each cost; lines come after them, since usage says what names count."""
        # A month has a million of these and few subjects: whatever is done for each of them counts.
        known: dict[tuple[str, str, str | None, datetime, str | None], Group] = {}
        groups: list[Group] = []
        self._providers = _providers_of(metered)
        for cost in metered:
            key = (cost.provider, cost.model, cost.account, cost.period.start, cost.commitment)
            group = known.get(key)
            if group is None:
                group = known[key] = self._of_cost(cost)
                group.is_metered = True
            group.metered_nanos += cost.effective_nanos
            group.unpriced_requests += cost.unpriced_requests
            groups.append(group)
        self._accounts = {(provider, account) for provider, _, account, *_ in known}
        return groups

    def add_line(self, line: BilledCost) -> Group | None:
        """Give the group of a line, None for one of another currency."""
        if line.currency != self.comparison.currency:
            return None
        group = self._find(line)
        group.add_invoiced(line.amount)
        return group

    def _find(self, line: BilledCost) -> Group:
        commitment = self.comparison.commitment_of(line)
        if commitment is not None:
            return self._of_commitment(commitment, line.provider)
        period = self._billed.get(line.period)
        if period is None:
            period = self._billed[line.period] = billed_period(line.period)
        if line.model is None or line.category is not ChargeCategory.USAGE:
            return self._of(
                Subject(
                    line.provider,
                    period,
                    MatchLevel.PROVIDER_MONTH,
                    description=line.description or line.category.value,
                    category=line.category,
                )
            )
        model = self._canonical(line.provider, line.model)
        return self._of_model(line.provider, model, self._ref(line), period)

    def _of_cost(self, cost: MeteredCost) -> Group:
        if cost.commitment is not None:
            return self._of_commitment(cost.commitment, cost.provider)
        model = self._canonical(cost.provider, cost.model)
        return self._of_model(cost.provider, model, cost.account, cost.period)

    def _of_commitment(self, commitment: str, provider: str) -> Group:
        """Give its group of the month, which goes by the provider of its usage if there is any."""
        return self._of(
            Subject(
                self._providers.get(commitment, provider),
                self.comparison.period,
                MatchLevel.PROVIDER_MONTH,
                description=f"commitment {commitment}",
                commitment=commitment,
            )
        )

    def _of_model(self, provider: str, model: str, account: str | None, period: Period) -> Group:
        if not self._is_day(period):
            return self._of(Subject(provider, period, MatchLevel.MODEL_MONTH, model))
        level = MatchLevel.MODEL_DAY if account is None else MatchLevel.ACCOUNT
        return self._of(Subject(provider, period, level, model, account))

    def _of(self, subject: Subject) -> Group:
        group = self.by_subject.get(subject)
        if group is None:
            group = Group(subject, is_open=self.comparison.is_open(subject.period))
            self.by_subject[subject] = group
        return group

    def _ref(self, line: BilledCost) -> str | None:
        """Give the finest name of a line that usage goes by, else its account."""
        for name in (line.api_key, line.project):
            if name is not None and (line.provider, name) in self._accounts:
                return name
        return line.account or None

    def _is_day(self, period: Period) -> bool:
        is_day = self._days.get(period)
        if is_day is None:
            day = window_at(Window.DAY, period.start, "UTC")
            is_day = self._days[period] = period.end <= day.end
        return is_day

    def _canonical(self, provider: str, model: str) -> str:
        name = self._models.get((provider, model))
        if name is None:
            name = self._models[provider, model] = self.comparison.canonical_model(provider, model)
        return name


def _providers_of(metered: Iterable[MeteredCost]) -> dict[str, str]:
    """Give the provider that each commitment's usage is known under, the first one by name."""
    providers: dict[str, str] = {}
    for cost in metered:
        if cost.commitment is not None:
            known = providers.get(cost.commitment, cost.provider)
            providers[cost.commitment] = min(known, cost.provider)
    return providers


def _row(group: Group, tolerance_basis_points: int) -> ReconciliationRow:
    subject = group.subject
    return ReconciliationRow(
        provider=subject.provider,
        period=subject.period,
        model=subject.model,
        description=subject.description,
        account=subject.account,
        level=subject.level,
        metered=group.metered,
        invoiced=group.invoiced,
        variance=group.variance,
        verdict=group.verdict(tolerance_basis_points),
        unpriced_requests=group.unpriced_requests,
        category=subject.category,
        commitment=subject.commitment,
    )


def _with_totals(
    comparison: Comparison,
    rows: tuple[ReconciliationRow, ...],
    other_currencies: Mapping[str, Decimal],
    *,
    metered_rows: Sequence[int],
    line_rows: Sequence[int | None],
) -> Reconciliation:
    metered = invoiced = ZERO
    for row in rows:
        metered = add_exactly(metered, row.metered or ZERO)
        invoiced = add_exactly(invoiced, row.invoiced or ZERO)
    return Reconciliation(
        period=comparison.period,
        currency=comparison.currency,
        rows=rows,
        metered=metered,
        invoiced=invoiced,
        variance=subtract_exactly(invoiced, metered),
        other_currencies=other_currencies,
        metered_rows=metered_rows,
        line_rows=line_rows,
    )
