"""Delivering the outbox: at least once, signed, backing off, given up after a day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import httpx
import msgspec
import pytest

from tests.builders import cents, make_budget, make_event, record, rows_of, set_budgets
from tests.conftest import FrozenClock
from tokenbudget.services.delivery import (
    Delivered,
    Webhook,
    backoff,
    deliver_due,
    http_sender,
    sign,
)
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import OutboxRow

WEBHOOK = Webhook(
    url="http://127.0.0.1:9/hook",
    secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    timeout_seconds=10,
    give_up_after=timedelta(hours=24),
    batch=100,
)


class Receiver:
    """Answers every delivery with the next of its statuses, the last one for ever."""

    def __init__(self, *statuses: int | httpx.HTTPError) -> None:
        self.statuses = list(statuses)
        self.received: list[tuple[str, bytes, Mapping[str, str]]] = []

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Note the delivery and give the status, or raise what stands in its place."""
        self.received.append((url, body, dict(headers)))
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return answer


@pytest.fixture
def waiting(ledger: Ledger, database: Database, clock: FrozenClock) -> Database:
    """Give a ledger with one message that waits."""
    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event(usage=cents(60)))
    return database


def message(database: Database) -> tuple[str, int, str | None]:
    """Give state, attempts and last error of the one message."""
    [row] = rows_of(database, OutboxRow)
    return row["state"], row["attempts"], row["last_error"]


def due_at(database: Database) -> datetime:
    """Give when the one message is tried next."""
    [row] = rows_of(database, OutboxRow)
    due: datetime = row["due_at"]
    return due


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_message_that_was_taken_is_not_sent_again(
    waiting: Database, clock: FrozenClock, status: int
) -> None:
    receiver = Receiver(status)

    first = deliver_due(waiting, WEBHOOK, receiver.send, now=clock())
    second = deliver_due(waiting, WEBHOOK, receiver.send, now=clock())

    assert (first, second) == (Delivered(1, 0, 0), Delivered(0, 0, 0))
    assert message(waiting) == ("delivered", 0, None)
    assert len(receiver.received) == 1


def test_the_body_is_the_payload_and_the_headers_follow_standard_webhooks(
    waiting: Database, clock: FrozenClock
) -> None:
    receiver = Receiver(200)

    deliver_due(waiting, WEBHOOK, receiver.send, now=clock())

    [(url, body, headers)] = receiver.received
    [row] = rows_of(waiting, OutboxRow)
    assert url == "http://127.0.0.1:9/hook"
    assert msgspec.json.decode(body) == row["payload"]
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == row["id"]
    assert headers["webhook-timestamp"] == "1795176000"
    assert headers["webhook-signature"] == sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", row["id"], 1_795_176_000, body
    )


def test_the_signature_is_that_of_the_published_example() -> None:
    # Standard Webhooks, reference libraries: id, timestamp, payload and secret of their test.
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["plain words", "whsec_not-base64!"])
def test_a_secret_that_is_not_base64_is_taken_as_it_is(secret: str) -> None:
    signature = sign(secret, "m", 1, b"{}")

    assert signature.startswith("v1,")
    assert signature != sign("another", "m", 1, b"{}")


def test_without_a_secret_nothing_is_signed(waiting: Database, clock: FrozenClock) -> None:
    receiver = Receiver(200)

    deliver_due(waiting, replace(WEBHOOK, secret=None), receiver.send, now=clock())

    assert "webhook-signature" not in receiver.received[0][2]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (500, "the receiver answered 500"),
        (301, "the receiver answered 301"),
        (404, "the receiver answered 404"),
        (httpx.ReadTimeout("timed out"), "ReadTimeout: timed out"),
        (httpx.ConnectError("refused"), "ConnectError: refused"),
    ],
)
def test_a_message_that_was_not_taken_waits_and_is_sent_again_under_the_same_id(
    waiting: Database, clock: FrozenClock, answer: int | httpx.HTTPError, error: str
) -> None:
    receiver = Receiver(answer, 200)

    failed = deliver_due(waiting, WEBHOOK, receiver.send, now=clock())

    assert failed == Delivered(0, 1, 0)
    assert message(waiting) == ("waiting", 1, error)
    assert timedelta(seconds=4) <= due_at(waiting) - clock() <= timedelta(seconds=6)
    clock.advance(seconds=6)
    assert deliver_due(waiting, WEBHOOK, receiver.send, now=clock()) == Delivered(1, 0, 0)
    assert message(waiting)[0] == "delivered"
    ids = {headers["webhook-id"] for _, _, headers in receiver.received}
    assert len(ids) == 1


def test_a_message_is_left_alone_until_it_is_due(waiting: Database, clock: FrozenClock) -> None:
    receiver = Receiver(500)
    deliver_due(waiting, WEBHOOK, receiver.send, now=clock())
    clock.advance(seconds=3)

    assert deliver_due(waiting, WEBHOOK, receiver.send, now=clock()) == Delivered(0, 0, 0)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(0, 5), (1, 10), (2, 20), (5, 160), (10, 3_600), (400, 3_600)]
)
def test_waiting_doubles_up_to_an_hour_give_or_take_a_fifth(attempts: int, seconds: int) -> None:
    waits = [backoff(attempts).total_seconds() for _ in range(200)]

    assert seconds * 8 / 10 <= min(waits)
    assert max(waits) <= seconds * 12 / 10
    assert len(set(waits)) > 1


def test_a_message_is_given_up_after_a_day(waiting: Database, clock: FrozenClock) -> None:
    receiver = Receiver(500)
    clock.advance(hours=23, minutes=59)
    nearly = deliver_due(waiting, WEBHOOK, receiver.send, now=clock())
    clock.advance(minutes=1)

    dead = deliver_due(waiting, WEBHOOK, receiver.send, now=clock())

    assert (nearly, dead) == (Delivered(0, 1, 0), Delivered(0, 0, 1))
    assert message(waiting) == ("dead", 2, "the receiver answered 500")
    clock.advance(days=1)
    assert deliver_due(waiting, WEBHOOK, receiver.send, now=clock()) == Delivered(0, 0, 0)


def test_one_message_that_fails_does_not_hold_up_the_next(
    ledger: Ledger, waiting: Database, clock: FrozenClock
) -> None:
    clock.advance(seconds=1)
    record(ledger, make_event(event_id="e2", usage=cents(30)))

    counts = deliver_due(waiting, WEBHOOK, Receiver(500, 200).send, now=clock())

    assert counts == Delivered(delivered=1, failed=1, dead=0)


def test_one_round_sends_no_more_than_a_batch(
    ledger: Ledger, waiting: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event(event_id="e2", usage=cents(30)))
    one_by_one = replace(WEBHOOK, batch=1)
    receiver = Receiver(200)

    rounds = [
        deliver_due(waiting, one_by_one, receiver.send, now=clock()).delivered for _ in range(3)
    ]

    assert rounds == [1, 1, 0]


def test_without_a_receiver_messages_are_marked_and_nothing_leaves(
    waiting: Database, clock: FrozenClock
) -> None:
    receiver = Receiver(200)

    counts = deliver_due(waiting, replace(WEBHOOK, url=None), receiver.send, now=clock())

    assert counts == Delivered(0, 0, 0)
    assert message(waiting)[0] == "unrouted"
    assert receiver.received == []


def test_a_sender_posts_over_http_and_follows_no_redirect() -> None:
    seen: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"location": "http://127.0.0.1/elsewhere"})

    with httpx.Client(transport=httpx.MockTransport(receive)) as client:
        status = http_sender(client)("http://127.0.0.1/hook", b"{}", {"webhook-id": "m"})

    assert status == 302
    assert [(request.method, str(request.url)) for request in seen] == [
        ("POST", "http://127.0.0.1/hook")
    ]
    assert (seen[0].content, seen[0].headers["webhook-id"]) == (b"{}", "m")
