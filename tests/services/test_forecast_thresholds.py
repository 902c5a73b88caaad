"""Thresholds on the forecast: crossed when it is worked out, once a window, never by a posting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.builders import CENT, make_budget, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.services.allowance_cases import raise_by
from tests.services.rolling_cases import raised, spend
from tokenbudget.services.forecasts import refresh_forecasts
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.raises import review_raises
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow, OutboxRow


def refresh(database: Database, clock: FrozenClock) -> None:
    """Work out the forecasts as the job does."""
    refresh_forecasts(database, now=clock(), currency="USD")


def test_a_forecast_that_reaches_a_threshold_alerts_once_a_window(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    clock.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    set_budgets(database, make_budget(window="day", on="forecast", mode="soft"), now=clock())
    for hour in range(8, 12):
        spend(ledger, 5, f"2026-11-20T{hour:02}:30:00Z")

    assert raised(database) == []
    refresh(database, clock)
    refresh(database, clock)

    # Twenty cents are spent, and five an hour for twelve more hours are expected.
    assert raised(database) == ["0.5", "0.8"]
    alerts = rows_of(database, AlertRow)
    assert {(row["kind"], row["measured"]) for row in alerts} == {("forecast", 80 * CENT)}
    [message] = rows_of(database, OutboxRow)
    assert (message["payload"]["kind"], message["payload"]["threshold"]) == ("forecast", "0.8")
    assert message["payload"]["share"] == "0.8"


def test_a_posting_crosses_no_threshold_on_the_forecast(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(on="forecast", mode="soft"), now=clock())

    spend(ledger, 150, "2026-11-20T11:00:00Z")

    assert raised(database) == []


def test_thresholds_on_what_is_spent_are_not_crossed_by_a_forecast(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day", mode="soft"), now=clock())
    for hour in range(8, 12):
        spend(ledger, 5, f"2026-11-20T{hour:02}:30:00Z")

    refresh(database, clock)

    assert raised(database) == []


def test_a_raise_resolves_what_the_forecast_no_longer_reaches(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    budget = make_budget(window="day", on="forecast", thresholds=["0.7"], mode="soft")
    set_budgets(database, budget, now=clock())
    for hour in range(8, 12):
        spend(ledger, 5, f"2026-11-20T{hour:02}:30:00Z")
    refresh(database, clock)
    assert raised(database) == ["0.7"]

    until = clock() + timedelta(minutes=30)
    raise_by(database, 100, until=until, now=clock())
    refresh(database, clock)
    [alert] = rows_of(database, AlertRow)
    assert alert["resolved_at"] == clock()

    clock.now = until
    review_raises(database, now=clock(), currency="USD")
    assert raised(database) == ["0.7"]
    refresh(database, clock)
    assert raised(database) == ["0.7", "0.7"]
