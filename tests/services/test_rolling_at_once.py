"""Windows that roll, used by several workers at once: nobody gets more than the days leave."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tests.builders import ask, broken_rules, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.services.rolling_cases import binding_of, rolling, spend
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import AlertRow

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
ROUNDS = 6
CALLERS = 8


def ask_at_once(ledgers: list[Ledger], estimate: str) -> list[str]:
    """Give the decisions of a check by each ledger, all sent at the same moment."""
    barrier = Barrier(len(ledgers))

    def ask_one(ledger: Ledger) -> str:
        barrier.wait()
        return str(ask(ledger, estimate=estimate, ttl_seconds=86_400)["decision"])

    with ThreadPoolExecutor(len(ledgers)) as pool:
        return list(pool.map(ask_one, ledgers))


def allowed_in_rounds(
    database: Database, make: Callable[[int], Ledger], now: datetime
) -> list[int]:
    """Give how many of all callers were allowed, each round by a new budget with room for one."""
    ledgers = [make(number) for number in range(CALLERS)]
    allowed = []
    for number in range(ROUNDS):
        # An unused version of the budget: nobody has a counter yet, and all must make it.
        set_budgets(database, rolling(limit="0.05", selector={"team": f"t{number}"}), now=now)
        barrier = Barrier(CALLERS)

        def ask_one(ledger: Ledger, barrier: Barrier = barrier, team: str = f"t{number}") -> str:
            barrier.wait()
            decision = ask(ledger, estimate="0.05", ttl_seconds=86_400, tags={"team": team})
            return str(decision["decision"])

        with ThreadPoolExecutor(CALLERS) as pool:
            allowed.append(list(pool.map(ask_one, ledgers)).count("allow"))
    return allowed


def test_checks_at_once_share_what_the_days_leave(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, rolling(), now=clock())
    spend(make_ledger(services), 85, "2026-11-18T10:00:00Z")

    decisions = ask_at_once([make_ledger(services) for _ in range(CALLERS)], "0.05")

    assert decisions.count("allow") == 3
    assert binding_of(make_ledger(services)) == (85, 15, 0)
    assert broken_rules(database) == []


@pytest.mark.parametrize("apart", [timedelta(0), MOMENT, timedelta(minutes=10)])
def test_checks_at_once_on_both_sides_of_midnight_share_the_last_of_a_budget(
    database: Database, tmp_path: Path, apart: timedelta
) -> None:
    def make(number: int) -> Ledger:
        now = MIDNIGHT - MOMENT if number % 2 else MIDNIGHT + apart
        return make_ledger(make_services(database, FrozenClock(now), tmp_path))

    allowed = allowed_in_rounds(database, make, MIDNIGHT - timedelta(hours=3))

    assert allowed == [1] * ROUNDS
    assert broken_rules(database) == []


def test_late_money_and_money_of_today_at_once_cross_a_threshold_once(
    database: Database, services: Services, clock: FrozenClock
) -> None:
    ledgers = [make_ledger(services) for _ in range(CALLERS)]
    crossed = []
    for number in range(ROUNDS):
        team = {"team": f"t{number}"}
        # Eight postings of ten cents to three days cross eighty cents with the last of them.
        set_budgets(database, rolling(thresholds=["0.8"], selector=team), now=clock())
        barrier = Barrier(CALLERS)

        def post(place: int, barrier: Barrier = barrier, team: dict[str, str] = team) -> None:
            barrier.wait()
            at = f"2026-11-{18 + place % 3}T0{place}:00:00Z"
            spend(ledgers[place], 10, at, tags=team)

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(post, range(CALLERS)))
        crossed.append(len(rows_of(database, AlertRow)))

    assert crossed == list(range(1, ROUNDS + 1))
    assert broken_rules(database) == []
