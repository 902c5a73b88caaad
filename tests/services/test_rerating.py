"""A wrong price is fixed after the fact: proposed, approved, applied once, and all agrees."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.builders import (
    CENT,
    DOLLAR,
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
from tests.price_builders import day, make_price, make_price_list
from tests.services.rerate_cases import (
    BOOK,
    CHANGED_BOOK,
    FIX,
    FIXED_BOOK,
    WRONG,
    book_of,
    ledger_by,
    rerate,
    rolled_up,
    spent_nanos,
)
from tokenbudget.bootstrap import Services
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.commitments import Commitment, Per
from tokenbudget.domain.rerating import (
    CostDelta,
    DeltaKey,
    Reason,
    RerateScope,
    RerateState,
)
from tokenbudget.services.rerating import (
    approve_rerate,
    propose_rerate,
)
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import AlertRow, ChargeRow, PeriodCloseRow

ALL_REASONS = RerateScope(frozenset(Reason))


def test_a_dry_run_shows_who_pays_more_and_charges_nothing(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, *make_events(3), make_event(event_id="other", tags={"team": "search"}))
    before = contents(database)

    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())

    # Ten thousand input tokens cost a cent and should have cost one and a half.
    assert proposed.deltas == {
        DeltaKey("growth", "summarise", "acme", 202611, Reason.FIXED): CostDelta(
            3, 15_000_000, 15_000_000, 15_000_000
        ),
        DeltaKey("search", None, None, 202611, Reason.FIXED): CostDelta(
            1, 5_000_000, 5_000_000, 5_000_000
        ),
    }
    assert proposed.proposed == CostDelta(4, 20_000_000, 20_000_000, 20_000_000)
    assert (proposed.state, proposed.applied) == (RerateState.PROPOSED, CostDelta())
    after = contents(database)
    assert {name for name in before if before[name] != after[name]} == {
        "price_lists",
        "rerates",
        "rerate_parts",
        "rerate_deltas",
    }


def test_approving_moves_the_total_by_just_the_difference_shown(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(3))
    proposed = propose_rerate(database, FIXED_BOOK, RerateScope(), now=clock())

    applied = approve_rerate(database, FIXED_BOOK, proposed.rerate_id, now=clock())

    assert (applied.state, applied.applied) == (RerateState.APPLIED, proposed.proposed)
    assert applied.stale == CostDelta()
    assert spent_nanos(database) == 3 * 2 * CENT + 15_000_000
    # All of it went from the first price row of the ledger to the second.
    assert rolled_up(database, "effective_nanos") == {2: 75_000_000}
    assert rolled_up(database, "requests") == {2: 3}
    assert rolled_up(database, "input_tokens") == {2: 30_000}


def test_each_usage_gets_a_pair_of_charges_under_one_rerate(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())

    applied = rerate(database, FIXED_BOOK, clock)

    shown = [
        (row["sequence"], row["effective_nanos"], row["reverses_usage_id"], row["rerate_id"])
        for row in rows_of(database, ChargeRow)
    ]
    usage_id = rows_of(database, ChargeRow)[0]["usage_id"]
    assert shown == [
        (0, 20_000_000, None, None),
        (2, -20_000_000, usage_id, applied.rerate_id),
        (3, 25_000_000, None, applied.rerate_id),
    ]


def test_a_second_dry_run_finds_nothing_left(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), *make_events(3))
    rerate(database, FIXED_BOOK, clock)

    second = rerate(database, FIXED_BOOK, clock, ALL_REASONS)

    assert (second.proposed, second.state) == (CostDelta(), RerateState.APPLIED)
    assert spent_nanos(database) == 3 * 25_000_000


def test_a_second_fix_takes_back_what_the_first_charged(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    rerate(database, FIXED_BOOK, clock)
    free = {"input_tokens": 0, "output_tokens": 2_000_000}
    again = make_price(free, model="plain", recorded_at=day("2026-11-20"))

    rerate(database, book_of(WRONG, FIX, again, version="again"), clock)

    assert spent_nanos(database) == CENT
    assert [row["sequence"] for row in rows_of(database, ChargeRow)] == [0, 2, 3, 4, 5]


def test_a_change_of_price_is_rated_again_only_when_it_is_asked_for(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(
        ledger,
        make_event(event_id="before", occurred_at="2026-11-09T23:59:59Z"),
        make_event(event_id="after", occurred_at="2026-11-10T00:00:00Z"),
    )

    usual = propose_rerate(database, CHANGED_BOOK, RerateScope(), now=clock())
    asked = propose_rerate(database, CHANGED_BOOK, ALL_REASONS, now=clock())

    assert usual.proposed == CostDelta()
    # Twice two cents, for the later usage alone.
    assert asked.deltas == {
        DeltaKey("growth", "summarise", "acme", 202611, Reason.CHANGED): CostDelta(
            1, 20_000_000, 20_000_000, 20_000_000
        )
    }


def test_usage_whose_row_stands_is_never_touched(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, make_event(event_id="plain"), make_event(event_id="dear", model="dear"))

    applied = rerate(database, FIXED_BOOK, clock, ALL_REASONS)

    assert applied.applied.usages == 1
    # Four cents of the dear model stay, the plain one is two and a half.
    assert spent_nanos(database) == 40_000_000 + 25_000_000


def test_a_fix_without_a_difference_still_names_the_right_row(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event(usage={"output_tokens": 5_000}))

    applied = rerate(database, FIXED_BOOK, clock)

    assert applied.applied == CostDelta(1, 0, 0, 0)
    assert rolled_up(database, "output_tokens") == {2: 5_000}
    assert spent_nanos(database) == CENT


def test_a_fixed_multiplier_reaches_what_it_multiplied(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    times = make_price({}, model="plain", times=(2, 1), tier=None, region="eu")
    fixed = make_price(
        {}, model="plain", times=(3, 1), tier=None, region="eu", recorded_at=day("2026-11-19")
    )
    ledger = ledger_by(services, book_of(WRONG, times, version="twice"))
    record(ledger, make_event(event_id="eu", region="eu"), make_event(event_id="us"))

    applied = rerate(database, book_of(WRONG, times, fixed, version="thrice"), clock)

    # Four cents should have been six; elsewhere nothing is multiplied.
    assert applied.applied == CostDelta(1, 20_000_000, 20_000_000, 20_000_000)
    assert spent_nanos(database) == 60_000_000 + 20_000_000


def test_unpriced_usage_that_has_a_price_now_is_charged_for_the_first_time(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, make_price_list(version="empty")), *make_events(2))

    applied = rerate(database, BOOK, clock)

    assert [key.reason for key in applied.deltas] == [Reason.UNPRICED]
    assert applied.applied == CostDelta(2, 40_000_000, 40_000_000, 40_000_000)
    assert spent_nanos(database) == 40_000_000
    assert rolled_up(database, "unpriced_requests") == {}


def test_nothing_becomes_unpriced(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    no_output = make_price({"input_tokens": 9}, model="plain", recorded_at=day("2026-11-19"))

    applied = rerate(database, book_of(WRONG, no_output, version="partial"), clock, ALL_REASONS)

    assert applied.applied == CostDelta()
    assert spent_nanos(database) == 2 * CENT


def test_an_estimate_stays_an_estimate(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    event = make_event(text="one two three four five")
    del event["usage"]
    record(ledger_by(services, BOOK), event)

    rerate(database, FIXED_BOOK, clock)

    assert {row["basis"] for row in rows_of(database, ChargeRow)} == {"estimated"}


def test_unpriced_estimates_become_estimates(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    event = make_event(text="one two three four five")
    del event["usage"]
    record(ledger_by(services, make_price_list(version="empty")), event)

    rerate(database, BOOK, clock)

    bases = [row["basis"] for row in rows_of(database, ChargeRow)]
    assert bases == ["unpriced", "unpriced", "estimated"]


def test_what_the_gateway_answered_itself_is_free_at_any_price(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event(cache_hit=True))

    applied = rerate(database, FIXED_BOOK, clock, ALL_REASONS)

    assert applied.applied == CostDelta()


@pytest.mark.parametrize(
    ("scope", "usages"),
    [
        (RerateScope(provider="acme"), 3),
        (RerateScope(provider="acme", model="plain"), 3),
        (RerateScope(provider="openai"), 0),
        (RerateScope(model="dear"), 0),
        (RerateScope(start=day("2026-11-19")), 2),
        (RerateScope(end=day("2026-11-19")), 1),
        (RerateScope(start=day("2026-11-18"), end=day("2026-11-20")), 2),
        (RerateScope(frozenset({Reason.UNPRICED})), 0),
    ],
)
def test_a_scope_narrows_what_is_looked_at(
    services: Services, database: Database, clock: FrozenClock, scope: RerateScope, usages: int
) -> None:
    record(
        ledger_by(services, BOOK),
        make_event(event_id="a", occurred_at="2026-11-18T12:00:00Z"),
        make_event(event_id="b", occurred_at="2026-11-19T00:00:00Z"),
        make_event(event_id="c", occurred_at="2026-11-20T00:00:00Z"),
        make_event(event_id="d", model="dear"),
    )

    assert propose_rerate(database, FIXED_BOOK, scope, now=clock()).proposed.usages == usages


def test_an_earlier_revision_is_left_alone(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, make_event())
    record(ledger, make_event(usage=cents(4), revision=1))

    applied = rerate(database, FIXED_BOOK, clock)

    # Forty thousand input tokens cost four cents and should have cost six.
    assert applied.applied == CostDelta(1, 20_000_000, 20_000_000, 20_000_000)
    assert spent_nanos(database) == 60_000_000


def test_a_revision_takes_back_what_the_rerate_charged(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    rerate(database, FIXED_BOOK, clock)

    record(ledger_by(services, FIXED_BOOK), make_event(usage=cents(4), revision=1))

    assert spent_nanos(database) == 60_000_000
    assert rolled_up(database, "input_tokens") == {2: 40_000}


def test_the_difference_of_a_closed_period_posts_to_the_open_one(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(
        ledger,
        make_event(event_id="september", occurred_at="2026-09-30T12:00:00Z"),
        make_event(event_id="october", occurred_at="2026-10-31T12:00:00Z"),
    )
    with database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [{"closed_before": 202610, "recorded_at": clock()}])

    applied = rerate(database, FIXED_BOOK, clock)

    assert [key.accounting_period for key in applied.deltas] == [202610]
    posted = [
        (row["accounting_period"], row["effective_nanos"]) for row in rows_of(database, ChargeRow)
    ]
    assert posted == [
        (202609, 20_000_000),
        (202610, -20_000_000),
        (202610, 25_000_000),
        (202610, 20_000_000),
        (202610, -20_000_000),
        (202610, 25_000_000),
    ]
    assert spent_nanos(database) == 50_000_000


def test_counters_of_money_follow_and_others_stay(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="growth", selector={"team": "growth"}),
        make_budget(id="search", selector={"team": "search"}),
        make_budget(id="tokens", unit="tokens", limit="1000000"),
        now=clock(),
    )
    record(ledger_by(services, BOOK), *make_events(2))

    rerate(database, FIXED_BOOK, clock)

    assert standings(database, now=clock()) == {
        ("growth",): (50_000_000, 0),
        ("search",): (0, 0),
        ("tokens",): (30_000, 0),
    }
    assert spent_nanos(database) == 50_000_000


def test_a_threshold_that_the_difference_crosses_alerts_once(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.045", thresholds=[1.0], mode="soft"), now=clock())
    record(ledger_by(services, BOOK), *make_events(2))

    applied = rerate(database, FIXED_BOOK, clock)
    approve_rerate(database, FIXED_BOOK, applied.rerate_id, now=clock())

    assert [row["measured"] for row in rows_of(database, AlertRow)] == [50_000_000]


@pytest.mark.parametrize(
    ("valid_from", "yesterday"),
    [("2026-11-01T00:00:00Z", {("all",): (0, 0)}), ("2026-11-20T00:00:00Z", {})],
)
def test_what_settled_in_the_window_of_its_hold_moves_there(
    services: Services,
    database: Database,
    clock: FrozenClock,
    valid_from: str,
    yesterday: dict[tuple[str, ...], tuple[int, int]],
) -> None:
    set_budgets(database, make_budget(window="day", valid_from=valid_from), now=clock())
    ledger = ledger_by(services, BOOK)
    hold_id = hold_cents(ledger, 2)
    record(ledger, make_event(occurred_at="2026-11-19T23:59:00Z", hold_id=hold_id))

    rerate(database, FIXED_BOOK, clock)

    assert standings(database, now=clock()) == {("all",): (25_000_000, 0)}
    assert standings(database, now=day("2026-11-19")) == yesterday
    assert spent_nanos(database) == 25_000_000


def test_reasons_that_nothing_answers_to_find_nothing(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, make_price_list(version="empty")), make_event())
    scope = RerateScope(frozenset({Reason.FIXED}))

    assert propose_rerate(database, BOOK, scope, now=clock()).proposed == CostDelta()


def test_what_a_commitment_covers_moves_at_list_price_only(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    owned = Commitment(
        "ptu",
        "acme",
        covers={"model": ("plain",)},
        nanos_per_time=Fraction(DOLLAR),
        per=Per.HOUR,
        valid_from=day("2026-11-20"),
    )
    agreed = Agreements(commitments=(owned,))
    record(
        ledger_by(services, BOOK.with_agreements(agreed)),
        make_event(event_id="covered"),
        make_event(event_id="before", occurred_at="2026-11-19T23:59:59Z"),
    )

    applied = rerate(database, FIXED_BOOK.with_agreements(agreed), clock)

    # Half a cent each at list price; the commitment's fixed cost stands for one of them.
    assert applied.applied == CostDelta(2, 10_000_000, 10_000_000, 5_000_000)
    assert spent_nanos(database) == 25_000_000


def test_a_contract_learned_of_late_is_a_change(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    contract = Contract("acme-2026", provider="acme", times=Fraction(3, 4))
    contracted = BOOK.with_agreements(Agreements(contracts=(contract,)))

    assert propose_rerate(database, contracted, RerateScope(), now=clock()).proposed.usages == 0
    applied = rerate(database, contracted, clock, ALL_REASONS)

    # A quarter off two cents.
    assert applied.applied == CostDelta(1, 0, -5_000_000, -5_000_000)
    assert spent_nanos(database) == 15_000_000
