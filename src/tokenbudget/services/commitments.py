"""Sharing what commitments cost: each finished UTC day, over the usage they covered that day.

It owns the difference between what is due and what has been posted, so a day may be shared any
number of times: the second time moves nothing, and after late usage it moves what that changed. It
refuses to work out a share (``domain/commitments.py``). Shares move rollups and the counters of
money like usage does, at the quarter-hours of the usage they are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.budgets import Unit
from tokenbudget.domain.commitments import (
    COMMITMENT_PREFIX,
    SPILLED,
    UNUSED,
    Commitment,
    CoveredUsage,
    DayShares,
    fixed_nanos,
    share_out,
    unused_dimensions,
)
from tokenbudget.domain.money import split
from tokenbudget.domain.periods import QUARTER_HOUR, Period, Window, window_at, windows_between
from tokenbudget.domain.rollups import DAY_SECONDS, MEASURES, QUARTER_HOUR_SECONDS
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.placement import Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.commitments import (
    ShareKey,
    add_shares,
    last_shared_at,
    list_covered,
    list_shares,
    lock_shares,
)
from tokenbudget.store.db import Database
from tokenbudget.store.ledger import add_rollups

USED: Final = "used"
LATE_DAYS: Final = timedelta(days=7)
"""How long a finished day is looked at again, since usage may arrive late."""

MAX_DAYS: Final = 400
"""How many days of one commitment are shared in one round; the next round goes on."""


@dataclass(frozen=True, slots=True)
class ShareDay:
    """Work for the writer: share what a commitment cost on a finished UTC day."""

    commitment: Commitment
    day: Period
    weight: int = 1


@dataclass(frozen=True, slots=True)
class DaySharing:
    """How a day of a commitment stands in the ledger now, in nanos.

    ``fixed`` is used and unused together; None means that no quote converts its currency that day,
    so nothing is shared yet. ``is_changed`` tells whether anything was posted this time.
    """

    commitment_id: str
    day: Period
    fixed: int | None
    unused: int
    spilled: int
    is_changed: bool


@dataclass(slots=True)
class ShareDesk:
    """Shares days in one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    now: datetime
    answers: list[DaySharing] = field(default_factory=list)
    steps: list[tuple[CounterKey, int]] = field(default_factory=list)
    share_rows: list[dict[str, Any]] = field(default_factory=list)
    rollups: dict[tuple[int, datetime, int, int], int] = field(
        default_factory=lambda: defaultdict(int)
    )

    def prepare(self, works: Sequence[ShareDay], book: CounterBook) -> None:
        """Work out what has to move and ask the book for the counters."""
        if works:
            lock_shares(self.session)
        for work in works:
            self._prepare(work, book)

    def settle(self, book: CounterBook) -> None:
        """Move the counters."""
        for key, nanos in self.steps:
            book.counter(key).settled += nanos

    def write(self) -> None:
        """Write the shares and add them to the rollups."""
        add_shares(self.session, self.share_rows)
        add_rollups(self.session, [_rollup_row(*each) for each in self.rollups.items()])

    def _prepare(self, work: ShareDay, book: CounterBook) -> None:
        commitment, part = work.commitment, work.commitment.part_in_force(work.day)
        ratio = self._ratio(work)
        if part is None or ratio is None:
            self.answers.append(DaySharing(commitment.id, work.day, None, 0, 0, False))
            return
        usage = list_covered(self.session, commitment.id, part)
        fixed = fixed_nanos(commitment, part, ratio)
        shares = share_out(commitment, fixed, part, usage)
        due = self._due(commitment, part, usage, shares)
        posted = list_shares(self.session, commitment.id, work.day)
        moves = {
            key: nanos
            for key in sorted(due.keys() | posted.keys())
            if (nanos := due.get(key, 0) - posted.get(key, 0))
        }
        self._move(commitment, moves, book)
        spilled = sum(shares.spilled)
        sharing = DaySharing(commitment.id, work.day, fixed, shares.unused, spilled, bool(moves))
        self.answers.append(sharing)

    def _ratio(self, work: ShareDay) -> Fraction | None:
        """Give what converts the commitment's currency that day, None when nothing does."""
        price_list = self.rules.price_list
        currency = work.commitment.currency
        if currency == price_list.currency:
            return Fraction(1)
        exchange = price_list.agreements.exchange
        conversion = exchange.conversion_at(currency, price_list.currency, work.day.start)
        return conversion.ratio if conversion else None

    def _due(
        self,
        commitment: Commitment,
        part: Period,
        usage: Sequence[CoveredUsage],
        shares: DayShares,
    ) -> dict[ShareKey, int]:
        """Give what should stand in the ledger for the day."""
        due = {}
        for item, used, spilled in zip(usage, shares.used, shares.spilled, strict=True):
            due[ShareKey(item.starts_at, item.dimension_set_id, USED)] = used
            due[ShareKey(item.starts_at, item.dimension_set_id, SPILLED)] = spilled
        if shares.unused:
            set_id = self._unused_set_id(commitment)
            quarters = (part.end - part.start) // QUARTER_HOUR
            for place, nanos in enumerate(split(shares.unused, [1] * quarters)):
                due[ShareKey(part.start + place * QUARTER_HOUR, set_id, UNUSED)] = nanos
        return due

    def _unused_set_id(self, commitment: Commitment) -> int:
        dimensions = unused_dimensions(commitment)
        placement = Placement(dimensions, self.rules.index.match(dimensions))
        self.memory.store_placements(self.session, [placement])
        return placement.dimension_set_id

    def _move(self, commitment: Commitment, moves: dict[ShareKey, int], book: CounterBook) -> None:
        """Note what is posted where, and ask for the counters it moves."""
        if not moves:
            return
        self.memory.recall(self.session, {key.dimension_set_id for key in moves}, self.rules)
        price_row_id = self._price_row_id(commitment)
        for key, nanos in moves.items():
            self.share_rows.append(
                {**key._asdict(), "commitment_id": commitment.id, "nanos": nanos}
            )
            day = window_at(Window.DAY, key.starts_at, "UTC").start
            for grain, start in ((QUARTER_HOUR_SECONDS, key.starts_at), (DAY_SECONDS, day)):
                self.rollups[grain, start, key.dimension_set_id, price_row_id] += nanos
            for match in self.memory.placements_by_id[key.dimension_set_id].matches:
                if match.budget.unit is not Unit.MONEY:
                    continue
                counter_key = book.key_of(match, key.starts_at)
                if counter_key is not None:
                    self.steps.append((counter_key, nanos))

    def _price_row_id(self, commitment: Commitment) -> int:
        """Give the id of the row that tells rollups of shares from those of usage."""
        digest = COMMITMENT_PREFIX + commitment.id
        row = {
            "digest": digest,
            "provider": commitment.provider,
            "model": "",
            "currency": self.rules.price_list.currency,
            "selector": {},
            "rates": {},
            "agreed": {"shares_of": commitment.id},
            "commitment": None,
            "origin": None,
            "valid_from": commitment.valid_from,
            "valid_to": commitment.valid_to,
            "recorded_at": self.now,
        }
        self.memory.store_price_rows(self.session, {digest: row})
        return self.memory.price_row_ids[digest]


def list_days_due(
    database: Database, commitments: Iterable[Commitment], *, now: datetime
) -> list[ShareDay]:
    """Give the finished days to share: those never shared, and those usage may still arrive for.

    In order of commitment and day.
    """
    today = window_at(Window.DAY, now, "UTC").start
    due: list[ShareDay] = []
    with database.reading() as session:
        for commitment in commitments:
            last = last_shared_at(session, commitment.id)
            start = commitment.valid_from
            if last is not None:
                start = min(window_at(Window.DAY, last, "UTC").end, today - LATE_DAYS)
            part = commitment.part_in_force(Period(start, today)) if start < today else None
            days = windows_between(Window.DAY, part, "UTC") if part else ()
            due.extend(ShareDay(commitment, day) for day in islice(days, MAX_DAYS))
    return due


def share_days(
    days: Iterable[ShareDay], apply: Callable[[Sequence[ShareDay]], Sequence[object]]
) -> Iterator[DaySharing]:
    """Give how each day stands, having shared it in a transaction of its own.

    ``apply`` is the ledger's. A commitment whose day waits for a quote waits with all later days,
    so that none is passed over.
    """
    waiting: set[str] = set()
    for day in days:
        if day.commitment.id in waiting:
            continue
        for answer in apply([day]):
            if isinstance(answer, DaySharing):
                yield answer
                waiting.update([day.commitment.id] if answer.fixed is None else ())


def _rollup_row(key: tuple[int, datetime, int, int], nanos: int) -> dict[str, Any]:
    grain, starts_at, dimension_set_id, price_row_id = key
    return {
        "grain_seconds": grain,
        "starts_at": starts_at,
        "dimension_set_id": dimension_set_id,
        "price_row_id": price_row_id,
        **dict.fromkeys(MEASURES, 0),
        "effective_nanos": nanos,
    }
