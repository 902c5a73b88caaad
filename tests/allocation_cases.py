"""What tests of dividing invoices share: small months of September 2026, by hand and at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tokenbudget.domain.allocation_plans import AllocationTerms, BilledMonth, Whereabouts
from tokenbudget.domain.allocation_rules import (
    Acceptance,
    AllocationRules,
    CommitmentRule,
    Conditions,
    Driver,
    PoolRule,
    Scope,
    commitment_finder,
)
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.commitments import UNUSED
from tokenbudget.domain.invoice_allocation import allocate_invoices
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import (
    Comparison,
    MatchLevel,
    MeteredCost,
    ReconciliationRow,
    Verdict,
    compare,
)
from tokenbudget.domain.statements import AllocatedCost, Bearer, MonthAllocation
from tokenbudget.domain.tag_rules import Condition

MONTH = 202609
START = datetime(2026, 9, 1, tzinfo=UTC)
SEPTEMBER = Period(START, datetime(2026, 10, 1, tzinfo=UTC))
DOLLAR = 10**9
CENT = 10**7
COST_CENTERS = {"a": "CC-1", "b": "CC-2"}


def day(number: int = 1) -> Period:
    """Give a UTC day of September 2026."""
    return Period(START + timedelta(days=number - 1), START + timedelta(days=number))


def make_metered(dollars: str = "1", team: str = "a", **overrides: Any) -> MeteredCost:
    """Give a cost of a dollar that team a caused with one request of ten tokens."""
    facts = {
        "provider": "openai",
        "model": "m1",
        "period": day(),
        "effective_nanos": int(Decimal(dollars) * DOLLAR),
        "bearer": Bearer(team, overrides.pop("feature", None), overrides.pop("tenant", None)),
        "requests": 1,
        "tokens": 10,
        **overrides,
    }
    return MeteredCost(**facts)


def make_line(dollars: str = "1", **overrides: Any) -> BilledCost:
    """Give a usage line of a dollar for the same model and day, of the account org."""
    facts = {
        "provider": "openai",
        "period": day(),
        "category": ChargeCategory.USAGE,
        "amount": Decimal(dollars),
        "currency": "USD",
        "billing_month": MONTH,
        "account": "org",
        "model": "m1",
        **overrides,
    }
    if facts["category"] is not ChargeCategory.USAGE:
        facts["model"] = None
    return BilledCost(**facts)


def make_month(
    metered: Sequence[MeteredCost],
    lines: Sequence[BilledCost],
    *,
    currency: str = "USD",
    tolerance_basis_points: int = 200,
) -> BilledMonth:
    """Give the month in which these were metered and invoiced; "PTU…" pays the commitment ptu."""
    comparison = Comparison(
        SEPTEMBER,
        currency,
        tolerance_basis_points=tolerance_basis_points,
        commitment_of=commitment_finder(PAYING, MONTH),
    )
    compared = compare(metered, lines, comparison)
    return BilledMonth(
        month=MONTH,
        currency=currency,
        metered=metered,
        lines=lines,
        rows=compared.rows,
        metered_rows=compared.metered_rows,
        line_rows=compared.line_rows,
    )


def make_terms(*pools: PoolRule, **overrides: Any) -> AllocationTerms:
    """Give terms of these pools under which project p2 is team b's."""
    outcomes = overrides.pop("outcomes", {})
    return AllocationTerms(
        rules=AllocationRules(pools=pools, **{"commitments": PAYING, **overrides}),
        version=1,
        owner_of=owner_of,
        cost_center_of=COST_CENTERS.get,
        outcomes=outcomes,
    )


def owner_of(where: Whereabouts) -> Bearer | None:
    """Give team b for project p2."""
    return Bearer("b") if "p2" in where.refs else None


def equal(**values: str) -> Conditions:
    """Give conditions on exact values."""
    return tuple(Condition(name, frozenset([value])) for name, value in values.items())


def told(allocation: MonthAllocation) -> list[tuple[str, str, str, str]]:
    """Give (team, origin, method, dollars) of every cost, in the order of costs."""
    return [
        (cost.bearer.team, cost.origin.value, cost.method.value, dollars_of(cost.amount_nanos))
        for cost in allocation.costs
    ]


def dollars_of(nanos: int) -> str:
    """Give whole cents as text; anything finer is an error."""
    cents, rest = divmod(abs(nanos), CENT)
    assert rest == 0
    return f"{'-' * (nanos < 0)}{cents // 100}.{cents % 100:02d}"


def total(costs: Iterable[AllocatedCost]) -> int:
    """Give what costs add up to."""
    return sum(cost.amount_nanos for cost in costs)


PAYING = (CommitmentRule("hours", "ptu", (Condition("description", globs=("ptu*",)),)),)
TWO_TEAMS = (
    make_metered("30", "a", requests=10, tokens=100),
    make_metered("10", "b", requests=30, tokens=100),
)
THEIR_LINE = make_line("40")
TAX = make_line("4", category=ChargeCategory.TAX, description="VAT 10 %")
ACCEPTED = Acceptance("clock", equal(provider="openai"), "their meter was off", "ana")


def divide(
    metered: Any = TWO_TEAMS, lines: Any = (THEIR_LINE, TAX), *pools: PoolRule, **rules: Any
) -> MonthAllocation:
    """Give the month divided by the rules."""
    return allocate_invoices(make_month(metered, lines), make_terms(*pools, **rules))


def taxed(allocation: MonthAllocation) -> dict[str, str]:
    """Give what each team bears of what is shared."""
    return {
        cost.bearer.team: dollars_of(cost.amount_nanos)
        for cost in allocation.costs
        if cost.origin.value in ("tax", "credit", "purchase", "adjustment", "unused")
        and cost.amount_nanos
    }


def row_of(metered: str | None, invoiced: str, verdict: Verdict) -> ReconciliationRow:
    """Give a compared row of the first day."""
    sides = (None if metered is None else Decimal(metered)), Decimal(invoiced)
    return ReconciliationRow(
        provider="openai",
        period=day(),
        model="m1",
        description=None,
        account=None,
        level=MatchLevel.MODEL_DAY,
        metered=sides[0],
        invoiced=sides[1],
        variance=sides[1] - (sides[0] or 0),
        verdict=verdict,
        unpriced_requests=0,
    )


def divide_row(
    metered: list[MeteredCost], lines: list[BilledCost], row: ReconciliationRow
) -> MonthAllocation:
    """Give one row divided, whatever a comparison would make of it."""
    month = replace(
        make_month(metered, lines),
        rows=[row],
        metered_rows=[0] * len(metered),
        line_rows=[0] * len(lines),
    )
    return allocate_invoices(month, make_terms())


TEAMS = ("a", "b", "c", "unallocated")
BEARERS = st.builds(
    Bearer,
    st.sampled_from(TEAMS),
    st.sampled_from([None, "f", "g"]),
    st.sampled_from([None, "t"]),
)
AMOUNTS = st.one_of(
    st.integers(0, 10**10), st.sampled_from([0, 1, DOLLAR, 2 * DOLLAR, 99 * CENT, 10**15])
)
METERED = st.lists(
    st.builds(
        MeteredCost,
        provider=st.sampled_from(["openai", "anthropic", "vllm"]),
        model=st.sampled_from(["m1", "m2", UNUSED]),
        period=st.integers(1, 2).map(day),
        effective_nanos=AMOUNTS,
        unpriced_requests=st.integers(0, 1),
        account=st.sampled_from([None, "p1", "p2", "k1"]),
        bearer=BEARERS,
        requests=st.integers(0, 5),
        tokens=st.integers(0, 1000),
        commitment=st.sampled_from([None, None, "ptu", "gpu"]),
    ),
    max_size=12,
)


def _line_of(**facts: Any) -> BilledCost:
    return BilledCost(currency="USD", billing_month=MONTH, **facts)


LINES = st.lists(
    st.builds(
        _line_of,
        provider=st.sampled_from(["openai", "anthropic"]),
        period=st.one_of(st.integers(1, 2).map(day), st.just(SEPTEMBER)),
        category=st.sampled_from([*ChargeCategory, ChargeCategory.USAGE, ChargeCategory.USAGE]),
        amount=st.one_of(
            AMOUNTS.map(lambda nanos: Decimal(nanos).scaleb(-9)),
            st.decimals(-20, 20, places=12),
        ),
        account=st.sampled_from(["", "org", "other"]),
        project=st.sampled_from([None, "p1", "p2"]),
        api_key=st.sampled_from([None, "k1"]),
        model=st.sampled_from([None, "m1", "m2"]),
        description=st.sampled_from([None, "Support fee", "VAT", "PTU hours"]),
    ),
    max_size=12,
)
FACTORS = ("1", "1.01", "0.99", "1.5", "0.5")


@st.composite
def months(draw: st.DrawFn) -> tuple[list[MeteredCost], list[BilledCost]]:
    """Give what was metered, and lines of which many are for what was."""
    metered, lines = draw(METERED), draw(LINES)
    billed = draw(st.lists(st.sampled_from(metered), unique_by=id)) if metered else []
    for cost in billed:
        nanos = cost.effective_nanos * Decimal(draw(st.sampled_from(FACTORS)))
        line = _line_of(
            provider=cost.provider,
            period=cost.period,
            category=ChargeCategory.USAGE,
            amount=nanos.scaleb(-9),
            account=draw(st.sampled_from(["org", "other"])),
            project=cost.account,
            model=cost.model,
        )
        lines.append(line)
    return metered, lines


MONTHS = months()
GLOBS = st.sampled_from([(), equal(team="a"), equal(feature="f"), equal(cost_center="CC-2")])


def _pool_of(
    match: Conditions, bearer: Conditions | None, driver: Driver, **facts: Any
) -> PoolRule:
    return PoolRule(
        name="",
        match=match,
        bearer=bearer,
        driver=driver,
        metric="solved" if driver is Driver.METRIC else None,
        shares=(("a", 75), ("z", 25)) if driver is Driver.FIXED else (),
        **facts,
    )


POOLS = st.builds(
    _pool_of,
    match=st.sampled_from(
        [
            (),
            equal(category="tax"),
            equal(category="unused"),
            equal(provider="openai"),
            (Condition("description", globs=("*fee",)),),
        ]
    ),
    bearer=st.sampled_from([None, None, equal(team="unallocated"), equal(team="Untracked")]),
    driver=st.sampled_from(Driver),
    by=st.sampled_from([("team",), ("team", "feature"), ("team", "feature", "tenant")]),
    over=st.sampled_from(Scope),
    among=GLOBS.map(lambda each: (each,) if each else ()),
    exclude=GLOBS.map(lambda each: (each,) if each else ()),
)


def _rules_of(pools: Sequence[PoolRule], is_accepted: bool, is_unbilled: bool) -> AllocationRules:
    numbered = [
        PoolRule(**{name: getattr(rule, name) for name in rule.__slots__} | {"name": f"r{number}"})
        for number, rule in enumerate(pools)
    ]
    return AllocationRules(
        pools=tuple(numbered),
        acceptances=(Acceptance("known", (), "known", "ana"),) if is_accepted else (),
        unbilled=equal(provider="vllm") if is_unbilled else (),
    )


RULES = st.builds(_rules_of, st.lists(POOLS, max_size=4), st.booleans(), st.booleans())
OUTCOMES = st.dictionaries(BEARERS, st.integers(-5, 50), max_size=4)


def terms_of(rules: AllocationRules, outcomes: dict[Bearer, int]) -> AllocationTerms:
    """Give the terms of random rules."""
    return AllocationTerms(rules, 1, owner_of, COST_CENTERS.get, {"solved": outcomes})
