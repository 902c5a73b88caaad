"""Any order of checks, settlements, releases, extensions, expiries and revisions is sound.

After every step the invariants of the ledger hold, and its counters show what a model of a few
lines says.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.builders import (
    CENT,
    TOKENS_PER_CENT,
    ask,
    broken_rules,
    cents,
    extend,
    make_budget,
    make_event,
    record,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.store_fixtures import make_services, open_postgres, open_sqlite
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.periods import format_instant
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow

BEGINNING = "2026-11-01T00:00:00Z"
LIMIT_CENTS = 30
TTL_SECONDS = 60
GRACE_SECONDS = 5
LONGEST_SECONDS = 3_600
TENANTS = ("a", "b")

amounts = st.integers(0, 12)
tenants = st.sampled_from(TENANTS)
places = st.integers(0, 1_000)


@dataclass
class OpenHold:
    """A hold as the model knows it."""

    amount: int
    tenant: str
    created_at: datetime
    expires_at: datetime


class LedgerMachine(RuleBasedStateMachine):
    """Drives one ledger and a model of it: what was spent and which holds are open."""

    def __init__(self, open_database: Callable[[], Database], directory: Path) -> None:
        super().__init__()
        self.database = open_database()
        self.clock = FrozenClock(datetime(2026, 11, 20, 23, 55, tzinfo=UTC))
        self.ledger = make_ledger(make_services(self.database, self.clock, directory))
        self.numbers = count()
        self.spent = 0
        self.open: dict[str, OpenHold] = {}
        self.granted: list[tuple[str, str]] = []
        self.events: dict[str, dict[str, Any]] = {}

    @initialize()
    def budgets(self) -> None:
        set_budgets(
            self.database,
            make_budget(
                id="day", window="day", limit="0.30", split_by=["tenant"], valid_from=BEGINNING
            ),
            make_budget(id="month", limit="100.00", mode="soft", valid_from=BEGINNING),
            now=self.clock(),
        )

    @rule(amount=amounts, tenant=tenants)
    def check(self, amount: int, tenant: str) -> None:
        decision = ask(
            self.ledger,
            input_tokens=amount * TOKENS_PER_CENT,
            max_output_tokens=0,
            tags={"tenant": tenant},
        )
        self._expire()
        settled, held = standings(self.database, now=self.clock())["day", tenant]
        if decision["decision"] == "allow":
            expires_at = self.clock() + timedelta(seconds=TTL_SECONDS)
            hold_id = decision["hold_id"]
            self.open[hold_id] = OpenHold(amount, tenant, self.clock(), expires_at)
            self.granted.append((hold_id, tenant))
            assert settled + held <= LIMIT_CENTS * CENT
        else:
            assert settled + held + amount * CENT > LIMIT_CENTS * CENT

    @rule(amount=amounts, tenant=tenants, seconds_ago=st.integers(0, 90_000))
    def spend_without_a_hold(self, amount: int, tenant: str, seconds_ago: int) -> None:
        self._record(amount, tenant, None, seconds_ago)

    @precondition(lambda self: self.granted)
    @rule(amount=amounts, place=places, seconds_ago=st.integers(0, 120))
    def settle(self, amount: int, place: int, seconds_ago: int) -> None:
        hold_id, tenant = self.granted[place % len(self.granted)]
        self.open.pop(hold_id, None)
        self._record(amount, tenant, hold_id, seconds_ago)

    @precondition(lambda self: self.granted)
    @rule(place=places)
    def release(self, place: int) -> None:
        hold_id, _ = self.granted[place % len(self.granted)]
        release(self.ledger, hold_id)
        self.open.pop(hold_id, None)
        self._expire()

    @precondition(lambda self: self.granted)
    @rule(place=places, seconds=st.integers(1, 5_000))
    def extend(self, place: int, seconds: int) -> None:
        hold_id, _ = self.granted[place % len(self.granted)]
        extend(self.ledger, hold_id, seconds=seconds)
        self._expire()
        hold = self.open.get(hold_id)
        if hold is not None:
            latest = hold.created_at + timedelta(seconds=LONGEST_SECONDS)
            asked = self.clock() + timedelta(seconds=seconds)
            hold.expires_at = max(hold.expires_at, min(asked, latest))

    @precondition(lambda self: self.events)
    @rule(amount=amounts, tenant=tenants, place=places)
    def revise(self, amount: int, tenant: str, place: int) -> None:
        event = list(self.events.values())[place % len(self.events)]
        self.spent += amount - event["usage"]["input_tokens"] // TOKENS_PER_CENT
        event.update(usage=cents(amount), tags={"tenant": tenant}, revision=event["revision"] + 1)
        assert record(self.ledger, event).accepted == 1
        self._expire()

    @precondition(lambda self: self.events)
    @rule(place=places)
    def send_again(self, place: int) -> None:
        event = list(self.events.values())[place % len(self.events)]
        assert record(self.ledger, event).duplicates == 1
        self._expire()

    @rule(seconds=st.integers(1, 200))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        self.ledger.apply([])
        self._expire()

    @invariant()
    def every_invariant_holds(self) -> None:
        assert broken_rules(self.database) == []

    @invariant()
    def the_counters_show_what_the_model_says(self) -> None:
        counters = rows_of(self.database, CounterRow)
        held = sum(hold.amount for hold in self.open.values()) * CENT
        for budget_id in ("day", "month"):
            mine = [row for row in counters if row["budget_id"] == budget_id]
            assert sum(row["settled"] for row in mine) == self.spent * CENT
            assert sum(row["held"] for row in mine) == held

    def teardown(self) -> None:
        self.database.close()

    def _record(self, amount: int, tenant: str, hold_id: str | None, seconds_ago: int) -> None:
        event = make_event(
            event_id=f"e{next(self.numbers)}",
            occurred_at=format_instant(self.clock() - timedelta(seconds=seconds_ago)),
            usage=cents(amount),
            tags={"tenant": tenant},
            hold_id=hold_id,
            revision=0,
        )
        assert record(self.ledger, event).accepted == 1
        self.events[event["event_id"]] = event
        self.spent += amount
        self._expire()

    def _expire(self) -> None:
        """Forget the holds that this transaction has just given back."""
        ended = self.clock() - timedelta(seconds=GRACE_SECONDS)
        self.open = {name: hold for name, hold in self.open.items() if hold.expires_at >= ended}


def run_machine(
    open_database: Callable[[], Database], directory: Path, *, examples: int, steps: int
) -> None:
    """Let Hypothesis look for an order of steps that breaks an invariant."""
    bounds = settings(
        deadline=None,
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=[HealthCheck.too_slow],
    )

    class OpenedMachine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(open_database, directory)

    run_state_machine_as_test(OpenedMachine, settings=bounds)


def test_any_order_of_operations_keeps_a_sqlite_ledger_sound(
    sqlite_template: Path, tmp_path: Path
) -> None:
    numbers = count()

    def open_copy() -> Database:
        path = tmp_path / f"ledger-{next(numbers)}.db"
        shutil.copyfile(sqlite_template, path)
        return open_sqlite(path)

    run_machine(open_copy, tmp_path, examples=20, steps=30)


def test_any_order_of_operations_keeps_a_postgresql_ledger_sound(
    postgres_ledger_url: str, tmp_path: Path
) -> None:
    run_machine(lambda: open_postgres(postgres_ledger_url), tmp_path, examples=6, steps=15)
