"""The life of a hold: settled by usage, released, extended or expired, and each of them once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    check_work,
    extend,
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
from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.domain.holds import HoldState
from tokenbudget.services.holds import ExtendHold, HoldView, ReleaseHold, get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow, CounterTransferRow, HoldResolutionRow


@pytest.fixture(autouse=True)
def _one_budget(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())


def spent_and_held(database: Database, clock: FrozenClock) -> tuple[int, int]:
    """Give settled and held of the budget's current window, in cents."""
    settled, held = standings(database, now=clock())["all",]
    return settled // CENT, held // CENT


def endings(database: Database) -> list[tuple[str, int | None, int | None]]:
    """Give kind, settled and overage (in cents) of every resolution."""
    return [
        (row["kind"], _in_cents(row["settled_nanos"]), _in_cents(row["overage_nanos"]))
        for row in rows_of(database, HoldResolutionRow)
    ]


def _in_cents(nanos: int | None) -> int | None:
    return None if nanos is None else nanos // CENT


def test_a_hold_lives_for_the_usual_time(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold = get_hold(database, hold_cents(ledger, 5))

    assert hold.state is HoldState.HELD
    assert hold.expires_at == clock() + timedelta(seconds=60)
    assert hold.estimate_nanos == 5 * CENT
    assert spent_and_held(database, clock) == (0, 5)


def test_a_hold_lives_as_long_as_asked_within_the_longest(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    asked = get_hold(database, hold_cents(ledger, 5, ttl_seconds=600))
    endless = get_hold(database, hold_cents(ledger, 5, ttl_seconds=86_400))

    assert asked.expires_at == clock() + timedelta(minutes=10)
    assert endless.expires_at == clock() + timedelta(hours=1)


def test_usage_that_names_a_hold_settles_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)

    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert get_hold(database, hold_id).state is HoldState.SETTLED
    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("settled", 3, 0)]
    assert broken_rules(database) == []


def test_what_was_spent_above_the_hold_is_posted_in_full(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 90)

    record(ledger, make_event(usage=cents(140), hold_id=hold_id))

    assert spent_and_held(database, clock) == (140, 0)
    assert endings(database) == [("settled", 140, 50)]
    assert ask(ledger)["decision"] == "deny"
    assert broken_rules(database) == []


def test_usage_after_expiry_settles_late_and_in_full(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    clock.advance(minutes=5)
    ledger.apply([])

    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert get_hold(database, hold_id).state is HoldState.SETTLED_LATE
    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("expired", None, None), ("settled_late", 3, 0)]
    assert broken_rules(database) == []


def test_usage_in_the_batch_that_would_expire_its_hold_settles_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    clock.advance(minutes=5)

    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert endings(database) == [("settled", 3, 0)]
    assert spent_and_held(database, clock) == (3, 0)


def test_the_same_usage_again_settles_nothing_more(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    event = make_event(usage=cents(3), hold_id=hold_id)

    record(ledger, event)
    record(ledger, event)

    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("settled", 3, 0)]


def test_a_second_usage_of_one_hold_counts_and_resolves_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)

    record(
        ledger,
        make_event(usage=cents(3), hold_id=hold_id),
        make_event(event_id="e2", usage=cents(4), hold_id=hold_id),
    )

    assert spent_and_held(database, clock) == (7, 0)
    assert endings(database) == [("settled", 3, 0)]
    assert broken_rules(database) == []


def test_a_revision_of_settled_usage_moves_only_what_is_settled(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    record(ledger, make_event(usage=cents(8), hold_id=hold_id, revision=1))

    assert spent_and_held(database, clock) == (8, 0)
    assert endings(database) == [("settled", 3, 0)]
    assert broken_rules(database) == []


def test_usage_that_names_an_unknown_hold_counts_all_the_same(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    answer = record(ledger, make_event(hold_id="nobody-knows"))

    assert answer.accepted == 1
    assert spent_and_held(database, clock) == (2, 0)


def test_a_released_hold_is_given_back_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)

    first, second = release(ledger, hold_id), release(ledger, hold_id)

    assert isinstance(first, HoldView)
    assert first.state is HoldState.RELEASED
    assert second == first
    assert spent_and_held(database, clock) == (0, 0)
    assert endings(database) == [("released", None, None)]
    assert broken_rules(database) == []


def test_two_releases_in_one_commit_give_back_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)

    ledger.apply([ReleaseHold(hold_id), ReleaseHold(hold_id)])

    assert spent_and_held(database, clock) == (0, 0)
    assert broken_rules(database) == []


def test_a_settled_hold_cannot_be_released(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    answer = release(ledger, hold_id)

    assert isinstance(answer, Conflict)
    assert answer.detail == f"hold {hold_id} is already settled"
    assert spent_and_held(database, clock) == (3, 0)


def test_releasing_what_has_expired_is_no_error(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    clock.advance(minutes=5)
    ledger.apply([])

    answer = release(ledger, hold_id)

    assert isinstance(answer, HoldView)
    assert answer.state is HoldState.EXPIRED
    assert endings(database) == [("expired", None, None)]


def test_usage_after_a_release_counts_and_resolves_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    release(ledger, hold_id)

    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert spent_and_held(database, clock) == (3, 0)
    assert endings(database) == [("released", None, None)]


def test_usage_and_release_in_one_commit_settle(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    work = record_work([make_event(usage=cents(3), hold_id=hold_id)], now=clock())

    released, _ = ledger.apply([ReleaseHold(hold_id), work])

    assert isinstance(released, Conflict)
    assert spent_and_held(database, clock) == (3, 0)
    assert broken_rules(database) == []


def test_an_unknown_hold_cannot_be_released_extended_or_shown(
    ledger: Ledger, database: Database
) -> None:
    assert isinstance(release(ledger, "nobody-knows"), NotFound)
    assert isinstance(extend(ledger, "nobody-knows", seconds=5), NotFound)
    with pytest.raises(NotFound, match="hold nobody-knows does not exist"):
        get_hold(database, "nobody-knows")


def test_a_hold_that_ran_out_cannot_be_extended_even_before_a_sweep(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    clock.advance(minutes=5)

    answer = extend(ledger, hold_id, seconds=60)

    assert isinstance(answer, Conflict)
    assert answer.detail == f"hold {hold_id} is expired"
    assert spent_and_held(database, clock) == (0, 0)


def test_a_settled_hold_shows_what_was_settled_above_it(ledger: Ledger, database: Database) -> None:
    hold_id = hold_cents(ledger, 5)
    before = get_hold(database, hold_id)

    record(ledger, make_event(usage=cents(8), hold_id=hold_id))

    after = get_hold(database, hold_id)
    assert (before.requests, before.pieces_settled, before.remaining_nanos) == (1, 0, 5 * CENT)
    assert before.settled_nanos is before.overage_nanos is None
    assert (after.pieces_settled, after.remaining_nanos) == (1, 0)
    assert (after.settled_nanos, after.overage_nanos) == (8 * CENT, 3 * CENT)


def test_a_hold_is_kept_until_its_grace_is_over(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)

    clock.advance(seconds=65)
    ledger.apply([])
    within = get_hold(database, hold_id).state
    clock.advance(seconds=1)
    ledger.apply([])

    assert within is HoldState.HELD
    assert get_hold(database, hold_id).state is HoldState.EXPIRED
    assert broken_rules(database) == []


def test_a_check_finds_room_that_an_expired_hold_has_left_without_any_sweep(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_cents(ledger, 100)
    clock.advance(minutes=2)

    decision = ask(ledger)

    assert decision["decision"] == "allow"
    assert spent_and_held(database, clock) == (0, 2)
    assert broken_rules(database) == []


def test_a_sweep_gives_idle_holds_back_once(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    for _ in range(3):
        hold_cents(ledger, 5)
    clock.advance(minutes=2)

    ledger.apply([])
    other_ledger.apply([])

    assert spent_and_held(database, clock) == (0, 0)
    assert [kind for kind, _, _ in endings(database)] == ["expired"] * 3
    assert broken_rules(database) == []


def test_usage_in_the_next_window_settles_the_window_of_its_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    clock.now = clock.now.replace(hour=23, minute=59, second=30)
    hold_id = hold_cents(ledger, 5)
    clock.advance(seconds=40)

    record(
        ledger,
        make_event(occurred_at="2026-11-21T00:00:05Z", usage=cents(3), hold_id=hold_id),
    )

    [transfer] = rows_of(database, CounterTransferRow)
    assert transfer["quantity"] == 3 * CENT
    assert standings(database, now=clock())["all",] == (0, 0)
    assert standings(database, now=clock() - timedelta(days=1))["all",] == (3 * CENT, 0)
    assert broken_rules(database) == []


def test_a_revision_of_transferred_usage_is_transferred_too(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    clock.now = clock.now.replace(hour=23, minute=59, second=30)
    hold_id = hold_cents(ledger, 5)
    clock.advance(seconds=40)
    event = make_event(occurred_at="2026-11-21T00:00:05Z", usage=cents(3), hold_id=hold_id)
    record(ledger, event)

    record(ledger, {**event, "usage": cents(9), "revision": 1})

    assert standings(database, now=clock())["all",] == (0, 0)
    assert standings(database, now=clock() - timedelta(days=1))["all",] == (9 * CENT, 0)
    assert broken_rules(database) == []


def test_usage_just_after_a_fixed_range_settles_the_hold_granted_in_it(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database, make_budget(id="launch", window="range:2026-11-20/2026-11-21"), now=clock()
    )
    clock.now = clock.now.replace(hour=23, minute=59, second=30)
    hold_id = hold_cents(ledger, 5)
    clock.advance(seconds=40)

    record(
        ledger,
        make_event(occurred_at="2026-11-21T00:00:05Z", usage=cents(3), hold_id=hold_id),
    )

    [transfer] = rows_of(database, CounterTransferRow)
    [launch] = [row for row in rows_of(database, CounterRow) if row["budget_id"] == "launch"]
    assert (transfer["from_counter_id"], transfer["to_counter_id"]) == (None, launch["id"])
    assert (launch["settled"], launch["held"]) == (3 * CENT, 0)
    assert broken_rules(database) == []


def test_usage_of_another_split_value_than_its_hold_counts_where_it_belongs(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    hold_id = hold_cents(ledger, 5, tags={"tenant": "a"})

    record(ledger, make_event(usage=cents(3), hold_id=hold_id, tags={"tenant": "b"}))

    assert standings(database, now=clock()) == {
        ("all", "a"): (0, 0),
        ("all", "b"): (3 * CENT, 0),
    }
    assert broken_rules(database) == []


def test_a_hold_granted_before_a_recount_settles_under_the_new_count(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    set_budgets(database, make_budget(split_by=["team"]), now=clock())

    record(ledger, make_event(usage=cents(3), hold_id=hold_id))

    assert standings(database, now=clock()) == {("all", "growth"): (3 * CENT, 0)}
    assert broken_rules(database) == []


def test_one_commit_answers_every_kind_of_work_in_order(ledger: Ledger, clock: FrozenClock) -> None:
    kept, given_back = hold_cents(ledger, 5), hold_cents(ledger, 6)

    released, decided, recorded, extended = ledger.apply(
        [
            ReleaseHold(given_back),
            check_work(make_check()),
            record_work([make_event()], now=clock()),
            ExtendHold(kept, timedelta(seconds=90)),
        ]
    )

    assert isinstance(released, HoldView)
    assert released.hold_id == given_back
    assert isinstance(decided, dict)
    assert decided["decision"] == "allow"
    assert getattr(recorded, "accepted", None) == 1
    assert isinstance(extended, HoldView)
    assert extended.hold_id == kept
