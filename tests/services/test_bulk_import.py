"""Importing by the table is importing one by one, only quicker; and it can be interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.builders import (
    broken_rules,
    contents,
    hold_cents,
    make_budget,
    make_event,
    make_events,
    record,
    rows_of,
    set_budgets,
    standings,
    table_away,
)
from tests.conftest import FrozenClock
from tests.services.import_cases import (
    finish_by_table,
    import_by_table,
    import_one_by_one,
    ledger_view,
)
from tests.store_fixtures import make_services, open_sqlite
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.errors import Conflict
from tokenbudget.formats import event_files
from tokenbudget.services.bulk_import import Counts, begin_import, door_of
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.piece_reading import prepare_piece
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.import_tables import EventImportRow
from tokenbudget.store.tables import AlertRow, ChargeRow, PeriodCloseRow, UsageRow

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BUDGETS = (
    make_budget(id="all", limit="0.05"),
    make_budget(id="teams", split_by=["team"], window="day", unit="tokens", limit="1000000"),
    make_budget(id="acme", selector={"tenant": ["acme"]}, unit="requests", limit="2"),
)
EVENT_IDS = ("e1", "e2", "e3", "e4", "e5", 'q"e', "é5")
INSTANTS = (
    "2026-11-20T12:00:00Z",
    "2026-11-20T11:59:59.25Z",
    "2026-11-19T23:59:59.999999Z",
    "2026-11-20T13:30:00+02:00",
    "2026-11-20T12:00:00.1234567Z",
    "2026-11-20T12:00:00",
    "2026-11-20t12:00:00z",
    "2026-11-20T12:30:00Z",
    "2027-11-20T12:00:00Z",
    "1969-12-31T23:59:59Z",
    "2026-02-30T12:00:00Z",
)
TEXTS = st.sampled_from((None, "x", "two words", 'a "quoted" one', "back\\slash", "ü", "tab\t", ""))
UNITS = st.sampled_from(
    (
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "cache_write_5m_tokens",
        "reasoning_tokens",
        "input_audio_tokens",
        "requests",
        "images",
        "nonsense",
    )
)
COUNTS = st.sampled_from((None, 0, 1, 10, 5_000, 20_000, 250_000, 10**8, 10**8 + 1, -1))
USAGES = st.one_of(
    st.just({"input_tokens": 10_000, "output_tokens": 5_000}),
    st.just({"input_tokens": 10_000, "output_tokens": 5_000, "requests": 3, "images": 0}),
    st.dictionaries(UNITS, COUNTS, max_size=4),
    st.none(),
)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give the strategy's values, and none most of the time."""
    return st.one_of(st.none(), st.none(), values)


EVENTS = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from((*EVENT_IDS, *EVENT_IDS, None)),
        "occurred_at": st.sampled_from((*INSTANTS[:3] * 4, *INSTANTS)),
        "provider": st.sampled_from(("acme", "acme", "ACME", "reseller", "nobody")),
        "model": st.sampled_from(("plain", "plain", "stepped", "caching", "dated", "unknown")),
        "usage": USAGES,
    },
    optional={
        "source": st.sampled_from((None, "a", "b")),
        "operation": TEXTS,
        "service_tier": st.sampled_from((None, "standard", "batch")),
        "account": TEXTS,
        "status": st.sampled_from(("ok", "error")),
        "attempt": st.sampled_from((1, 2, 0)),
        "operation_id": TEXTS,
        "response_id": optional(st.sampled_from(("r1", "r2", "r3", "r4", "r5"))),
        "trace_id": TEXTS,
        "span_id": optional(st.sampled_from(("s1", "s2"))),
        "request_model": TEXTS,
        "latency_ms": st.sampled_from((None, 0, 812, -1)),
        "cache_hit": st.sampled_from((False, False, True)),
        "tags": st.one_of(
            st.just({"team": "growth", "tenant": "acme"}),
            st.dictionaries(
                st.sampled_from(("team", "feature", "tenant", "user", "colour", 'a"b')),
                TEXTS,
                max_size=4,
            ),
        ),
        "revision": st.sampled_from((0, 0, 0, 1, 2)),
        "void": st.sampled_from((False, False, True)),
        "reported_cost": st.sampled_from((None, "0.50", "1e3", "nonsense")),
        "text": optional(st.just("hello there")),
        "unheard_of": optional(st.just(1)),
    },
)


def without_absent(event: dict[str, Any]) -> dict[str, Any]:
    """Give the event without ids that are none, which have to be absent."""
    return {name: value for name, value in event.items() if value is not None}


@contextmanager
def two_ledgers(template: Path) -> Iterator[tuple[Ledger, Ledger, Path]]:
    """Give two equal ledgers on SQLite with some budgets, and a directory."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        ledgers = []
        for number in (1, 2):
            path = directory / f"ledger-{number}.db"
            shutil.copyfile(template, path)
            database = open_sqlite(path)
            set_budgets(database, *BUDGETS, now=NOW)
            ledgers.append(make_ledger(make_services(database, FrozenClock(NOW), directory)))
        yield ledgers[0], ledgers[1], directory
        for ledger in ledgers:
            ledger.database.close()


def write_lines(path: Path, events: list[dict[str, Any]]) -> Path:
    """Write the events as JSONL and give the file."""
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    return path


@settings(
    max_examples=40,
    deadline=None,
    # Making a failing case smaller takes minutes; the case as found says enough.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files=st.lists(st.lists(EVENTS.map(without_absent), max_size=9), min_size=1, max_size=3))
def test_both_ways_make_the_same_ledger_and_the_same_answers(
    files: list[list[dict[str, Any]]], sqlite_template: Path
) -> None:
    with two_ledgers(sqlite_template) as (by_table, one_by_one, directory):
        for number, events in enumerate(files):
            path = write_lines(directory / f"{number}.jsonl", events)
            told = import_by_table(by_table, path, fingerprint=str(number))
            assert told == import_one_by_one(one_by_one, path)
        assert ledger_view(by_table.database) == ledger_view(one_by_one.database)
        assert broken_rules(by_table.database) == []


def dump_table(path: Path, events: list[dict[str, Any]]) -> Path:
    """Write the events as a table of the format of the suffix and give the file."""
    rows = [
        {
            **{name: value for name, value in event.items() if not isinstance(value, dict)},
            **{f"usage.{unit}": count for unit, count in event["usage"].items()},
            **{f"tags.{name}": tag for name, tag in event["tags"].items()},
        }
        for event in events
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


def mixed_events() -> list[dict[str, Any]]:
    """Give events of many kinds: plain ones, odd ones, and some at fault."""
    usual = make_events(6)
    told_twice = make_event(event_id="e8", response_id="r1")
    return [
        *usual,
        make_event(event_id="e7", attempt=2, latency_ms=812, reported_cost="0.50"),
        told_twice,
        {**told_twice, "event_id": "e9"},
        make_event(event_id="e1"),
        make_event(event_id="e2", usage={"input_tokens": 7}),
        make_event(event_id="e10", provider="nobody", usage={"input_tokens": 7, "images": 2}),
        make_event(event_id='e"11', tags={"team": "growth", "user": "u-1", "colour": "red"}),
        make_event(event_id="e12", tags={"feature": "summarise", "user": "u-2"}),
        make_event(event_id="e13", usage={"input_tokens": 1, "cached_input_tokens": 2}),
        make_event(event_id="e14", occurred_at="2026-11-19T23:59:59.5Z"),
        make_event(event_id="e15", occurred_at="2026-11-20T12:00:00"),
        make_event(event_id="e16", occurred_at="2026-11-20T18:00:00Z"),
        make_event(event_id="e3", revision=1, usage={"input_tokens": 20_000}),
        make_event(event_id="e17", cache_hit=True),
        make_event(event_id="e18", usage={"input_tokens": 300_000}, model="stepped"),
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_event_ends_as_if_recorded_one_by_one(
    ledger: Ledger, sqlite_template: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"events{suffix}"
    if suffix == ".jsonl":
        write_lines(path, mixed_events())
    else:
        dump_table(path, mixed_events())
    set_budgets(ledger.database, *BUDGETS, now=NOW)
    with two_ledgers(sqlite_template) as (one_by_one, _, _):
        expected = import_one_by_one(one_by_one, path)
        view = ledger_view(one_by_one.database)

    told = import_by_table(ledger, path)

    assert told == expected
    assert ledger_view(ledger.database) == view
    assert broken_rules(ledger.database) == []


def test_an_imported_event_that_is_sent_again_is_a_duplicate(
    ledger: Ledger, tmp_path: Path
) -> None:
    events = make_events(3)
    import_by_table(ledger, write_lines(tmp_path / "events.jsonl", events))

    answer = record(ledger, *events, make_event(event_id="e2", usage={"input_tokens": 1}))

    assert (answer.accepted, answer.duplicates) == (0, 3)
    assert [rejection.code for rejection in answer.rejected] == ["conflict"]


def test_events_that_were_sent_before_are_duplicates_of_an_import(
    ledger: Ledger, tmp_path: Path
) -> None:
    record(ledger, *make_events(2))
    path = write_lines(tmp_path / "events.jsonl", make_events(4))

    counts, _ = import_by_table(ledger, path)

    assert (counts.accepted, counts.duplicates) == (2, 2)
    assert broken_rules(ledger.database) == []


def test_another_witness_of_a_call_is_evidence(ledger: Ledger, tmp_path: Path) -> None:
    record(ledger, make_event(event_id="sdk", response_id="r1"))
    path = write_lines(
        tmp_path / "events.jsonl",
        [make_event(event_id="log", response_id="r1"), make_event(event_id="e2")],
    )

    counts, faults = import_by_table(ledger, path)

    assert (counts.accepted, faults) == (2, [])
    assert len(rows_of(ledger.database, ChargeRow)) == 2
    assert broken_rules(ledger.database) == []


def test_a_hold_is_settled_by_an_imported_event(ledger: Ledger, tmp_path: Path) -> None:
    set_budgets(ledger.database, make_budget(), now=NOW)
    hold_id = hold_cents(ledger, 5)
    path = write_lines(tmp_path / "events.jsonl", [make_event(hold_id=hold_id)])

    import_by_table(ledger, path)

    assert standings(ledger.database, now=NOW) == {("all",): (20_000_000, 0)}


def test_crossing_a_threshold_raises_one_alert(ledger: Ledger, tmp_path: Path) -> None:
    budget = make_budget(limit="0.10", thresholds=[0.5, 0.8])
    set_budgets(ledger.database, budget, now=NOW)

    import_by_table(ledger, write_lines(tmp_path / "events.jsonl", make_events(4)))

    alerts = rows_of(ledger.database, AlertRow)
    assert sorted(alert["threshold"] for alert in alerts) == ["0.5", "0.8"]


def test_what_falls_into_closed_accounts_is_late(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.database.transaction() as session:
        insert_rows(session, PeriodCloseRow, [{"closed_before": 202611, "recorded_at": NOW}])
    late = make_event(event_id="late", occurred_at="2026-10-31T23:59:59Z")
    path = write_lines(tmp_path / "events.jsonl", [late, make_event()])

    counts, _ = import_by_table(ledger, path)

    charges = rows_of(ledger.database, ChargeRow)
    assert counts.accepted == 2
    assert {row["accounting_period"] for row in charges} == {202611}
    assert {row["flags"] for row in charges} == {None, "late"}


def test_an_interrupted_import_goes_on_where_it_stopped(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "ROWS_PER_PIECE", 4)
    path = write_lines(tmp_path / "events.jsonl", make_events(10))
    importing = begin_import(ledger, "f", "events.jsonl")
    pieces = event_files.read_pieces(path)
    door = door_of(ledger, timedelta(days=1))
    importing.record(prepare_piece(next(iter(pieces)), door), door)

    again = begin_import(ledger, "f", "events.jsonl")
    counts, _ = finish_by_table(again, path)

    assert importing.counts == Counts(last_row=4, accepted=4)
    assert counts == Counts(last_row=10, accepted=10)
    assert len(rows_of(ledger.database, UsageRow)) == 10
    assert broken_rules(ledger.database) == []


def test_a_piece_is_kept_whole_with_its_progress_or_not_at_all(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "events.jsonl", make_events(3))
    before = contents(ledger.database)

    with table_away(ledger.database, "event_imports"), pytest.raises(Exception, match="event_imp"):
        import_by_table(ledger, path)

    assert contents(ledger.database) == before
    assert import_by_table(ledger, path)[0].accepted == 3


def test_two_imports_of_one_file_at_once_do_not_both_go_on(
    ledger: Ledger, other_ledger: Ledger, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "events.jsonl", make_events(3))
    late = begin_import(other_ledger, "f", "events.jsonl")
    import_by_table(ledger, path)

    with pytest.raises(Conflict, match="another process is importing this file"):
        finish_by_table(late, path)

    assert len(rows_of(ledger.database, UsageRow)) == 3


def test_a_finished_import_has_nothing_left_to_do(ledger: Ledger, tmp_path: Path) -> None:
    import_by_table(ledger, write_lines(tmp_path / "events.jsonl", make_events(3)))

    again = begin_import(ledger, "f", "events.jsonl")

    assert again.is_finished
    assert again.counts.accepted == 3


def test_a_finished_import_with_faults_begins_again(
    ledger: Ledger, clock: FrozenClock, tmp_path: Path
) -> None:
    future = make_event(event_id="future", occurred_at="2026-11-23T12:00:00Z")
    path = write_lines(tmp_path / "events.jsonl", [make_event(), future])
    first, faults = import_by_table(ledger, path)
    clock.advance(days=4)

    second, later_faults = import_by_table(ledger, path)

    assert (first.accepted, first.rejected, len(faults)) == (1, 1, 1)
    assert (second.accepted, second.duplicates, later_faults) == (1, 1, [])
    [row] = rows_of(ledger.database, EventImportRow)
    assert (row["accepted"], row["rejected"]) == (1, 0)


def test_two_workers_may_import_the_same_events(
    postgres_database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    services = make_services(postgres_database, clock, tmp_path)
    path = write_lines(tmp_path / "events.jsonl", make_events(400))
    ledgers = [make_ledger(services) for _ in range(2)]

    with ThreadPoolExecutor(2) as pool:
        told = list(
            pool.map(lambda ledger: import_by_table(ledger, path, str(id(ledger))), ledgers)
        )

    accepted = sum(counts.accepted for counts, _ in told)
    duplicates = sum(counts.duplicates for counts, _ in told)
    assert (accepted, duplicates) == (400, 400)
    assert broken_rules(postgres_database) == []
