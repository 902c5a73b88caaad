"""Holds for several requests: taken piece by piece, once a call, and given back at their end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    check_work,
    hold_cents,
    make_budget,
    make_check,
    make_event,
    record,
    record_work,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.witness_cases import tell_work
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.event_queries import EventQuery
from tokenbudget.domain.holds import HoldState
from tokenbudget.domain.usage import Witness
from tokenbudget.services.event_queries import list_events
from tokenbudget.services.holds import HoldView, get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterTransferRow, HoldPieceRow, HoldResolutionRow, HoldRow

WORKERS = 4
PIECES = 20


@pytest.fixture(autouse=True)
def _one_budget(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())


def spent_and_held(database: Database, clock: FrozenClock, name: str = "all") -> tuple[int, int]:
    """Give settled and held of a budget's current window, in cents."""
    settled, held = standings(database, now=clock())[name,]
    return settled // CENT, held // CENT


def endings(database: Database) -> list[tuple[str, int | None, int | None]]:
    """Give kind, settled and overage in nanos of every resolution."""
    return [
        (row["kind"], row["settled_nanos"], row["overage_nanos"])
        for row in rows_of(database, HoldResolutionRow)
    ]


def spend(ledger: Ledger, hold_id: str, number: int, amount: int, **overrides: Any) -> None:
    """Record usage of so many cents that names the hold."""
    event = make_event(event_id=f"e{number}", usage=cents(amount), hold_id=hold_id, **overrides)
    assert record(ledger, event).accepted == 1


def test_a_check_for_several_requests_holds_that_many_times_the_bound(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(),
        make_budget(id="tokens", unit="tokens", limit="1000000"),
        make_budget(id="calls", unit="requests", limit="100"),
        now=clock(),
    )

    decision = ask(ledger, requests=20)

    hold = get_hold(database, decision["hold_id"])
    assert (decision["decision"], decision["estimate"]) == ("allow", "0.400000000")
    assert decision["limits"] == {"max_output_tokens": 5_000, "model": "plain", "requests": 20}
    assert standings(database, now=clock()) == {
        ("all",): (0, 40 * CENT),
        ("tokens",): (0, 300_000),
        ("calls",): (0, 20),
    }
    assert (hold.requests, hold.pieces_settled, hold.remaining_nanos) == (20, 0, 40 * CENT)
    assert hold.settled_nanos is hold.overage_nanos is None
    assert broken_rules(database) == []


@pytest.mark.parametrize(
    ("limits", "fitting"),
    [({"limit": "0.11"}, 5), ({"unit": "tokens", "limit": "64999"}, 4), ({"limit": "0.02"}, 1)],
)
def test_a_check_for_more_than_fits_is_reduced_to_the_requests_that_do(
    ledger: Ledger,
    database: Database,
    clock: FrozenClock,
    limits: dict[str, str],
    fitting: int,
) -> None:
    set_budgets(database, make_budget(**limits), now=clock())

    decision = ask(ledger, requests=20)

    assert decision["decision"] == "reduce"
    assert decision["limits"]["requests"] == fitting
    assert decision["limits"]["max_output_tokens"] == 5_000
    assert decision["estimate"] == f"0.{2 * fitting:02d}0000000"
    assert get_hold(database, decision["hold_id"]).requests == fitting
    assert broken_rules(database) == []


def test_a_check_of_which_not_one_request_fits_is_denied(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.01"), now=clock())

    decision = ask(ledger, requests=20)

    assert (decision["decision"], decision["limits"]["requests"]) == ("deny", None)
    assert decision["reasons"][0]["code"] == "budget_exhausted"


def test_an_estimate_is_that_of_one_request(ledger: Ledger, clock: FrozenClock) -> None:
    decision = ask(ledger, requests=3, estimate="0.30")

    assert (decision["decision"], decision["estimate"]) == ("allow", "0.900000000")
    assert ask(ledger, requests=3, estimate="0.05")["limits"]["requests"] == 2


def test_a_check_beyond_all_reason_is_refused(ledger: Ledger, database: Database) -> None:
    work = check_work(make_check(requests=1_000_000, estimate="1000000"))

    [answer] = ledger.apply([work])

    assert isinstance(answer, InvalidInput)
    assert answer.detail == "the check asks for more than 1000000000 USD"
    assert rows_of(database, HoldRow) == []


def test_a_piece_moves_what_it_used_from_held_to_settled(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 3)

    hold = get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (3, 37)
    assert (hold.state, hold.pieces_settled) == (HoldState.HELD, 1)
    assert (hold.remaining_nanos, hold.settled_nanos, hold.overage_nanos) == (
        37 * CENT,
        3 * CENT,
        0,
    )
    assert endings(database) == []
    assert broken_rules(database) == []


def test_a_piece_at_and_one_above_its_share_take_what_they_used(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 10)
    spend(ledger, hold_id, 2, 25)

    assert spent_and_held(database, clock) == (35, 5)
    assert broken_rules(database) == []


def test_a_piece_above_all_that_is_left_is_posted_in_full(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 60)
    spend(ledger, hold_id, 2, 10)

    hold = get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (70, 0)
    assert (hold.state, hold.pieces_settled) == (HoldState.HELD, 2)
    assert (hold.remaining_nanos, hold.overage_nanos) == (0, 30 * CENT)
    assert broken_rules(database) == []


def test_pieces_are_taken_of_every_unit_that_was_granted(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(),
        make_budget(id="tokens", unit="tokens", limit="10000000"),
        make_budget(id="calls", unit="requests", limit="100"),
        now=clock(),
    )
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 3)

    assert standings(database, now=clock()) == {
        ("all",): (3 * CENT, 37 * CENT),
        ("tokens",): (30_000, 370_000),
        ("calls",): (1, 3),
    }
    assert broken_rules(database) == []


def test_the_last_piece_ends_the_hold_and_gives_back_what_is_left(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=2)

    spend(ledger, hold_id, 1, 3)
    spend(ledger, hold_id, 2, 4)

    hold = get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (7, 0)
    assert (hold.state, hold.remaining_nanos) == (HoldState.SETTLED, 0)
    assert endings(database) == [("settled", 7 * CENT, 0)]
    assert broken_rules(database) == []


def test_pieces_of_one_commit_are_taken_one_after_the_other(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=2)
    events = [
        make_event(event_id=f"e{number}", usage=cents(number), hold_id=hold_id)
        for number in (3, 4, 5)
    ]

    ledger.apply([record_work(events[:1], now=clock()), record_work(events[1:], now=clock())])

    assert spent_and_held(database, clock) == (12, 0)
    assert endings(database) == [("settled", 7 * CENT, 0)]
    assert get_hold(database, hold_id).pieces_settled == 3
    assert broken_rules(database) == []


def test_the_same_event_again_takes_no_second_piece(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    event = make_event(usage=cents(3), hold_id=hold_id)

    record(ledger, event, event)
    record(ledger, event)

    assert spent_and_held(database, clock) == (3, 37)
    assert broken_rules(database) == []


@pytest.mark.parametrize("revised", [1, 8])
def test_a_revision_of_a_piece_moves_only_what_is_settled(
    ledger: Ledger, database: Database, clock: FrozenClock, revised: int
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    event = make_event(usage=cents(3), hold_id=hold_id)
    record(ledger, event)

    record(ledger, {**event, "usage": cents(revised), "revision": 1})

    hold = get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (revised, 37)
    assert (hold.pieces_settled, hold.settled_nanos) == (1, revised * CENT)
    assert broken_rules(database) == []


def test_a_void_and_what_follows_it_never_touch_what_is_held(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    event = make_event(usage=cents(3), hold_id=hold_id)
    record(ledger, event)

    record(ledger, {**event, "void": True, "revision": 1})
    after_void = spent_and_held(database, clock)
    record(ledger, {**event, "usage": cents(5), "revision": 2})

    hold = get_hold(database, hold_id)
    assert after_void == (0, 37)
    assert spent_and_held(database, clock) == (5, 37)
    assert (hold.pieces_settled, hold.settled_nanos) == (1, 5 * CENT)
    assert len(rows_of(database, HoldPieceRow)) == 1
    assert broken_rules(database) == []


def test_a_better_witness_of_a_piece_takes_no_second_one(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    told = make_event(usage=cents(3), hold_id=hold_id, response_id="r1")
    record(ledger, told)

    better = make_event(event_id="row-1", usage=cents(4), response_id="r1")
    ledger.apply([tell_work(ledger, Witness.PROVIDER, [better])])

    assert spent_and_held(database, clock) == (4, 37)
    assert get_hold(database, hold_id).settled_nanos == 4 * CENT
    assert broken_rules(database) == []


def test_a_witness_that_knows_the_hold_takes_the_piece_when_it_comes(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    row = make_event(event_id="row-1", usage=cents(4), response_id="r1")
    ledger.apply([tell_work(ledger, Witness.PROVIDER, [row])])
    before = spent_and_held(database, clock)

    record(ledger, make_event(usage=cents(3), hold_id=hold_id, response_id="r1"))

    assert before == (4, 40)
    assert spent_and_held(database, clock) == (4, 36)
    assert get_hold(database, hold_id).pieces_settled == 1
    assert broken_rules(database) == []


def test_a_release_gives_back_what_the_pieces_left(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    spend(ledger, hold_id, 1, 3)

    first, second = release(ledger, hold_id), release(ledger, hold_id)

    assert isinstance(first, HoldView)
    assert (first.state, first.remaining_nanos) == (HoldState.SETTLED, 0)
    assert second == first == get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("settled", 3 * CENT, 0)]
    assert broken_rules(database) == []


def test_a_release_before_any_piece_releases_the_whole(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    release(ledger, hold_id)

    assert get_hold(database, hold_id).state is HoldState.RELEASED
    assert spent_and_held(database, clock) == (0, 0)
    assert endings(database) == [("released", None, None)]
    assert broken_rules(database) == []


def test_expiry_gives_back_what_the_pieces_left(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    spend(ledger, hold_id, 1, 3)
    clock.advance(minutes=5)

    ledger.apply([])

    hold = get_hold(database, hold_id)
    assert (hold.state, hold.remaining_nanos) == (HoldState.SETTLED, 0)
    assert spent_and_held(database, clock) == (3, 0)
    assert broken_rules(database) == []


def test_a_piece_in_the_commit_that_ends_its_hold_is_taken_before_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    clock.advance(minutes=5)

    spend(ledger, hold_id, 1, 3)

    assert get_hold(database, hold_id).state is HoldState.SETTLED
    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("settled", 3 * CENT, 0)]
    assert broken_rules(database) == []


def test_late_pieces_settle_in_full_and_take_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    clock.advance(minutes=5)
    ledger.apply([])

    spend(ledger, hold_id, 1, 3)
    spend(ledger, hold_id, 2, 4)

    hold = get_hold(database, hold_id)
    assert (hold.state, hold.pieces_settled) == (HoldState.SETTLED_LATE, 2)
    assert (hold.settled_nanos, hold.remaining_nanos) == (7 * CENT, 0)
    assert spent_and_held(database, clock) == (7, 0)
    assert endings(database) == [("expired", None, None), ("settled_late", 3 * CENT, 0)]
    assert [row["taken_nanos"] for row in rows_of(database, HoldPieceRow)] == [0, 0]
    assert broken_rules(database) == []


def test_a_late_piece_settles_in_the_window_of_its_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    clock.now = clock.now.replace(hour=23, minute=59)
    hold_id = hold_cents(ledger, 10, requests=4)
    spend(ledger, hold_id, 1, 3, occurred_at="2026-11-20T23:59:10Z")
    clock.advance(minutes=5)

    spend(ledger, hold_id, 2, 4, occurred_at="2026-11-21T00:03:00Z")
    spend(ledger, hold_id, 3, 5, occurred_at="2026-11-21T00:03:30Z")

    assert standings(database, now=clock())["all",] == (0, 0)
    assert standings(database, now=clock() - timedelta(days=1))["all",] == (12 * CENT, 0)
    assert len(rows_of(database, CounterTransferRow)) == 2
    assert broken_rules(database) == []


def test_a_piece_of_another_split_value_takes_its_part_and_counts_where_it_belongs(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    hold_id = hold_cents(ledger, 10, requests=4, tags={"tenant": "a"})

    spend(ledger, hold_id, 1, 3, tags={"tenant": "b"})

    assert standings(database, now=clock()) == {
        ("all", "a"): (0, 37 * CENT),
        ("all", "b"): (3 * CENT, 0),
    }
    assert broken_rules(database) == []


def test_two_workers_take_pieces_of_one_hold(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 3)
    spend(other_ledger, hold_id, 2, 4)
    spend(ledger, hold_id, 3, 5)

    assert spent_and_held(database, clock) == (12, 28)
    assert get_hold(database, hold_id).pieces_settled == 3
    assert broken_rules(database) == []


def test_workers_take_pieces_of_one_hold_at_once(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledgers = [make_ledger(services) for _ in range(WORKERS)]
    hold_id = hold_cents(ledgers[0], 2, requests=PIECES + 10)

    def take_pieces(lane: int) -> None:
        for number in range(lane, PIECES, WORKERS):
            spend(ledgers[lane], hold_id, number, 1)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(take_pieces, range(WORKERS)))

    hold = get_hold(database, hold_id)
    assert (hold.pieces_settled, hold.settled_nanos) == (PIECES, PIECES * CENT)
    assert spent_and_held(database, clock) == (PIECES, PIECES + 20)
    assert broken_rules(database) == []


def test_the_usage_of_a_hold_is_found_by_it(services: Services, ledger: Ledger) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)
    spend(ledger, hold_id, 1, 3)
    spend(ledger, hold_id, 2, 4)

    page = list_events(services.database, services.price_list, EventQuery(hold_id=hold_id))

    assert {each.event_ref for each in page.records} == {"e1", "e2"}


def test_pieces_that_have_no_price_leave_the_money_held(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 10, requests=4)

    spend(ledger, hold_id, 1, 3, model="mystery")

    hold = get_hold(database, hold_id)
    assert spent_and_held(database, clock) == (0, 40)
    assert (hold.pieces_settled, hold.settled_nanos) == (1, 0)
    assert broken_rules(database) == []
