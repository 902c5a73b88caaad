"""What could not be priced is listed, never counted as free."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.builders import make_event, make_events, record
from tokenbudget.domain.periods import Period
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.unpriced import UnpricedUsage, list_unpriced
from tokenbudget.store.db import Database

NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def test_unpriced_models_are_listed_most_requests_first(ledger: Ledger, database: Database) -> None:
    record(
        ledger,
        *make_events(2, model="mystery"),
        make_event(event_id="x", provider="nobody", model="riddle"),
        make_event(event_id="y"),
    )

    assert list_unpriced(database, period=NOVEMBER) == [
        UnpricedUsage("acme", "mystery", 2, 20_000, 10_000),
        UnpricedUsage("nobody", "riddle", 1, 10_000, 5_000),
    ]


def test_usage_of_one_model_in_several_places_is_one_line(
    ledger: Ledger, database: Database
) -> None:
    record(
        ledger,
        make_event(event_id="a", model="mystery", tags={"team": "growth"}),
        make_event(event_id="b", model="mystery", tags={"team": "search"}),
        make_event(
            event_id="c", model="mystery", occurred_at="2026-11-02T00:07:00Z", tags={"team": "x"}
        ),
    )

    assert [line.requests for line in list_unpriced(database, period=NOVEMBER)] == [3]


def test_only_the_period_asked_for_is_listed(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(model="mystery", occurred_at="2026-10-31T23:59:59Z"))

    assert list_unpriced(database, period=NOVEMBER) == []


def test_usage_that_was_revised_to_a_known_model_is_not_listed(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event(model="mystery"))

    record(ledger, make_event(revision=1))

    assert list_unpriced(database, period=NOVEMBER) == []
