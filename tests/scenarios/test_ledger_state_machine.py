"""Any order of checks, holds, pieces, witnesses, revisions, voids and new budgets is sound.

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
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.witness_cases import tell_work
from tests.store_fixtures import make_services, open_postgres, open_sqlite
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.usage import Witness
from tokenbudget.services.retagging import EventTarget, RetagAnswer, RetagUsage, TagChange
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CounterRow

BEGINNING = "2026-11-01T00:00:00Z"
LIMIT_CENTS = 30
TTL_SECONDS = 60
GRACE_SECONDS = 5
LONGEST_SECONDS = 3_600
LONGEST_BATCH_SECONDS = 26 * 3_600
WINDOWS = ("hour", "day", "month")
TENANTS = ("a", "b")
FEATURES = ("search", "chat")
BUDGETS = ("day", "month", "feature")

amounts = st.integers(0, 12)
tenants = st.sampled_from(TENANTS)
places = st.integers(0, 1_000)


@dataclass
class OpenHold:
    """A hold as the model knows it; ``pieces`` are those it waits for, None when it is whole."""

    left: int
    tenant: str
    created_at: datetime
    expires_at: datetime
    pieces: int | None = None

    @property
    def latest(self) -> datetime:
        """Give until when it may be extended."""
        longest = LONGEST_SECONDS if self.pieces is None else LONGEST_BATCH_SECONDS
        return self.created_at + timedelta(seconds=longest)


@dataclass
class Told:
    """An event as the model knows it: what it said last, and when that was."""

    event: dict[str, Any]
    witness: Witness
    amount: int
    told_at: int
    is_void: bool = False


@dataclass
class KnownCall:
    """A call as the model knows it: who told of it, and whose figure counts."""

    told: list[Told]
    counted: Told | None = None

    def spent(self) -> int:
        """Give what the call costs now, and remember who said so."""
        live = [each for each in self.told if not each.is_void]
        best = max((each.witness for each in live), default=None)
        equal = [each for each in live if each.witness is best]
        if self.counted not in equal:
            self.counted = min(equal, key=lambda each: each.told_at, default=None)
        return self.counted.amount if self.counted is not None else 0


class LedgerMachine(RuleBasedStateMachine):
    """Drives one ledger and a model of it: what was spent and which holds are open."""

    def __init__(self, open_database: Callable[[], Database], directory: Path) -> None:
        super().__init__()
        self.database = open_database()
        self.clock = FrozenClock(datetime(2026, 11, 20, 23, 55, tzinfo=UTC))
        self.ledger = make_ledger(make_services(self.database, self.clock, directory))
        self.numbers = count()
        self.calls: list[KnownCall] = []
        self.open: dict[str, OpenHold] = {}
        self.granted: list[tuple[str, str]] = []
        self.leases: list[tuple[str, str]] = []
        self.limit = LIMIT_CENTS
        self.window = "day"

    @initialize()
    def budgets(self) -> None:
        self._limit()
        set_budgets(
            self.database,
            make_budget(id="month", limit="100.00", mode="soft", valid_from=BEGINNING),
            make_budget(
                id="feature",
                limit="100.00",
                mode="soft",
                split_by=["feature"],
                valid_from=BEGINNING,
            ),
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
            assert settled + held <= self.limit * CENT
        else:
            assert settled + held + amount * CENT > self.limit * CENT

    @rule(amount=amounts, tenant=tenants, requests=st.integers(2, 4))
    def check_for_several(self, amount: int, tenant: str, requests: int) -> None:
        decision = ask(
            self.ledger,
            input_tokens=amount * TOKENS_PER_CENT,
            max_output_tokens=0,
            tags={"tenant": tenant},
            requests=requests,
        )
        self._expire()
        settled, held = standings(self.database, now=self.clock())["day", tenant]
        granted = decision["limits"]["requests"] or 0
        if decision["decision"] != "deny":
            expires_at = self.clock() + timedelta(seconds=TTL_SECONDS)
            hold_id = decision["hold_id"]
            hold = OpenHold(granted * amount, tenant, self.clock(), expires_at, granted)
            self.open[hold_id] = hold
            self.leases.append((hold_id, tenant))
            assert settled + held <= self.limit * CENT
        if granted < requests:
            # Not one more would have fitted.
            assert settled + held + amount * CENT > self.limit * CENT

    @precondition(lambda self: self.leases)
    @rule(amount=amounts, place=places, seconds_ago=st.integers(0, 120))
    def settle_a_piece(self, amount: int, place: int, seconds_ago: int) -> None:
        """Let a call below, at or above its share be told of, perhaps after the hold's end."""
        hold_id, tenant = self.leases[place % len(self.leases)]
        self._take(hold_id, amount)
        self._record(amount, tenant, hold_id, seconds_ago)

    @rule(limit=st.integers(5, 60))
    def change_the_limit(self, limit: int) -> None:
        self.limit = limit
        self._limit()

    @rule(window=st.sampled_from(WINDOWS))
    def change_the_window(self, window: str) -> None:
        """Let counters start anew; holds settle on, and are given back where they were granted."""
        self.window = window
        self._limit()

    @rule(amount=amounts, tenant=tenants, seconds_ago=st.integers(0, 90_000))
    def spend_without_a_hold(self, amount: int, tenant: str, seconds_ago: int) -> None:
        self._record(amount, tenant, None, seconds_ago)

    @precondition(lambda self: self.granted)
    @rule(amount=amounts, place=places, seconds_ago=st.integers(0, 120))
    def settle(self, amount: int, place: int, seconds_ago: int) -> None:
        hold_id, tenant = self.granted[place % len(self.granted)]
        self.open.pop(hold_id, None)
        self._record(amount, tenant, hold_id, seconds_ago)

    @precondition(lambda self: self.granted or self.leases)
    @rule(place=places)
    def release(self, place: int) -> None:
        hold_id = self._any_hold(place)
        release(self.ledger, hold_id)
        self.open.pop(hold_id, None)
        self._expire()

    @precondition(lambda self: self.granted or self.leases)
    @rule(place=places, seconds=st.integers(1, 5_000))
    def extend(self, place: int, seconds: int) -> None:
        hold_id = self._any_hold(place)
        extend(self.ledger, hold_id, seconds=seconds)
        self._expire()
        hold = self.open.get(hold_id)
        if hold is not None:
            asked = self.clock() + timedelta(seconds=seconds)
            hold.expires_at = max(hold.expires_at, min(asked, hold.latest))

    @precondition(lambda self: self.calls)
    @rule(
        amount=amounts,
        witness=st.sampled_from(Witness),
        place=places,
        is_settling=st.booleans(),
        seconds_ago=st.integers(0, 90_000),
    )
    def witness(
        self, amount: int, witness: Witness, place: int, is_settling: bool, seconds_ago: int
    ) -> None:
        """Let somebody else tell of a call, perhaps with the hold that the first did not know."""
        call = self.calls[place % len(self.calls)]
        first = call.told[0].event
        hold_id = None
        if (
            is_settling
            and (self.granted or self.leases)
            and all(each.event["hold_id"] is None for each in call.told)
        ):
            hold_id = self._any_hold(place)
        event = self._event(amount, first["tags"], hold_id, seconds_ago)
        event["response_id"] = first["response_id"]
        told = Told(event, witness, amount, next(self.numbers))
        if hold_id is not None:
            # Whoever knows the hold, what counts for the call is taken out of it.
            call.told.append(told)
            self._take(hold_id, call.spent())
            call.told.pop()
        self._tell(call, told)

    @precondition(lambda self: self.calls)
    @rule(amount=amounts, tenant=tenants, place=places, is_void=st.booleans())
    def revise(self, amount: int, tenant: str, place: int, is_void: bool) -> None:
        _, told = self._told(place)
        told.event.update(
            usage=cents(amount),
            tags={"tenant": tenant},
            revision=told.event["revision"] + 1,
            void=is_void,
        )
        told.amount, told.is_void, told.told_at = amount, is_void, next(self.numbers)
        self._apply(told)

    @precondition(lambda self: self.calls)
    @rule(place=places)
    def send_again(self, place: int) -> None:
        _, told = self._told(place)
        [answer] = self.ledger.apply([tell_work(self.ledger, told.witness, [told.event])])
        assert isinstance(answer, RecordAnswer)
        assert answer.duplicates == 1
        self._expire()

    @precondition(lambda self: self.calls)
    @rule(place=places, feature=st.sampled_from(FEATURES))
    def learn_a_tag(self, place: int, feature: str) -> None:
        _, told = self._told(place)
        change = TagChange(EventTarget("api", told.event["event_id"]), {"feature": feature})
        for expected in ((0, 1), (0,)):
            [answer] = self.ledger.apply([RetagUsage([change])])
            assert isinstance(answer, RetagAnswer)
            assert answer.moved in expected
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
        held = sum(hold.left for hold in self.open.values()) * CENT
        spent = sum(call.spent() for call in self.calls)
        for budget_id in BUDGETS:
            mine = [row for row in counters if row["budget_id"] == budget_id]
            # Counters that started anew began with what their window held already.
            if all(row["counting_version"] == 1 for row in mine):
                assert sum(row["settled"] for row in mine) == spent * CENT
            assert sum(row["held"] for row in mine) == held
            assert all(row["held"] >= 0 for row in mine)

    def teardown(self) -> None:
        self.database.close()

    def _limit(self) -> None:
        """Put the hard budget in force as it is now."""
        draft = make_budget(
            id="day",
            window=self.window,
            limit=f"{self.limit / 100:.2f}",
            split_by=["tenant"],
            valid_from=BEGINNING,
        )
        set_budgets(self.database, draft, now=self.clock())

    def _any_hold(self, place: int) -> str:
        holds = [*self.granted, *self.leases]
        return holds[place % len(holds)][0]

    def _take(self, hold_id: str, amount: int) -> None:
        """Let usage end a hold, or take a piece of one that settles by them."""
        hold = self.open.get(hold_id)
        if hold is None:
            return
        if hold.pieces is not None:
            hold.left -= min(hold.left, amount)
            hold.pieces -= 1
        if not hold.pieces:
            del self.open[hold_id]

    def _record(self, amount: int, tenant: str, hold_id: str | None, seconds_ago: int) -> None:
        event = self._event(amount, {"tenant": tenant}, hold_id, seconds_ago)
        event["response_id"] = f"resp_{event['event_id']}"
        call = KnownCall([])
        self.calls.append(call)
        self._tell(call, Told(event, Witness.SDK, amount, next(self.numbers)))

    def _event(
        self, amount: int, tags: dict[str, str], hold_id: str | None, seconds_ago: int
    ) -> dict[str, Any]:
        return make_event(
            event_id=f"e{next(self.numbers)}",
            occurred_at=format_instant(self.clock() - timedelta(seconds=seconds_ago)),
            usage=cents(amount),
            tags=tags,
            hold_id=hold_id,
            revision=0,
        )

    def _told(self, place: int) -> tuple[KnownCall, Told]:
        call = self.calls[place % len(self.calls)]
        return call, call.told[place % len(call.told)]

    def _tell(self, call: KnownCall, told: Told) -> None:
        call.told.append(told)
        self._apply(told)

    def _apply(self, told: Told) -> None:
        [answer] = self.ledger.apply([tell_work(self.ledger, told.witness, [told.event])])
        assert isinstance(answer, RecordAnswer)
        assert answer.accepted == 1
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
