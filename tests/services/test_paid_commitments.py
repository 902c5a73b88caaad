"""Commitments of agreements, paid by purchases on invoices: reconciled and closed, to the cent.

The commitment is one hour of 100.00 for the deployment ``prod``, with capacity for 15,000 tokens a
quarter-hour, which is one event of ours. The cloud invoices it; ``acme`` invoices other usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.builders import CENT, DOLLAR, PRICES, broken_rules, make_event, record
from tests.services.focus_cases import export_file
from tests.services.reconciliation_cases import make_line, store_bill
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.agreements import Agreements
from tokenbudget.domain.commitments import Commitment, Per
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import month_period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.statements import Statement
from tokenbudget.formats.allocation_rules import parse_allocation_rules
from tokenbudget.services.allocation import preview_allocation
from tokenbudget.services.allocation_rules import apply_allocation_rules
from tokenbudget.services.closing import AT_ONCE, close_month
from tokenbudget.services.commitments import list_days_due, share_days
from tokenbudget.services.reconciliation import MonthFacts, Reading, reconcile_month
from tokenbudget.services.statements import get_statement
from tokenbudget.services.stating import make_allocate

OCTOBER = 202610
TEN = datetime(2026, 10, 1, 10, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PTU = Commitment(
    id="ptu",
    provider="acme",
    covers={"deployment": ("prod",)},
    nanos_per_time=Fraction(100 * DOLLAR),
    per=Per.HOUR,
    valid_from=TEN,
    valid_to=TEN + timedelta(hours=1),
    tokens_per_minute=1_000,
)
RULE = {"commitment": "ptu", "match": {"category": "purchase", "description": "*Provisioned*"}}


def prices(commitment: Commitment = PTU) -> PriceList:
    """Give prices that know the commitment."""
    return PRICES.with_agreements(Agreements(commitments=(commitment,), version="agreed"))


def use(services: Services, *events: dict[str, Any], commitment: Commitment = PTU) -> None:
    """Record the events and share what the commitment cost."""
    ledger = make_ledger(replace(services, price_list=prices(commitment)))
    record(ledger, *events)
    days = list_days_due(ledger.database, [commitment], now=NOW)
    assert [each.fixed for each in share_days(days, ledger.apply)] == [100 * DOLLAR]


def event(minute: int, team: str = "growth", deployment: str = "prod", id: str = "") -> Any:
    """Give an event of two cents so many minutes past ten."""
    return make_event(
        event_id=id or f"{team} {minute}",
        occurred_at=(TEN + timedelta(minutes=minute)).isoformat(),
        tags={"team": team, "deployment": deployment},
    )


def usage_line(amount: str) -> dict[str, Any]:
    """Give what acme invoices for ``plain`` on the first."""
    start = TEN.replace(hour=0)
    return make_line(
        amount, start=start, provider="acme", account="a", model="plain", billing_month=OCTOBER
    )


def purchase(amount: str, **overrides: Any) -> dict[str, Any]:
    """Give what the cloud invoices for the commitment of October."""
    start = TEN.replace(hour=0)
    facts = {
        "row_number": 2,
        "provider": "cloud",
        "account": "sub",
        "model": None,
        "category": "purchase",
        "description": "Provisioned throughput",
        "billing_month": OCTOBER,
    }
    return make_line(amount, start=start, end=start + timedelta(days=31), **{**facts, **overrides})


def fill(services: Services, *lines: dict[str, Any]) -> None:
    """Let growth use half of the hour and search a quarter, and growth two cents without it."""
    use(
        services,
        event(7),
        event(20),
        event(35, "search"),
        event(40, deployment="test", id="uncovered"),
    )
    store_bill(services.database, usage_line("0.02"), *lines)


def apply(services: Services, *rules: dict[str, Any]) -> None:
    """Put these commitment rules in force."""
    draft = parse_allocation_rules({"commitment": list(rules)})
    apply_allocation_rules(services.database, draft, now=NOW)


def read(services: Services, **overrides: Any) -> MonthFacts:
    """Give October reconciled."""
    reading = Reading("USD", overrides.pop("price_list", prices()), **overrides)
    return reconcile_month(services.database, OCTOBER, reading)


def judged(facts: MonthFacts) -> list[tuple[str, str | None, str, str, str]]:
    """Give (provider, what, metered, invoiced, verdict) of every row."""
    return [
        (
            row.provider,
            row.model or row.description,
            "-" if row.metered is None else f"{row.metered:.2f}",
            "-" if row.invoiced is None else f"{row.invoiced:.2f}",
            row.verdict.value,
        )
        for row in facts.reconciliation.rows
    ]


def close(services: Services) -> Statement:
    """Close October at once and give its statement."""
    allocate = make_allocate(currency="USD", price_list=prices())
    closed = close_month(services.database, allocate, month=OCTOBER, now=NOW, grace=AT_ONCE)
    return get_statement(services.database, closed.statement.statement_id)


def stated(statement: Statement) -> Sequence[tuple[str, str, str, str, int]]:
    """Give (provider, team, origin, method, cents) of what is not zero."""
    return sorted(
        (
            line.key.provider,
            line.key.team,
            line.key.origin.value,
            line.key.method.value,
            line.amount_nanos // CENT,
        )
        for line in statement.lines
        if line.amount_nanos
    )


def test_a_purchase_is_stated_by_what_was_used_of_the_commitment(services: Services) -> None:
    # 101 for 100: 50.50 and 25.25 used, 25.25 not; of that 16.8333 and 8.4167 by use.
    fill(services, purchase("101.00"))
    apply(services, RULE)

    statement = close(services)

    assert stated(statement) == [
        ("acme", "growth", "usage", "direct", 2),
        ("cloud", "growth", "unused", "by_direct_cost", 1_683),
        ("cloud", "growth", "usage", "spread", 5_050),
        ("cloud", "search", "unused", "by_direct_cost", 842),
        ("cloud", "search", "usage", "spread", 2_525),
    ]
    assert statement.header.total_nanos == 10_102 * CENT
    assert broken_rules(services.database) == []


def test_covered_usage_is_stated_with_its_requests_where_it_is_paid(services: Services) -> None:
    fill(services, purchase("100.00"))
    apply(services, RULE)

    statement = close(services)

    requests = {
        (line.key.provider, line.key.team): line.requests
        for line in statement.lines
        if line.requests
    }
    assert requests == {("acme", "growth"): 1, ("cloud", "growth"): 2, ("cloud", "search"): 1}


def test_a_month_without_the_rule_is_refused_and_says_which_one_is_missing(
    services: Services,
) -> None:
    fill(services, purchase("100.00"))

    with pytest.raises(Conflict, match=r"commitment ptu: 100\.0+ USD .*no \[\[commitment\]\] rule"):
        close(services)


def test_reconciling_pays_commitments_by_the_rules_in_force(services: Services) -> None:
    fill(services, purchase("120.00"))
    usage = ("acme", "plain", "0.02", "0.02", "matched")

    without = judged(read(services))
    apply(services, RULE)
    within = judged(read(services))

    assert sorted(without) == [
        ("acme", "commitment ptu", "100.00", "-", "missing_bill"),
        usage,
        ("cloud", "Provisioned throughput", "-", "120.00", "untracked"),
    ]
    assert sorted(within) == [("acme", "commitment ptu", "100.00", "120.00", "untracked"), usage]


def test_a_provider_is_read_with_what_another_one_invoices_for_its_commitments(
    services: Services,
) -> None:
    fill(services, purchase("100.00"), purchase("9.00", row_number=3, description="Storage"))
    apply(services, RULE)

    assert judged(read(services, provider="acme"))[1:] == [
        ("acme", "commitment ptu", "100.00", "100.00", "matched")
    ]
    assert [row[1] for row in judged(read(services, provider="cloud"))] == ["Storage"]


def test_a_preview_pays_commitments_by_its_own_rules(services: Services) -> None:
    fill(services, purchase("100.00"))
    apply(services, RULE)

    divided = preview_allocation(
        services.database,
        month=OCTOBER,
        currency="USD",
        price_list=prices(),
        draft=parse_allocation_rules({"commitment": [{**RULE, "valid_from": "2026-11"}]}),
    )

    assert [each.code for each in divided.refusals] == ["missing_bill"]


def test_what_spills_over_is_usage_that_is_invoiced_by_the_token(services: Services) -> None:
    # Two events in a quarter-hour with capacity for one: half of their four cents.
    spilling = replace(PTU, spills=True)
    use(services, event(7), event(8), commitment=spilling)
    store_bill(services.database, usage_line("0.02"), purchase("100.00"))
    apply(services, RULE)

    facts = read(services, price_list=prices(spilling))

    assert judged(facts) == [
        ("acme", "plain", "0.02", "0.02", "matched"),
        ("acme", "commitment ptu", "100.00", "100.00", "matched"),
    ]
    assert {
        (each.commitment, each.bearer.team, each.effective_nanos) for each in facts.metered
    } == {
        (None, "growth", 2 * CENT),
        ("ptu", "growth", 25 * DOLLAR),
        ("ptu", "unallocated", 75 * DOLLAR),
    }


def test_what_spills_beside_other_usage_adds_to_it(services: Services) -> None:
    spilling = replace(PTU, spills=True)
    tags = {"team": "growth", "deployment": "prod"}
    before = make_event(event_id="early", occurred_at=TEN.replace(hour=9).isoformat(), tags=tags)
    use(services, event(7), event(8), before, commitment=spilling)

    facts = read(services, price_list=prices(spilling))

    # Two cents at nine, before the commitment began, and the two that spilled.
    [plain] = [each for each in facts.metered if each.commitment is None]
    assert (plain.effective_nanos, plain.requests) == (4 * CENT, 1)
    assert facts.reconciliation.metered == Decimal("100.04")


def test_usage_of_other_providers_is_read_without_what_spilled(services: Services) -> None:
    spilling = replace(PTU, spills=True)
    other = {**event(7, id="other"), "provider": "reseller"}
    use(services, event(7), event(8), other, commitment=spilling)

    facts = read(services, price_list=prices(spilling), provider="reseller")

    assert [(each.provider, each.commitment, each.effective_nanos) for each in facts.metered] == [
        ("reseller", None, 4 * CENT)
    ]


@pytest.mark.parametrize("seller", ["acme", "cloud"])
def test_an_export_has_the_effective_cost_of_a_commitment_once(
    services: Services, tmp_path: Path, seller: str
) -> None:
    fill(services, purchase("100.00", provider=seller))
    apply(services, RULE)
    close(services)

    file = export_file(services.database, tmp_path / "focus.csv", period=month_period(OCTOBER))

    assert file.total("EffectiveCost") == Decimal("100.02")
    assert file.total("BilledCost") == Decimal("100.02")
