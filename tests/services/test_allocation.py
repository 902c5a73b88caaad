"""Dividing the invoices of a stored month by the rules in force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.allocation_ledger import DOLLAR, FIRST, NOW, bill, fill, line, use
from tests.rollup_builders import make_dimensions
from tokenbudget.bootstrap import Services
from tokenbudget.domain.documents import EntryChange
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.statements import MonthAllocation
from tokenbudget.formats.allocation_rules import parse_allocation_rules
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.allocation import allocate_month, preview_allocation
from tokenbudget.services.allocation_rules import (
    apply_allocation_rules,
    get_allocation_rules,
    list_versions,
)
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.tag_rules import apply_tag_rules
from tokenbudget.store.ledger import digest_of, intern_dimension_sets
from tokenbudget.store.outcomes import add_outcome_rollups

SEPTEMBER = 202609
EVEN_TAX = {"name": "tax", "match": {"category": "tax"}, "driver": "even"}


def apply(services: Services, **document: Any) -> int:
    """Put allocation rules in force and give their version."""
    draft = parse_allocation_rules(document)
    return apply_allocation_rules(services.database, draft, now=NOW).version


def divide(services: Services, month: int = SEPTEMBER) -> MonthAllocation:
    """Give the month divided by the rules in force."""
    with services.database.reading() as session:
        return allocate_month(session, month=month, currency="USD", price_list=services.price_list)


def shares(divided: MonthAllocation, origin: str) -> dict[str, int]:
    """Give the nanos that each team bears of an origin."""
    return {
        cost.bearer.team: cost.amount_nanos
        for cost in divided.costs
        if cost.origin.value == origin and cost.amount_nanos
    }


def test_a_month_is_divided_from_rollups_and_lines(services: Services) -> None:
    fill(services.database)

    divided = divide(services)

    assert (divided.rules_version, divided.refusals) == (0, ())
    assert shares(divided, "usage") == {"growth": 30 * DOLLAR, "search": 10 * DOLLAR}
    # 4 by 30 : 10.
    assert shares(divided, "tax") == {"growth": 3 * DOLLAR, "search": 1 * DOLLAR}
    assert sum(each.amount_nanos for each in divided.invoices) == 44 * DOLLAR


def test_a_month_of_nothing_is_divided_into_nothing(services: Services) -> None:
    divided = divide(services, 202601)

    assert (divided.costs, divided.invoices, divided.refusals) == ((), (), ())


def test_the_rules_in_force_divide(services: Services) -> None:
    fill(services.database)
    version = apply(services, pool=[EVEN_TAX])

    divided = divide(services)

    assert (divided.rules_version, version) == (1, 1)
    assert shares(divided, "tax") == {"growth": 2 * DOLLAR, "search": 2 * DOLLAR}


def test_the_tolerance_is_the_rules(services: Services) -> None:
    # 0.40 is 1 % of 40: within 2 %, above 0.5 %.
    use(services.database, 40, "growth")
    bill(services.database, line("40.40"))

    spread = divide(services)
    apply(services, tolerance="0.5%")
    strict = divide(services)

    assert shares(spread, "usage") == {"growth": 40_400_000_000}
    assert shares(strict, "usage") == {"growth": 40 * DOLLAR}
    assert shares(strict, "untracked") == {"Untracked": 400_000_000}


@pytest.mark.parametrize(
    "rules",
    [
        {"mapping": [{"match": {"account": "proj_x"}, "tags": {"team": "search"}}]},
        {
            "rule": [
                {
                    "name": "x",
                    "when": {"provider": "openai", "account": "proj_*"},
                    "set": {"team": "search"},
                }
            ]
        },
    ],
)
def test_an_untracked_project_is_resolved_like_a_call(
    services: Services, rules: dict[str, Any]
) -> None:
    fill(services.database, line("7", project="proj_x", model="gpt-4.1"))
    apply_tag_rules(services.database, parse_tag_rules(rules), now=NOW)

    assert shares(divide(services), "untracked") == {"search": 7 * DOLLAR}


def test_the_finest_name_that_has_a_team_decides(services: Services) -> None:
    fill(services.database, line("7", project="proj_x", api_key="key_y", model="gpt-4.1"))
    mappings = [
        {"match": {"account": "org"}, "tags": {"team": "growth"}},
        {"match": {"account": "proj_x"}, "tags": {"team": "search", "feature": "find"}},
    ]
    apply_tag_rules(services.database, parse_tag_rules({"mapping": mappings}), now=NOW)

    [cost] = [cost for cost in divide(services).costs if cost.origin.value == "untracked"]

    assert (cost.bearer.team, cost.bearer.feature) == ("search", "find")


def test_a_mapping_holds_for_the_days_it_names(services: Services) -> None:
    fill(services.database, line("7", project="proj_x", model="gpt-4.1"))
    mapping = {
        "match": {"account": "proj_x"},
        "tags": {"team": "search"},
        "valid_from": "2026-09-02",
    }
    apply_tag_rules(services.database, parse_tag_rules({"mapping": [mapping]}), now=NOW)

    assert shares(divide(services), "untracked") == {"Untracked": 7 * DOLLAR}


def test_cost_centres_are_those_of_the_months_end(services: Services) -> None:
    fill(services.database)
    moved = datetime(2026, 9, 20, tzinfo=UTC)
    entries = [
        OwnerEntry(OwnerKind.TEAM, "growth", OwnerFacts(cost_center="CC-1")),
        OwnerEntry(OwnerKind.TEAM, "search", OwnerFacts(cost_center="CC-2"), moved),
    ]
    apply_owners(services.database, entries, now=NOW)
    apply(services, pool=[{**EVEN_TAX, "among": {"cost_center": "CC-2"}}])

    assert shares(divide(services), "tax") == {"search": 4 * DOLLAR}


def test_a_pool_is_shared_by_imported_outcomes(services: Services) -> None:
    # 4 by 3 : 1, and what was solved in October has no part.
    fill(services.database)
    tell(services, "growth", 3, FIRST)
    tell(services, "search", 1, FIRST)
    tell(services, "search", 9, datetime(2026, 10, 1, tzinfo=UTC))
    apply(services, pool=[{**EVEN_TAX, "driver": "metric:solved"}])

    assert shares(divide(services), "tax") == {"growth": 3 * DOLLAR, "search": 1 * DOLLAR}


def tell(services: Services, team: str, count: int, at: datetime) -> None:
    """Count outcomes of a team on a day."""
    dimensions = make_dimensions(team=team)
    with services.database.transaction() as session:
        set_ids = intern_dimension_sets(session, [dimensions])
        row = {
            "grain_seconds": 86_400,
            "name": "solved",
            "starts_at": at,
            "dimension_set_id": set_ids[digest_of(dimensions)],
            "outcomes": count,
            "value_nanos": count * DOLLAR,
        }
        add_outcome_rollups(session, [row])


def test_what_cannot_be_converted_is_refused(services: Services) -> None:
    fill(services.database, line("7.5", currency="XAU", model="gpt-4.1"))

    divided = divide(services)

    assert [(each.code, each.detail) for each in divided.refusals] == [
        (
            "unconverted",
            "7.500000000 XAU invoiced in 2026-09 cannot be converted: there is no quote of that "
            "day",
        )
    ]


def test_over_counting_is_refused_until_somebody_accepts_it(services: Services) -> None:
    use(services.database, 30, "growth")
    bill(services.database, line("15"))

    refused = divide(services)
    apply(
        services,
        acceptance=[{"provider": "openai", "treat": "scale", "reason": "retries", "by": "ana"}],
    )
    accepted = divide(services)

    assert [each.code for each in refused.refusals] == ["over_counted"]
    assert accepted.refusals == ()
    assert [cost.rule for cost in accepted.costs] == ["acceptance 1"]
    assert shares(accepted, "usage") == {"growth": 15 * DOLLAR}


def test_a_preview_divides_by_a_draft_and_keeps_nothing(services: Services) -> None:
    fill(services.database)
    draft = parse_allocation_rules({"pool": [EVEN_TAX]})
    facts: dict[str, Any] = {
        "month": SEPTEMBER,
        "currency": "USD",
        "price_list": services.price_list,
    }

    drafted = preview_allocation(services.database, **facts, draft=draft)
    present = preview_allocation(services.database, **facts)

    assert shares(drafted, "tax") == {"growth": 2 * DOLLAR, "search": 2 * DOLLAR}
    assert shares(present, "tax") == {"growth": 3 * DOLLAR, "search": 1 * DOLLAR}
    assert get_allocation_rules(services.database).version == 0


def test_every_other_rule_makes_a_version_that_says_what_changed(services: Services) -> None:
    first = parse_allocation_rules(
        {"pool": [EVEN_TAX], "unbilled": [{"provider": ["vllm", "sglang"]}]}
    )
    second = parse_allocation_rules({"tolerance": "1%", "pool": [{**EVEN_TAX, "driver": "tokens"}]})

    added = apply_allocation_rules(services.database, first, now=NOW, by="key")
    again = apply_allocation_rules(services.database, first, now=NOW)
    changed = apply_allocation_rules(services.database, second, now=NOW)

    assert added.changes == (
        EntryChange("pool", "tax", "added"),
        EntryChange("unbilled", "vllm, sglang", "added"),
    )
    assert (again.version, again.is_changed) == (1, False)
    assert changed.changes == (
        EntryChange("tolerance", "1%", "changed"),
        EntryChange("pool", "tax", "changed"),
        EntryChange("unbilled", "vllm, sglang", "removed"),
    )
    versions = list_versions(services.database, limit=5)
    assert [(each.version, each.recorded_by) for each in versions] == [(2, None), (1, "key")]


def test_a_dry_run_writes_no_version(services: Services) -> None:
    draft = parse_allocation_rules({"pool": [EVEN_TAX]})

    shown = apply_allocation_rules(services.database, draft, now=NOW, dry_run=True)

    assert (shown.version, shown.is_changed) == (1, True)
    assert get_allocation_rules(services.database).version == 0
