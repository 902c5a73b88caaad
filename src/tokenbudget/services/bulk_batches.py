"""One transaction for many plain events: the set-based twin of ``usage.py``.

It owns the steps of the transaction, in the order in which the ledger locks rows: dimension sets,
keys, usage, charges, counters, rollups, alerts. It refuses every event of which more decides than
its own columns: whose keys are taken, whose accounting period is closed. Those are named, and
nothing of the batch is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from sqlmodel import Session

from tokenbudget.domain.allocation import CallFacts
from tokenbudget.domain.budgets import BudgetMatch, Unit
from tokenbudget.domain.identity import has_lasting_ids
from tokenbudget.domain.months import month_period
from tokenbudget.domain.periods import Period, from_micros, to_micros
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import OK_STATUS, Basis
from tokenbudget.frames.events import (
    MICROS_PER_SECOND,
    charge_rows,
    counter_moves,
    covered_spans,
    examples_of_prices,
    key_claims,
    operation_moves,
    quantities_of,
    quarter_hours,
    rollup_rows,
    usage_rows,
    with_charges,
    with_combinations,
    with_commitments,
    with_response_keys,
)
from tokenbudget.services.alerts import raise_alerts
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.holds import HoldDesk
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.operations import OperationMove, counts_operations, operation_steps
from tokenbudget.services.placement import Caller, Placement
from tokenbudget.services.postings import period_of
from tokenbudget.services.price_rows import price_row_of
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.usage import STANDARD_TIER
from tokenbudget.store.bulk import (
    add_rollup_table,
    append_charge_table,
    append_usage_table,
    claim_key_table,
)
from tokenbudget.store.event_keys import find_keys
from tokenbudget.store.ledger import find_content_hashes, next_usage_ids
from tokenbudget.store.rerating import find_closed_before

NOBODY: Final = Caller()

AfterRecording = Callable[[Session, "BulkAnswer"], None]
"""What else belongs into the transaction, once it is known what became of the events."""


class NotPlain(Exception):
    """Some events are not plain after all; ``rows`` says which, and nothing was kept."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"{len(rows)} events are not plain")
        self.rows = rows


class KeysTaken(Exception):
    """Some events are known already, or tell of a known call; nothing was kept."""


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """What became of the events of a batch."""

    accepted: int
    duplicates: int
    unpriced: int


def record_plain_events(
    ledger: Ledger,
    events: pl.DataFrame,
    after_recording: AfterRecording,
    *,
    looks_first: bool,
) -> BulkAnswer:
    """Record a table of plain events (``frames/events.py``) and give what became of them.

    All are kept, or none. It looks first whether they are known already, or takes it that they are
    new and raises KeysTaken when that was wrong. Raises NotPlain naming events to record one by
    one, and Unavailable when the database cannot answer.
    """
    is_committed = False
    try:
        with ledger.database.transaction() as session:
            rules = ledger.shelf.consult(session)
            ledger.memory.follow(rules)
            batch = _BulkBatch(ledger, session, rules)
            answer = batch.record(events, looks_first=looks_first)
            after_recording(session, answer)
        is_committed = True
    finally:
        if not is_committed:
            ledger.memory.forget()
    return answer


class _BulkBatch:
    """The steps of one transaction."""

    def __init__(self, ledger: Ledger, session: Session, rules: Rulebook) -> None:
        self.terms = ledger.terms
        self.memory = ledger.memory
        self.session = session
        self.rules = rules
        self.now = ledger.clock()

    def record(self, events: pl.DataFrame, *, looks_first: bool) -> BulkAnswer:
        if events.is_empty():
            return BulkAnswer(0, 0, 0)
        self._require_open_periods(events)
        placed, placements = self._place(events)
        keyed = self._with_keys(placed)
        admitted = self._admit(self._without_duplicates(keyed) if looks_first else keyed)
        duplicates = events.height - admitted.height
        if admitted.is_empty():
            return BulkAnswer(0, duplicates, 0)
        charged = with_charges(self._with_commitments(admitted, placements), self.rules.price_list)
        row_ids = self._store_price_rows(charged)
        self._append(charged, row_ids)
        self._count(charged, placements)
        add_rollup_table(self.session, rollup_rows(charged, price_row_ids=row_ids))
        unpriced = charged.filter(pl.col("basis") == Basis.UNPRICED.value).height
        return BulkAnswer(admitted.height, duplicates, unpriced)

    def _require_open_periods(self, events: pl.DataFrame) -> None:
        closed_before = find_closed_before(self.session)
        earliest = from_micros(_least(events["occurred_micros"]))
        _, is_late = period_of(earliest, closed_before)
        if closed_before is None or not is_late:
            return
        first_open = month_period(closed_before).start
        late = events.filter(pl.col("occurred_micros") < to_micros(first_open))
        raise NotPlain(late["row"].to_list())

    def _place(self, events: pl.DataFrame) -> tuple[pl.DataFrame, list[Placement]]:
        """Give the events with the ids of where they count, and each combination's placement."""
        unrolled = self.memory.unrolled_tags
        tag_names = [name for name in _tag_columns(events) if name[len("tags.") :] not in unrolled]
        turns = [to_micros(instant) for instant in self.rules.tag_rules.turns]
        combined, examples = with_combinations(events, tag_names=tag_names, turns=turns)
        placements = [self._placement(row, tag_names) for row in examples.iter_rows(named=True)]
        names = events["source"].unique().to_list()
        self.memory.store_sources(self.session, names)
        self.memory.store_placements(self.session, placements)
        set_ids = pl.Series([item.dimension_set_id for item in placements], dtype=pl.Int64)
        source_ids = [self.memory.source_ids[name] for name in names]
        source_id = pl.col("source").replace_strict(names, source_ids, return_dtype=pl.Int64)
        placed = combined.with_columns(
            source_id=source_id, dimension_set_id=set_ids.gather(combined["combination"])
        )
        return placed, placements

    def _placement(self, event: Mapping[str, Any], tag_names: Sequence[str]) -> Placement:
        call = CallFacts(
            event["provider"],
            event["model"],
            event.get("operation"),
            event.get("service_tier") or STANDARD_TIER,
            event.get("region"),
            event.get("account"),
            event.get("status") or OK_STATUS,
            event["is_retry"],
        )
        tags = {name[len("tags.") :]: event[name] for name in tag_names if event[name] is not None}
        instant = from_micros(event["occurred_micros"])
        return self.memory.place(call, tags, NOBODY, self.rules, instant)

    def _with_keys(self, events: pl.DataFrame) -> pl.DataFrame:
        price_list = self.rules.price_list
        spellings = {}
        for word in events["provider"].unique():
            provider = price_list.canonical_provider(word) or word.strip().lower()
            spellings[word] = provider if has_lasting_ids(provider) else None
        return with_response_keys(events, spellings)

    def _admit(self, events: pl.DataFrame) -> pl.DataFrame:
        """Give the events with their ids, their keys claimed; raises KeysTaken."""
        ids = next_usage_ids(self.session, events.height)
        numbered = events.with_columns(usage_id=pl.Series(ids, dtype=pl.Int64))
        if not claim_key_table(self.session, key_claims(numbered)):
            raise KeysTaken
        return numbered

    def _without_duplicates(self, events: pl.DataFrame) -> pl.DataFrame:
        """Give the events that are not recorded yet; raises NotPlain for those that conflict."""
        keys = key_claims(events.with_columns(usage_id=0))["key"].to_list()
        holders = find_keys(self.session, keys)
        event_holders = pl.Series([holders.get(key) for key in events["event_key"]], dtype=pl.Int64)
        hashes = find_content_hashes(self.session, set(event_holders.drop_nulls()))
        recorded = pl.Series(
            [None if holder is None else hashes.get(holder) for holder in event_holders],
            dtype=pl.Int64,
        )
        call_holders = pl.Series(
            [None if key is None else holders.get(key) for key in events["response_key"]],
            dtype=pl.Int64,
        )
        is_duplicate = recorded.eq_missing(events["content_hash"])
        is_contested = ~is_duplicate & (event_holders.is_not_null() | call_holders.is_not_null())
        if is_contested.any():
            raise NotPlain(events.filter(is_contested)["row"].to_list())
        return events.filter(~is_duplicate)

    def _with_commitments(
        self, events: pl.DataFrame, placements: Sequence[Placement]
    ) -> pl.DataFrame:
        price_list = self.rules.price_list
        if not price_list.agreements.commitments:
            return events
        covering = {}
        for combination, second in covered_spans(events):
            instant = from_micros(second * MICROS_PER_SECOND)
            found = price_list.find_commitment(placements[combination].dimensions, instant)
            if found is not None:
                covering[combination, second] = found.id
        return with_commitments(events, covering)

    def _store_price_rows(self, charged: pl.DataFrame) -> dict[str, int]:
        """Store the price rows that charges name and give their ids by digest."""
        rows = {}
        for event in examples_of_prices(charged).iter_rows(named=True):
            facts = RatingFacts(
                provider=event["provider"],
                model=event["model"],
                occurred_at=from_micros(event["occurred_micros"]),
                service_tier=event.get("service_tier"),
                region=event.get("region"),
                account=event.get("account"),
                commitment=event.get("commitment"),
            )
            charge = rate(quantities_of(event), facts, self.rules.price_list)
            if charge.match is None or charge.price_digest != event["price_digest"]:
                raise AssertionError("rating one by one and by the table give one price row")
            row = price_row_of(charge.match, self.now, commitment=charge.commitment)
            rows[event["price_digest"]] = row
        self.memory.store_price_rows(self.session, rows)
        return {digest: self.memory.price_row_ids[digest] for digest in rows}

    def _append(self, charged: pl.DataFrame, row_ids: Mapping[str, int]) -> None:
        unrolled = [f"tags.{name}" for name in sorted(self.memory.unrolled_tags)]
        recorded = to_micros(self.now)
        append_usage_table(self.session, usage_rows(charged, kept_tags=unrolled, recorded=recorded))
        version = self.rules.price_list.version
        price_list_id = self.memory.price_list_id(self.session, version, now=self.now)
        rows = charge_rows(charged, price_row_ids=row_ids, price_list_id=price_list_id)
        append_charge_table(self.session, rows)

    def _count(self, charged: pl.DataFrame, placements: Sequence[Placement]) -> None:
        """Move the counters, and raise the alerts that follow."""
        book = CounterBook(self.session, self.rules.budgets, self.memory.counter_ids, now=self.now)
        hold_desk = HoldDesk(self.session, self.terms.holds, self.now)
        numbers: dict[tuple[str, tuple[str, ...]], int] = {}
        matches: list[BudgetMatch] = []
        pairs: list[tuple[int, int]] = []
        for combination, placement in enumerate(placements):
            for match in placement.matches:
                number = numbers.setdefault((match.budget.id, match.split), len(matches))
                if number == len(matches):
                    matches.append(match)
                pairs.append((combination, number))
        stretches = self._stretches(quarter_hours(charged))
        steps = []
        for number, second, nanos, tokens, requests in counter_moves(charged, pairs, stretches):
            match = matches[number]
            key = book.key_of(match, from_micros(second * MICROS_PER_SECOND))
            measured = {Unit.MONEY: nanos, Unit.TOKENS: tokens, Unit.REQUESTS: requests}
            if key is not None:
                steps.append((key, measured[match.budget.unit]))
        steps += operation_steps(book, self._operation_moves(charged, placements))
        book.want_ids(hold_desk.lock(()))
        book.lock()
        for key, quantity in steps:
            book.counter(key).settled += quantity
        hold_desk.expire(book)
        crossings = book.write()
        hold_desk.write()
        raise_alerts(self.session, crossings, currency=self.terms.currency, now=self.now)

    def _operation_moves(
        self, charged: pl.DataFrame, placements: Sequence[Placement]
    ) -> Iterator[OperationMove]:
        """Give what moves of events that name an operation, if any budget asks for that."""
        if not counts_operations(self.rules.budgets.values()):
            return
        for combination, operation_ref, nanos, tokens, requests in operation_moves(charged):
            measured = {Unit.MONEY: nanos, Unit.TOKENS: tokens, Unit.REQUESTS: requests}
            yield OperationMove(operation_ref, None, placements[combination].matches, measured)

    def _stretches(self, seconds: Sequence[int]) -> list[int]:
        """Give those quarter-hours in which some budget's window is not that of the one before."""
        windows = {budget.window for budget in self.rules.budgets.values()}
        starts: list[int] = []
        before: list[Period | None] = []
        for second in seconds:
            instant = from_micros(second * MICROS_PER_SECOND)
            periods = [window.period_at(instant) for window in windows]
            if not starts or periods != before:
                starts.append(second)
            before = periods
        return starts


def _tag_columns(events: pl.DataFrame) -> list[str]:
    return [name for name in events.columns if name.startswith("tags.")]


def _least(micros: pl.Series) -> int:
    least = micros.min()
    if not isinstance(least, int):
        raise TypeError("instants are whole microseconds")
    return least
