"""Answers to questions about single usages: pages of them, one with its history, one operation.

It owns where is looked and how far; it refuses to write. A page looks at a bounded number of
usages, so that a question about much that matches little answers in several pages, not slowly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.domain.event_queries import (
    EventHistory,
    EventPage,
    EventQuery,
    EventRecord,
    OperationTotals,
    operation_totals,
)
from tokenbudget.domain.identity import event_key, response_key
from tokenbudget.domain.periods import QUARTER_HOUR, Period, from_micros, to_micros
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rollups import (
    DAY_SECONDS,
    ONE_DAY,
    QUARTER_HOUR_SECONDS,
    quarter_hour_at,
)
from tokenbudget.domain.usage import Basis
from tokenbudget.formats.cursors import decode_cursor, encode_cursor
from tokenbudget.services.event_records import EventReader
from tokenbudget.store.db import Database
from tokenbudget.store.event_keys import find_keys
from tokenbudget.store.event_queries import (
    UsageConditions,
    find_hold_usage,
    find_source_id,
    list_call_usage,
    list_operation_usage,
    list_providers,
    list_rolled_up,
    list_usage,
    list_usage_in,
)
from tokenbudget.store.rollups import find_dimension_sets
from tokenbudget.store.stretches import list_id_ranges, list_quarter_hours
from tokenbudget.store.tables import UsageRow

MAX_EXAMINED: Final = 1_000_000
"""How many ids of usage one page looks through before it ends early: about two seconds."""

IDS_PER_RECORD: Final = 25
"""How many ids the database looks through while one usage is read whole."""

MAX_QUARTER_HOURS: Final = 5_000
"""How many quarter-hours with usage one page walks through: fifty days of them."""

LEAST_PER_LOOK: Final = 200
MOST_PER_LOOK: Final = 2_000
DAYS_PER_LOOK: Final = timedelta(days=31)

MAX_NAMED_USAGES: Final = 5_000
MAX_REVISIONS: Final = 1_000
MAX_SPLITS: Final = 16
CURSOR_LENGTH: Final = 3
DEFAULT_SOURCE: Final = "api"


def list_events(database: Database, price_list: PriceList, query: EventQuery) -> EventPage:
    """Give one page of usages, newest first; raises InvalidInput naming the field."""
    before = _decode_place(query)
    with database.reading() as session:
        reader = EventReader(session)
        if query.is_named:
            usages = _named_usages(session, price_list, query)
            records = [each for each in reader.read(usages) if query.admits(each)]
            records = [each for each in records if before is None or _place(each) < before]
            records.sort(key=_place, reverse=True)
            return _page(records[: query.limit], query, is_last=len(records) <= query.limit)
        return _walk(session, reader, query, before)


def get_event(database: Database, name: str) -> EventHistory:
    """Give an event by its usage id or by ``source/event_id``, with everything about its call.

    Raises NotFound.
    """
    with database.reading() as session:
        usage_id = _usage_id_of(session, name)
        reader = EventReader(session)
        call = _call_of(session, [] if usage_id is None else [usage_id])
        records = {each.usage_id: each for each in reader.read(call)}
        record = records.get(usage_id or 0)
        if record is None:
            raise NotFound(f"there is no event {name!r}", event=name)
        charges = reader.charges(list(records))
    revisions = [each for each in records.values() if _identity(each) == _identity(record)]
    latest = {_identity(each): each for each in sorted(records.values(), key=_revision)}
    witnesses = sorted(
        latest.values(), key=lambda each: (not each.is_counting, -each.witness, each.usage_id)
    )
    return EventHistory(record, sorted(revisions, key=_revision), witnesses, charges)


def get_operation(database: Database, operation_ref: str) -> OperationTotals:
    """Give what one user operation took, attempts and waste included; raises NotFound."""
    with database.reading() as session:
        usages = list_operation_usage(session, operation_ref, limit=MAX_NAMED_USAGES)
        records = [each for each in EventReader(session).read(usages) if each.is_counting]
    if not records:
        raise NotFound(f"there is no operation {operation_ref!r}", operation_id=operation_ref)
    return operation_totals(operation_ref, records)


def _named_usages(session: Session, price_list: PriceList, query: EventQuery) -> list[UsageRow]:
    """Give what one of the names finds; the query's conditions narrow it further."""
    if query.event_ref is not None:
        usages = _revisions_of(session, query.source or DEFAULT_SOURCE, query.event_ref)
    elif query.response_ref is not None:
        usages = _call_of(session, _answered(session, price_list, query.response_ref))
    elif query.hold_id is not None:
        usages = _call_of(session, find_hold_usage(session, query.hold_id, limit=MAX_NAMED_USAGES))
    else:
        usages = list_operation_usage(session, query.operation_ref or "", limit=MAX_NAMED_USAGES)
    wanted = {
        "operation_ref": query.operation_ref,
        "response_ref": query.response_ref if query.event_ref is not None else None,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    return [
        usage
        for usage in usages
        if all(getattr(usage, name) == value for name, value in given.items())
    ]


def _answered(session: Session, price_list: PriceList, response_ref: str) -> list[int]:
    """Give the usages that first told of calls answered with this id, whoever the provider is."""
    # As the recorder spells them: by their name in the price book, if they have one.
    spellings = {
        price_list.canonical_provider(each) or each.strip().lower()
        for each in list_providers(session)
    }
    keys = {response_key(provider, response_ref) for provider in spellings}
    return sorted(set(find_keys(session, keys).values()))


def _call_of(session: Session, usage_ids: Collection[int]) -> list[UsageRow]:
    """Give every usage of the calls these belong to: all witnesses, all revisions."""
    named = list_usage(session, usage_ids)
    # A revision may stand apart from the call that the first revision of its event told of.
    known = _with_revisions(session, named)
    call_ids = {row.call_id or row.id or 0 for row in known.values()}
    further = list_call_usage(session, call_ids, limit=MAX_NAMED_USAGES)
    return list(_with_revisions(session, [*known.values(), *further]).values())


def _with_revisions(session: Session, usages: Iterable[UsageRow]) -> dict[int, UsageRow]:
    rows = {row.id or 0: row for row in usages}
    names = EventReader(session).source_names({row.source_id for row in rows.values()})
    events = {(names[row.source_id], row.event_ref) for row in rows.values()}
    for source, event_ref in sorted(events):
        rows.update({row.id or 0: row for row in _revisions_of(session, source, event_ref)})
    return rows


def _revisions_of(session: Session, source: str, event_ref: str) -> list[UsageRow]:
    """Give every revision of an event, in order."""
    ids: list[int] = []
    step = 1
    while len(ids) < MAX_REVISIONS:
        numbers = range(len(ids), len(ids) + step)
        keys = [event_key(source, event_ref, number) for number in numbers]
        found = find_keys(session, keys)
        ids += [found[key] for key in keys if key in found]
        if len(found) < step:
            break
        step *= 2
    return list_usage(session, ids)


def _usage_id_of(session: Session, name: str) -> int | None:
    """Give the usage an id or ``source/event_id`` names; sources and ids may hold slashes."""
    if name.isascii() and name.isdigit():
        return int(name) if int(name) < 2**63 else None
    parts = name.split("/")[: MAX_SPLITS + 1]
    splits = [len("/".join(parts[:count])) for count in range(1, len(parts))]
    keys = [event_key(name[:place], name[place + 1 :], 0) for place in splits]
    found = find_keys(session, keys)
    return next((found[key] for key in keys if key in found), None)


@dataclass(slots=True)
class _Walk:
    """How far a page has come: what it found, how much it may still look at, where it stands."""

    records: list[EventRecord]
    left: int
    before: tuple[datetime, int] | None
    is_full: bool = False
    is_finished: bool = False

    def take(self, records: Iterable[EventRecord], query: EventQuery) -> None:
        """Add what the question admits; one more than fits tells that there is a next page."""
        for record in records:
            is_admitted = query.admits(record)
            if is_admitted and len(self.records) == query.limit:
                self.is_full = self.is_finished = True
                return
            if is_admitted:
                self.records.append(record)
            self.before = _place(record)


def _walk(
    session: Session,
    reader: EventReader,
    query: EventQuery,
    before: tuple[datetime, int] | None,
) -> EventPage:
    """Give one page of what occurred in the period, one quarter-hour after the other."""
    source_id = None if query.source is None else find_source_id(session, query.source)
    period = _period_before(query, before)
    if period is None or (query.source is not None and source_id is None):
        return EventPage([])
    walk = _Walk([], MAX_EXAMINED, before)
    conditions = UsageConditions(
        period,
        source_id=source_id,
        trace_ref=query.trace_ref,
        flag=query.flag,
        is_charged=query.is_counting,
        basis=query.basis,
    )
    for number, (start, set_ids) in enumerate(_places(session, query, period)):
        if number == MAX_QUARTER_HOURS:
            walk.before, walk.is_finished = (start + QUARTER_HOUR, 0), True
            break
        part = Period(max(start, period.start), min(start + QUARTER_HOUR, period.end))
        narrowed = replace(conditions, period=part, dimension_set_ids=set_ids)
        _walk_quarter_hour(session, reader, query, narrowed, walk)
        if walk.is_finished:
            break
    return _page(walk.records, query, is_last=not walk.is_finished, stopped_at=walk.before)


def _walk_quarter_hour(
    session: Session,
    reader: EventReader,
    query: EventQuery,
    conditions: UsageConditions,
    walk: _Walk,
) -> None:
    """Look at usage until the page is full, the bound is met or the quarter-hour ends."""
    start = conditions.period.start
    ranges = list_id_ranges(session, [quarter_hour_at(start)])
    wanted = max(query.limit + 1 - len(walk.records), LEAST_PER_LOOK)
    while not walk.is_finished:
        usages = list_usage_in(
            session, ranges, replace(conditions, before=walk.before), limit=wanted
        )
        walk.left -= sum(high - low for low, high in ranges) + IDS_PER_RECORD * len(usages)
        walk.take(reader.read(usages), query)
        if walk.is_full:
            return
        walk.is_finished = walk.left <= 0
        if len(usages) < wanted:
            walk.before = (start, 0)
            return
        wanted = min(2 * wanted, MOST_PER_LOOK)


def _places(
    session: Session, query: EventQuery, period: Period
) -> Iterator[tuple[datetime, Collection[int] | None]]:
    """Give the quarter-hours to look in, latest first, and the dimension sets wanted in each."""
    is_guided = query.is_counting and (query.filters or query.basis is Basis.UNPRICED)
    if not is_guided:
        # One more than is walked through tells whether there are any more.
        for quarter_hour in list_quarter_hours(session, period, limit=MAX_QUARTER_HOURS + 1):
            yield quarter_hour, None
        return
    wanted: dict[int, bool] = {}
    end = period.end
    while end > period.start:
        start = max(end - DAYS_PER_LOOK, period.start)
        look = Period(start, end)
        for day in _used(session, query, look, wanted, grain_seconds=DAY_SECONDS):
            part = Period(max(day, start), min(day + ONE_DAY, end))
            yield from _used(
                session, query, part, wanted, grain_seconds=QUARTER_HOUR_SECONDS
            ).items()
        end = start


def _used(
    session: Session,
    query: EventQuery,
    period: Period,
    wanted: dict[int, bool],
    *,
    grain_seconds: int,
) -> dict[datetime, list[int]]:
    """Give the wanted dimension sets used in the period by the start of their rollups."""
    is_unpriced = query.basis is Basis.UNPRICED
    rolled = list_rolled_up(session, period, grain_seconds=grain_seconds, is_unpriced=is_unpriced)
    _judge(session, query, {set_id for _, set_id in rolled}, wanted)
    used: dict[datetime, list[int]] = {}
    for starts_at, set_id in rolled:
        if wanted[set_id]:
            used.setdefault(starts_at, []).append(set_id)
    return used


def _judge(
    session: Session, query: EventQuery, set_ids: Collection[int], wanted: dict[int, bool]
) -> None:
    """Note of each dimension set whether the filters may admit usage that counts under it."""
    unknown = set(set_ids) - wanted.keys()
    for set_id, dimensions in find_dimension_sets(session, unknown).items():
        wanted[set_id] = all(
            condition.admits(_rolled_value(dimensions, condition.dimension))
            # A tag that is not rolled up is told by the usage alone.
            or condition.dimension.startswith("tag:")
            for condition in query.filters
        )


def _rolled_value(dimensions: DimensionSet, name: str) -> str | None:
    if name == "is_retry":
        return str(dimensions.is_retry).lower()
    return dimensions.value(name)


def _period_before(query: EventQuery, before: tuple[datetime, int] | None) -> Period | None:
    """Give the part of the period that pages before have not walked through; None at its end."""
    period = query.period
    if period is None or before is None:
        return period
    # A place with id 0 is the end of a quarter-hour that was walked through.
    behind = before[0] + timedelta.resolution if before[1] else before[0]
    end = min(period.end, behind)
    return Period(period.start, end) if period.start < end else None


def _page(
    records: Sequence[EventRecord],
    query: EventQuery,
    *,
    is_last: bool,
    stopped_at: tuple[datetime, int] | None = None,
) -> EventPage:
    if is_last:
        return EventPage(list(records))
    place = stopped_at or _place(records[-1])
    cursor = encode_cursor([_fingerprint(query), to_micros(place[0]), place[1]])
    return EventPage(list(records), cursor)


def _decode_place(query: EventQuery) -> tuple[datetime, int] | None:
    if query.cursor is None:
        return None
    fingerprint, micros, usage_id = decode_cursor(query.cursor, length=CURSOR_LENGTH)
    is_place = isinstance(micros, int) and isinstance(usage_id, int)
    if fingerprint != _fingerprint(query) or not is_place:
        raise InvalidInput("cursor belongs to another question", field="cursor")
    return from_micros(int(micros or 0)), int(usage_id or 0)


def _fingerprint(query: EventQuery) -> str:
    """Give what tells this question from others, whatever page of it is asked for."""
    question = replace(query, limit=1, cursor=None)
    return hashlib.sha256(repr(question).encode()).hexdigest()[:16]


def _place(record: EventRecord) -> tuple[datetime, int]:
    return record.occurred_at, record.usage_id


def _identity(record: EventRecord) -> tuple[str, str]:
    return record.source, record.event_ref


def _revision(record: EventRecord) -> int:
    return record.revision
