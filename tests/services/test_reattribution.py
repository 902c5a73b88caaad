"""History follows the rules of today: shown first, then moved by pairs, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.builders import (
    CENT,
    cents,
    contents,
    hold_cents,
    make_budget,
    make_event,
    make_events,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.attribution_cases import (
    TO_SEARCH,
    approve,
    propose,
    reattribute,
    set_rules,
    set_teams,
    spent_by,
)
from tests.services.rerate_cases import BOOK, FIXED_BOOK, ledger_by, rerate
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.reattribution import OwnerKey, UsePeriod
from tokenbudget.domain.rerating import CostDelta, RerateState
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import AlertRow, ChargeRow, PeriodCloseRow

UNOWNED = {"tenant": "acme"}
TWO_CENTS = 2 * CENT


def test_a_dry_run_shows_who_gains_and_who_loses_and_charges_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(3, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)

    proposed = propose(database, clock)

    moved = CostDelta(3, 3 * TWO_CENTS, 3 * TWO_CENTS, 3 * TWO_CENTS)
    lost = CostDelta(-3, -3 * TWO_CENTS, -3 * TWO_CENTS, -3 * TWO_CENTS)
    assert (proposed.state, proposed.proposed) == (RerateState.PROPOSED, moved)
    assert proposed.deltas == {
        OwnerKey("search", None, "acme", 202611): moved,
        OwnerKey("unallocated", None, "acme", 202611): lost,
    }
    assert spent_by(database) == {"unallocated": 3 * TWO_CENTS}
    assert len(rows_of(database, ChargeRow)) == 3


def test_approving_moves_what_was_shown_by_pairs(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)

    applied = reattribute(database, clock)

    assert (applied.state, applied.applied) == (RerateState.APPLIED, applied.proposed)
    assert spent_by(database) == {"search": TWO_CENTS}
    first, back, again = rows_of(database, ChargeRow)
    assert [row["sequence"] for row in (first, back, again)] == [0, 2, 3]
    assert [row["effective_nanos"] for row in (back, again)] == [-TWO_CENTS, TWO_CENTS]
    assert (back["reverses_usage_id"], again["reverses_usage_id"]) == (first["usage_id"], None)
    assert {back["reattribution_id"], again["reattribution_id"]} == {applied.reattribution_id}
    assert (back["basis"], again["price_row_id"]) == (first["basis"], first["price_row_id"])


def test_a_second_apply_changes_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, *make_events(2, tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    applied = reattribute(database, clock)
    before = contents(database)

    assert approve(database, clock, applied) == applied
    assert contents(database) == before
    assert propose(database, clock).proposed == CostDelta()


def test_moving_there_and_back_again_ends_where_it_began(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    for rules in ([TO_SEARCH], [], [TO_SEARCH]):
        set_rules(database, clock, *rules)
        reattribute(database, clock)

    assert spent_by(database) == {"search": TWO_CENTS}


def test_what_the_call_was_recorded_with_stays(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    gateway = Caller("g", {"environment": "prod"}, is_gateway=True)
    record(ledger, make_event(tags={"team": "growth", **UNOWNED}))
    record(ledger, make_event(event_id="e2", tags={"team": "billing", **UNOWNED}), caller=gateway)
    pinned = Caller("p", {"team": "core"})
    record(ledger, make_event(event_id="e3", tags=UNOWNED), caller=pinned)
    set_rules(database, clock, TO_SEARCH)

    assert propose(database, clock).proposed == CostDelta()


def test_an_identity_learned_of_later_is_attributed_too(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(account="proj_1", tags={}))
    record(ledger, make_event(event_id="e2", tags={}), caller=Caller("k"))
    record(ledger, make_event(event_id="e3", tags={"service_account": "batch"}))
    mappings = [
        {"match": {"provider": "acme", "account": "proj_1"}, "tags": {"team": "a"}},
        {"match": {"api_key": "k"}, "tags": {"team": "b"}},
        {"match": {"service_account": "batch"}, "tags": {"team": "c"}},
    ]
    set_rules(database, clock, mappings=mappings)

    reattribute(database, clock)

    assert spent_by(database) == dict.fromkeys("abc", TWO_CENTS)


def test_a_feature_moved_in_the_registry_moves_from_its_day_on(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    tags = {"feature": "summarise"}
    set_teams(database, clock, "summarise", ("growth", None))
    record(ledger, make_event(tags=tags, occurred_at="2026-11-09T23:59:59Z"))
    record(ledger, make_event(event_id="e2", tags=tags, occurred_at="2026-11-10T00:00:00Z"))
    set_teams(database, clock, "summarise", ("search", datetime(2026, 11, 10, tzinfo=UTC)))

    reattribute(database, clock)

    assert spent_by(database) == {"growth": TWO_CENTS, "search": TWO_CENTS}


def test_a_dated_rule_moves_only_usage_of_its_time(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    for day in (9, 10, 11):
        at = f"2026-11-{day:02d}T12:00:00Z"
        record(ledger, make_event(event_id=f"e{day}", tags=UNOWNED, occurred_at=at))
    bounds = {"valid_from": "2026-11-10T12:00:00Z", "valid_to": "2026-11-11T12:00:00Z"}
    set_rules(database, clock, {**TO_SEARCH, **bounds})

    reattribute(database, clock)

    assert spent_by(database) == {"unallocated": 2 * TWO_CENTS, "search": TWO_CENTS}


def test_only_usage_of_the_period_moves(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    for hour in (10, 11, 12):
        at = f"2026-11-20T{hour}:00:00Z"
        record(ledger, make_event(event_id=f"e{hour}", tags=UNOWNED, occurred_at=at))
    set_rules(database, clock, TO_SEARCH)
    start, end = (datetime(2026, 11, 20, hour, tzinfo=UTC) for hour in (11, 12))

    reattribute(database, clock, UsePeriod(start, end))

    assert spent_by(database) == {"unallocated": 2 * TWO_CENTS, "search": TWO_CENTS}


def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)

    with pytest.raises(InvalidInput, match="end must be later than start"):
        UsePeriod(noon, noon)


def test_a_closed_period_is_corrected_in_the_open_one(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED, occurred_at="2026-10-31T12:00:00Z"))
    with database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [{"closed_before": 202611, "recorded_at": clock()}])
    set_rules(database, clock, TO_SEARCH)

    applied = reattribute(database, clock)

    assert {key.accounting_period for key in applied.deltas} == {202611}
    assert [row["accounting_period"] for row in rows_of(database, ChargeRow)] == [
        202610,
        202611,
        202611,
    ]
    assert spent_by(database) == {"search": TWO_CENTS}


def test_budgets_of_every_unit_follow(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    units = {"money": "5.00", "tokens": "100000", "requests": "10"}
    drafts = [
        make_budget(id=f"{team}-{unit}", limit=limit, unit=unit, selector={"team": team})
        for unit, limit in units.items()
        for team in ("search", "unallocated")
    ]
    set_budgets(database, *drafts, make_budget(id="split", split_by=["team"]), now=clock())
    record(ledger, make_event(tags=UNOWNED), make_event(event_id="e2", tags={"team": "search"}))
    set_rules(database, clock, TO_SEARCH)

    reattribute(database, clock)

    settled = {key: amounts[0] for key, amounts in standings(database, now=clock()).items()}
    assert settled == {
        ("search-money",): 2 * TWO_CENTS,
        ("search-tokens",): 30_000,
        ("search-requests",): 2,
        ("unallocated-money",): 0,
        ("unallocated-tokens",): 0,
        ("unallocated-requests",): 0,
        ("split", "search"): 2 * TWO_CENTS,
        ("split", "unallocated"): 0,
    }
    assert spent_by(database) == {"search": 2 * TWO_CENTS}


def test_a_budget_that_a_move_fills_raises_its_alert(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    draft = make_budget(id="search", limit="0.02", selector={"team": "search"}, thresholds=["1"])
    set_budgets(database, draft, now=clock())
    record(ledger, make_event(tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)

    reattribute(database, clock)

    assert [row["budget_id"] for row in rows_of(database, AlertRow)] == ["search"]


def test_unpriced_usage_and_free_answers_move_like_any_other(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(
        ledger,
        make_event(tags=UNOWNED, model="unknown"),
        make_event(event_id="e2", tags=UNOWNED, cache_hit=True),
        make_event(event_id="e3", tags=UNOWNED, usage={"input_tokens": 1, "requests": 7}),
    )
    set_budgets(
        database,
        make_budget(id="r", unit="requests", limit="99", selector={"team": "search"}),
        now=clock(),
    )
    set_rules(database, clock, TO_SEARCH)

    applied = reattribute(database, clock)

    assert applied.applied.usages == 3
    assert standings(database, now=clock())["r",] == (9, 0)
    assert spent_by(database) == {"search": 1_000}


def test_a_revision_after_a_move_takes_back_what_stands(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    set_rules(database, clock, TO_SEARCH)
    reattribute(database, clock)

    record(ledger, make_event(tags=UNOWNED, usage=cents(5), revision=1))

    assert spent_by(database) == {"search": 5 * CENT}
    assert propose(database, clock).proposed == CostDelta()


def test_usage_that_was_revised_moves_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(tags=UNOWNED))
    record(ledger, make_event(tags=UNOWNED, usage=cents(5), revision=1))
    set_rules(database, clock, TO_SEARCH)

    assert reattribute(database, clock).applied.usages == 1
    assert spent_by(database) == {"search": 5 * CENT}


@pytest.mark.parametrize(("selector", "kept"), [({}, True), ({"team": "unallocated"}, False)])
def test_what_settled_in_the_window_of_its_hold_stays_only_where_it_still_belongs(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    selector: dict[str, str],
    kept: bool,
) -> None:
    set_budgets(database, make_budget(window="day", selector=selector), now=clock())
    hold_id = hold_cents(ledger, 2, tags=UNOWNED)
    at_hold = clock()
    clock.advance(hours=13)
    record(ledger, make_event(tags=UNOWNED, occurred_at=clock().isoformat(), hold_id=hold_id))
    assert standings(database, now=at_hold)["all",] == (TWO_CENTS, 0)
    set_rules(database, clock, TO_SEARCH)

    reattribute(database, clock)

    assert standings(database, now=at_hold)["all",] == (TWO_CENTS if kept else 0, 0)
    assert standings(database, now=clock()).get(("all",), (0, 0)) == (0, 0)
    assert spent_by(database) == {"search": TWO_CENTS}


def test_tags_of_any_name_follow(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    record(ledger, make_event(tags={"team": "growth"}))
    rule = {"name": "r", "when": {"team": "growth"}, "set": {"experiment": "b"}}
    set_rules(database, clock, rule)

    applied = reattribute(database, clock)

    assert (applied.applied.usages, applied.deltas) == (1, {})
    assert spent_by(database, "team") == {"growth": TWO_CENTS}


def test_of_several_witnesses_only_what_counts_moves(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    gateway = Caller("g", is_gateway=True)
    record(ledger, make_event(tags=UNOWNED, response_id="resp_1"))
    record(ledger, make_event(event_id="g1", source="gateway", tags={}, response_id="resp_1"))
    set_rules(database, clock, TO_SEARCH)

    applied = reattribute(database, clock)
    record(
        ledger,
        make_event(event_id="g2", source="proxy", tags={}, response_id="resp_1"),
        caller=gateway,
    )

    assert applied.applied.usages == 1
    assert spent_by(database) == {"search": TWO_CENTS}


def test_usage_that_moved_is_rated_again_where_it_counts_now(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    wrong = ledger_by(services, BOOK)
    set_budgets(database, make_budget(window="day", selector={"team": "unallocated"}), now=clock())
    hold_id = hold_cents(wrong, 2, tags=UNOWNED)
    clock.advance(hours=13)
    record(wrong, make_event(tags=UNOWNED, occurred_at=clock().isoformat(), hold_id=hold_id))
    set_rules(database, clock, TO_SEARCH)
    reattribute(database, clock)

    rerate(database, FIXED_BOOK, clock)

    assert spent_by(database) == {"search": 25_000_000}
