"""Allocation rules as ``allocation.toml`` and the API spell them: one model, the same words.

TOML has ``tolerance`` and ``[[pool]]``, ``[[commitment]]``, ``[[acceptance]]`` and ``[[unbilled]]``
tables, JSON the same as lists. It owns the shape of a rule and what it may say; it refuses to
divide anything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from tokenbudget.domain.allocation_rules import (
    BEARER_NAMES,
    FEATURE,
    LINE_NAMES,
    TEAM,
    TENANT,
    Acceptance,
    AllocationRules,
    CommitmentRule,
    Conditions,
    Driver,
    PoolRule,
    Scope,
)
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import NANOS_PER_UNIT, format_nanos, parse_nanos
from tokenbudget.domain.months import parse_month
from tokenbudget.domain.outcomes import NAME_RULE, OUTCOME_NAME
from tokenbudget.domain.statements import Origin
from tokenbudget.domain.tag_rules import GLOB_MARK, Condition
from tokenbudget.domain.variances import BASIS_POINTS
from tokenbudget.formats.wire import plain_fault, require_no_nul

MAX_ENTRIES: Final = 1_000
MAX_VALUES: Final = 1_000
MAX_FILTERS: Final = 100
USUAL_TOLERANCE: Final = "2%"
NO_TEXT: Final = "holds half of a surrogate pair, which is no text"
METRIC_PREFIX: Final = "metric:"
WHOLE: Final = 100 * NANOS_PER_UNIT
GRAINS: Final = (TEAM, FEATURE, TENANT)
CATEGORIES: Final = (
    Origin.TAX,
    Origin.CREDIT,
    Origin.PURCHASE,
    Origin.ADJUSTMENT,
    Origin.UNUSED,
)
PAYING_CATEGORIES: Final = tuple(ChargeCategory)
KINDS: Final = ("pool", "commitment", "acceptance", "unbilled")
NO_CONTENT: Final[Mapping[str, Any]] = {
    "tolerance": USUAL_TOLERANCE,
    "pool": [],
    "commitment": [],
    "acceptance": [],
    "unbilled": [],
}

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Accepted = Name | Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_VALUES)]
Filter = Annotated[dict[Name, Accepted], msgspec.Meta(min_length=1, max_length=8)]
Filters = Filter | Annotated[list[Filter], msgspec.Meta(min_length=1, max_length=MAX_FILTERS)]
Shares = Annotated[dict[Name, Any], msgspec.Meta(min_length=1, max_length=MAX_VALUES)]


class PoolShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a pool: of lines that match, or of what a bearer bears."""

    name: Name
    match: Annotated[dict[Name, Accepted], msgspec.Meta(max_length=8)] | None = None
    bearer: Filter | None = None
    driver: Name = Driver.DIRECT_COST.value
    by: Name | list[Name] = TEAM
    over: Literal["account", "provider", "all"] = "account"
    among: Filters | None = None
    exclude: Filters | None = None
    shares: Shares | None = None
    valid_from: Name | None = None
    valid_to: Name | None = None


class CommitmentRuleShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of what pays a commitment; without a name it is known by the commitment's."""

    commitment: Name
    match: Annotated[dict[Name, Accepted], msgspec.Meta(min_length=1, max_length=8)]
    name: Name | None = None
    valid_from: Name | None = None
    valid_to: Name | None = None


class AcceptanceShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of an acceptance; without a name it is known by its place."""

    provider: Accepted
    treat: Literal["scale"]
    reason: Reason
    by: Name
    name: Name | None = None
    model: Accepted | None = None
    account: Accepted | None = None
    month: Name | None = None


class UnbilledShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of providers that never send a bill."""

    provider: Accepted
    reason: Reason | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    tolerance: Name = USUAL_TOLERANCE
    pool: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    commitment: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    acceptance: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    unbilled: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []


ShapeT = TypeVar("ShapeT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class AllocationRulesDraft:
    """Rules as written, in their order; ``content`` is the wire form of all of them."""

    rules: AllocationRules = field(default_factory=AllocationRules)
    content: Mapping[str, Any] = field(default_factory=lambda: dict(NO_CONTENT))

    @property
    def metrics(self) -> list[str]:
        """Give the names of the outcomes that pools are shared by."""
        return sorted({rule.metric for rule in self.rules.pools if rule.metric is not None})


def parse_allocation_toml(text: str, *, file_name: str) -> AllocationRulesDraft:
    """Give the rules of a TOML file; raises InvalidInput naming file, rule and what is wrong."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    return parse_allocation_rules(document, where=file_name)


def parse_allocation_rules(
    document: Mapping[str, Any], *, where: str = "allocation rules"
) -> AllocationRulesDraft:
    """Give the rules of a decoded document; raises InvalidInput naming rule and what is wrong."""
    # Entries are looked at one by one, so that what is wrong is told with its rule's name.
    shape = _convert(document, _Document, where, "document")
    pools = _entries(shape.pool, PoolShape, "pool", where)
    commitments = _entries(shape.commitment, CommitmentRuleShape, "commitment", where)
    acceptances = _entries(shape.acceptance, AcceptanceShape, "acceptance", where)
    unbilled = _entries(shape.unbilled, UnbilledShape, "unbilled", where)
    for commitment, _ in commitments:
        commitment.name = commitment.name or commitment.commitment
    for number, (acceptance, _) in enumerate(acceptances, start=1):
        acceptance.name = acceptance.name or f"acceptance {number}"
    _require_distinct([entry.name for entry, _ in pools], f"{where}: pool")
    _require_distinct([str(entry.name) for entry, _ in commitments], f"{where}: commitment")
    _require_distinct([str(entry.name) for entry, _ in acceptances], f"{where}: acceptance")
    basis_points = _basis_points(shape.tolerance, where)
    rules = AllocationRules(
        tolerance_basis_points=basis_points,
        pools=tuple(_pool_of(entry, at) for entry, at in pools),
        acceptances=tuple(_acceptance_of(entry, at) for entry, at in acceptances),
        unbilled=tuple(_condition("provider", entry.provider) for entry, _ in unbilled),
        commitments=tuple(_commitment_of(entry, at) for entry, at in commitments),
    )
    content = {
        "tolerance": f"{format_percent(basis_points * WHOLE // BASIS_POINTS)}%",
        "pool": [msgspec.to_builtins(entry) for entry, _ in pools],
        "commitment": [msgspec.to_builtins(entry) for entry, _ in commitments],
        "acceptance": [msgspec.to_builtins(entry) for entry, _ in acceptances],
        "unbilled": [msgspec.to_builtins(entry) for entry, _ in unbilled],
    }
    return AllocationRulesDraft(rules, content)


def format_percent(nanos: int) -> str:
    """Give a share in nanos of a percent without trailing zeros: ``37.5``."""
    return format_nanos(nanos).rstrip("0").removesuffix(".")


def _convert(entry: object, shape: type[ShapeT], where: str, kind: str) -> ShapeT:
    try:
        return msgspec.convert(entry, shape)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, kind)}") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{where}: {NO_TEXT}") from None


def _shape(entry: object, shape: type[ShapeT], where: str, kind: str) -> ShapeT:
    converted = _convert(entry, shape, where, kind)
    try:
        require_no_nul(converted)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", **error.facts) from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{where}: {NO_TEXT}") from None
    return converted


def _entries(
    entries: Sequence[object], shape: type[ShapeT], kind: str, where: str
) -> list[tuple[ShapeT, str]]:
    """Give each entry with the words that a message names it by: its place and its name."""
    found = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name") if isinstance(entry, dict) else None
        is_told = isinstance(name, str) and name.isprintable()
        at = f"{where}: {kind} {number}" + (f" ({name})" if is_told else "")
        found.append((_shape(entry, shape, at, kind), at))
    return found


def _require_distinct(names: Sequence[str], where: str) -> None:
    for number, name in enumerate(names, start=1):
        if name in names[: number - 1]:
            raise InvalidInput(f"{where} {number}: name {name!r} is used twice", field="name")


def _basis_points(text: str, where: str) -> int:
    fault = InvalidInput(
        f"{where}: tolerance {text!r} must be a percentage from 0% to 100% such as 2% or 0.25%",
        field="tolerance",
    )
    if not text.endswith("%"):
        raise fault
    try:
        nanos = parse_nanos(text.removesuffix("%").strip(), field="tolerance")
    except InvalidInput:
        raise fault from None
    basis_points, rest = divmod(nanos, WHOLE // BASIS_POINTS)
    if rest or not 0 <= basis_points <= BASIS_POINTS:
        raise fault
    return basis_points


def _pool_of(shape: PoolShape, where: str) -> PoolRule:
    if (shape.match is None) == (shape.bearer is None):
        raise InvalidInput(f"{where}: a pool needs either 'match' or 'bearer'", field="match")
    driver, metric = _driver_of(shape.driver, where)
    valid_from, valid_to = _bounds_of(shape, where)
    return PoolRule(
        name=shape.name,
        match=_line_conditions(shape.match or {}, CATEGORIES, where),
        bearer=None if shape.bearer is None else _bearer_conditions(shape.bearer, "bearer", where),
        driver=driver,
        metric=metric,
        by=_grain_of(shape.by, where),
        over=Scope(shape.over),
        among=_filters_of(shape.among, "among", where),
        exclude=_filters_of(shape.exclude, "exclude", where),
        shares=_shares_of(shape, driver, where),
        valid_from=valid_from,
        valid_to=valid_to,
    )


def _commitment_of(shape: CommitmentRuleShape, where: str) -> CommitmentRule:
    valid_from, valid_to = _bounds_of(shape, where)
    return CommitmentRule(
        name=shape.name or shape.commitment,
        commitment=shape.commitment,
        match=_line_conditions(shape.match, PAYING_CATEGORIES, where),
        valid_from=valid_from,
        valid_to=valid_to,
    )


def _bounds_of(shape: PoolShape | CommitmentRuleShape, where: str) -> tuple[int | None, int | None]:
    """Give the first month and the one after the last, None without a bound."""
    valid_from = _month(shape.valid_from, "valid_from", where)
    valid_to = _month(shape.valid_to, "valid_to", where)
    if valid_from is not None and valid_to is not None and valid_from >= valid_to:
        raise InvalidInput(f"{where}: valid_to must be after valid_from", field="valid_to")
    return valid_from, valid_to


def _driver_of(text: str, where: str) -> tuple[Driver, str | None]:
    metric = text.removeprefix(METRIC_PREFIX)
    if metric != text:
        if OUTCOME_NAME.match(metric) is None:
            raise InvalidInput(f"{where}: metric {metric!r} {NAME_RULE}", field="driver")
        return Driver.METRIC, metric
    named = [driver.value for driver in Driver if driver is not Driver.METRIC]
    if text not in named:
        raise InvalidInput(
            f"{where}: driver {text!r} is not known; there are {', '.join(named)} and "
            f"{METRIC_PREFIX}<outcome>",
            field="driver",
        )
    return Driver(text), None


def _grain_of(by: str | list[str], where: str) -> tuple[str, ...]:
    """Give the parts of a bearer in their order; the team is always one of them."""
    named = [by] if isinstance(by, str) else by
    _require_known(named, GRAINS, "by", where)
    return tuple(name for name in GRAINS if name == TEAM or name in named)


def _filters_of(
    filters: dict[str, Any] | list[dict[str, Any]] | None, name: str, where: str
) -> tuple[Conditions, ...]:
    listed = filters if isinstance(filters, list) else [] if filters is None else [filters]
    return tuple(_bearer_conditions(each, name, where) for each in listed)


def _shares_of(shape: PoolShape, driver: Driver, where: str) -> tuple[tuple[str, int], ...]:
    if driver is not Driver.FIXED:
        if shape.shares is not None:
            raise InvalidInput(f"{where}: 'shares' are for the driver fixed", field="shares")
        return ()
    if shape.shares is None:
        raise InvalidInput(f"{where}: the driver fixed needs 'shares'", field="shares")
    told = {"among": shape.among is None, "exclude": shape.exclude is None, "by": shape.by == TEAM}
    for name, is_usual in told.items():
        if not is_usual:
            raise InvalidInput(f"{where}: {name!r} is not for fixed shares of teams", field=name)
    shares = {team: _percent(value, team, where) for team, value in shape.shares.items()}
    if sum(shares.values()) != WHOLE:
        total = format_percent(sum(shares.values()))
        raise InvalidInput(f"{where}: shares must add up to 100, not {total}", field="shares")
    shape.shares = {team: format_percent(shares[team]) for team in sorted(shares)}
    return tuple(sorted(shares.items()))


def _percent(value: object, team: str, where: str) -> int:
    name = f"{where}: share of {team!r}"
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidInput(f"{name} must be a number", field="shares")
    nanos = parse_nanos(value, field=name)
    if nanos < 0:
        raise InvalidInput(f"{name} must not be negative", field="shares")
    return nanos


def _acceptance_of(shape: AcceptanceShape, where: str) -> Acceptance:
    named = {"provider": shape.provider, "model": shape.model, "account": shape.account}
    return Acceptance(
        name=shape.name or "",
        conditions=tuple(
            _condition(name, accepted) for name, accepted in named.items() if accepted is not None
        ),
        reason=shape.reason,
        by=shape.by,
        month=_month(shape.month, "month", where),
    )


def _line_conditions(
    match: Mapping[str, str | list[str]], categories: Sequence[str], where: str
) -> Conditions:
    _require_known(list(match), LINE_NAMES, "match", where)
    if "category" in match:
        _require_known(_texts(match["category"]), categories, "match.category", where)
    return tuple(
        _condition(name, [text.lower() for text in _texts(match[name])])
        if name == "description"
        else _condition(name, match[name])
        for name in sorted(match)
    )


def _bearer_conditions(filters: Mapping[str, str | list[str]], name: str, where: str) -> Conditions:
    _require_known(list(filters), BEARER_NAMES, name, where)
    return tuple(_condition(each, filters[each]) for each in sorted(filters))


def _condition(name: str, accepted: str | list[str]) -> Condition:
    texts = _texts(accepted)
    return Condition(
        name,
        frozenset(text for text in texts if GLOB_MARK not in text),
        tuple(text for text in texts if GLOB_MARK in text),
    )


def _require_known(given: Sequence[str], known: Sequence[str], name: str, where: str) -> None:
    unknown = [each for each in given if each not in known]
    if unknown:
        raise InvalidInput(
            f"{where}: {name}: {unknown[0]!r} is not known; there are {', '.join(known)}",
            field=name,
        )


def _texts(accepted: str | list[str]) -> list[str]:
    return [accepted] if isinstance(accepted, str) else accepted


def _month(text: str | None, name: str, where: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_month(text, field=name)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", **error.facts) from None
