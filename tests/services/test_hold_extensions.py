"""How long holds live, and letting them live longer: within bounds, and once a request."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import (
    CENT,
    ask,
    cents,
    extend,
    hold_cents,
    make_budget,
    make_event,
    record,
    release,
    set_budgets,
)
from tests.conftest import FrozenClock
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.holds import HoldState
from tokenbudget.services.holds import ExtendHold, HoldView, get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database

DAY_SECONDS = 86_400


@pytest.fixture(autouse=True)
def _one_budget(database: Database, clock: FrozenClock) -> None:
    set_budgets(database, make_budget(), now=clock())


def test_an_extended_hold_lives_from_now_on_for_the_time_asked(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5)
    clock.advance(seconds=50)

    answer = extend(ledger, hold_id, seconds=60)

    assert isinstance(answer, HoldView)
    assert answer.expires_at == clock() + timedelta(seconds=60)
    assert get_hold(database, hold_id).expires_at == answer.expires_at
    clock.advance(seconds=30)
    assert get_hold(database, hold_id).state is HoldState.HELD


def test_no_extension_outlives_the_longest_life(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5, ttl_seconds=3_000)
    created_at = clock()
    clock.advance(seconds=2_000)

    extend(ledger, hold_id, seconds=3_000)

    assert get_hold(database, hold_id).expires_at == created_at + timedelta(hours=1)


def test_an_extension_never_shortens(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id = hold_cents(ledger, 5, ttl_seconds=600)

    extend(ledger, hold_id, seconds=1)

    assert get_hold(database, hold_id).expires_at == clock() + timedelta(seconds=600)


@pytest.mark.parametrize("ending", ["settled", "released"])
def test_a_hold_that_ended_cannot_be_extended(ledger: Ledger, ending: str) -> None:
    hold_id = hold_cents(ledger, 5)
    if ending == "settled":
        record(ledger, make_event(hold_id=hold_id))
    else:
        release(ledger, hold_id)

    answer = extend(ledger, hold_id, seconds=60)

    assert isinstance(answer, Conflict)
    assert answer.detail == f"hold {hold_id} is {ending}"


def test_an_extension_is_made_once_under_an_idempotency_key(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    hold_id, other_id = hold_cents(ledger, 5), hold_cents(ledger, 5)
    work = ExtendHold(hold_id, timedelta(seconds=90), key_id="key-1", idempotency_key="k")

    first, at_once = ledger.apply([work, work])
    clock.advance(seconds=20)
    [again] = other_ledger.apply([work])
    [other_key] = ledger.apply([replace(work, key_id="key-2")])
    [other_work] = ledger.apply([replace(work, hold_id=other_id)])

    assert isinstance(first, HoldView)
    assert first == at_once == again
    assert isinstance(other_key, HoldView)
    assert other_key.expires_at == first.expires_at + timedelta(seconds=20)
    assert isinstance(other_work, Conflict)
    assert other_work.detail == "Idempotency-Key 'k' was used for another request"


def test_extensions_and_checks_share_no_idempotency_keys(ledger: Ledger) -> None:
    hold_id = str(ask(ledger, idempotency_key="k")["hold_id"])
    work = ExtendHold(hold_id, timedelta(seconds=90), idempotency_key="k")

    [answer] = ledger.apply([work])

    assert isinstance(answer, HoldView)


def test_a_hold_for_several_requests_may_live_as_long_as_a_batch_job(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    job = get_hold(database, hold_cents(ledger, 10, requests=2, ttl_seconds=DAY_SECONDS))
    endless = get_hold(database, hold_cents(ledger, 10, requests=2, ttl_seconds=7 * DAY_SECONDS))

    assert job.expires_at == clock() + timedelta(days=1)
    assert endless.expires_at == clock() + timedelta(hours=26)


def test_a_hold_for_several_requests_is_extended_within_its_own_longest_life(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    created_at = clock()
    hold_id = hold_cents(ledger, 10, requests=4, ttl_seconds=DAY_SECONDS)
    record(ledger, make_event(event_id="e1", usage=cents(3), hold_id=hold_id))
    clock.advance(hours=23)

    answer = extend(ledger, hold_id, seconds=7_200)
    again = extend(ledger, hold_id, seconds=7 * DAY_SECONDS)

    assert isinstance(answer, HoldView)
    assert answer.expires_at == created_at + timedelta(hours=25)
    assert isinstance(again, HoldView)
    assert again.expires_at == created_at + timedelta(hours=26)
    assert (answer.pieces_settled, answer.remaining_nanos) == (1, 37 * CENT)


def test_a_hold_whose_pieces_all_settled_cannot_be_extended(ledger: Ledger) -> None:
    hold_id = hold_cents(ledger, 10, requests=2)
    record(ledger, make_event(event_id="e1", usage=cents(3), hold_id=hold_id))
    record(ledger, make_event(event_id="e2", usage=cents(3), hold_id=hold_id))

    answer = extend(ledger, hold_id, seconds=60)

    assert isinstance(answer, Conflict)
    assert answer.detail == f"hold {hold_id} is settled"
