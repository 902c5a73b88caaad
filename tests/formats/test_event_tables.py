"""Plain rows of a table are events as they are read one by one; all others are left to that."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.usage import UNITS, UsageEvent, find_fault
from tokenbudget.formats.event_files import LinePiece, Piece, read_pieces
from tokenbudget.formats.event_lines import line_columns
from tokenbudget.formats.event_tables import EventColumns, plain_events
from tokenbudget.formats.events import Door, parse_objects

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DOOR = Door(now=NOON, future_tolerance=timedelta(days=1))
ROW: dict[str, Any] = {
    "event_id": "e1",
    "provider": "acme",
    "model": "plain",
    "occurred_at": "2026-11-20T12:00:00Z",
    "usage.input_tokens": 100,
    "usage.output_tokens": 0,
    "tags.team": "growth",
}
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "provider": "acme",
    "model": "plain",
    "occurred_at": "2026-11-20T12:00:00Z",
    "usage": {"input_tokens": 100},
}


def columns_of(*rows: dict[str, Any]) -> EventColumns:
    """Give rows as the columns of a table."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return EventColumns(frame, frozenset(frame.columns))


def is_plain(**cells: Any) -> bool:
    """Tell whether the usual row with these cells is plain."""
    return plain_events(columns_of({**ROW, **cells}), DOOR).height == 1


def compare(piece: Piece) -> int:
    """Make sure that plain rows are what is read one by one, and give how many there are."""
    plain = plain_events(piece.columns(), DOOR)
    items = piece.items(DOOR)
    for row in plain.iter_rows(named=True):
        event = items[row["place"]]
        assert isinstance(event, UsageEvent), (row, event)
        digest = blake2b(row["content"], digest_size=8).digest()
        assert event.content_hash == int.from_bytes(digest, "big", signed=True), row["content"]
        assert to_micros(event.occurred_at) == row["occurred_micros"]
        assert event.reported_nanos == row.get("reported_nanos")
        counts = {unit: row.get(f"usage.{unit}") for unit in UNITS}
        assert event.quantities == {u: count for u, count in counts.items() if count is not None}
        tags = {n[5:]: tag for n, tag in row.items() if n.startswith("tags.") and tag is not None}
        assert event.tags == tags
        told = (event.event_ref, event.operation, event.status, event.attempt, event.latency_ms)
        assert told == (
            row["event_id"],
            row.get("operation"),
            row.get("status") or "ok",
            row.get("attempt") or 1,
            row.get("latency_ms"),
        )
        plainest = replace(event, hold_id=None, revision=0, cache_hit=False, is_void=False)
        assert event == plainest
    return plain.height


TEXTS = st.one_of(st.none(), st.just("x"), st.text(max_size=4))
NUMBERS = st.one_of(st.none(), st.integers(-2, 2_000), st.sampled_from((10**8, 10**8 + 1, 2**70)))
LINES = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str),
        "provider": st.just("acme"),
        "model": TEXTS,
        "occurred_at": st.one_of(
            st.just("2026-11-20T12:00:00Z"),
            st.datetimes(
                datetime(1969, 12, 30),  # noqa: DTZ001
                datetime(2026, 11, 21),  # noqa: DTZ001
                timezones=st.sampled_from((UTC, datetime.strptime("+0530", "%z").tzinfo)),
            ).map(lambda instant: instant.isoformat()),
            TEXTS,
        ),
        "usage": st.one_of(
            st.just({"input_tokens": 5}),
            st.dictionaries(st.sampled_from(UNITS), NUMBERS, max_size=3),
        ),
    },
    optional={
        "source": TEXTS,
        "operation": TEXTS,
        "status": st.sampled_from(("ok", "error", None)),
        "attempt": NUMBERS,
        "latency_ms": NUMBERS,
        "revision": st.sampled_from((0, 0, 1)),
        "response_id": st.one_of(st.none(), st.uuids().map(str)),
        "reported_cost": st.sampled_from((None, 0.5, "0.50", "1e3", 7, "x", "1e40", "NaN")),
        "cache_hit": st.booleans(),
        "tags": st.dictionaries(st.text(max_size=3), TEXTS, max_size=3),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=5))
def test_plain_lines_are_the_events_that_are_read_one_by_one(events: list[dict[str, Any]]) -> None:
    lines = [json.dumps(event).encode() for event in events]

    compare(LinePiece(lines, range(1, 1 + len(lines))))


CELLS = st.sampled_from(
    (
        "",
        "0",
        "7",
        "007",
        "1.0",
        "1e2",
        " 1",
        "-1",
        "100000001",
        "99999999999",
        "true",
        "x",
        "ü",
        '"',
    )
)
CSV_ROWS = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str),
        "provider": st.sampled_from(("acme", "")),
        "model": st.sampled_from(("plain", "a,b")),
        "occurred_at": st.sampled_from(
            ("2026-11-20T12:00:00Z", "2026-11-20T11:00:00.5+01:00", "2026-11-20", "1763640000")
        ),
        "input_tokens": CELLS,
        "usage.output_tokens": st.one_of(st.just(""), CELLS),
        "attempt": st.one_of(st.just(""), CELLS),
        "team": CELLS,
        "tags.colour": CELLS,
        "cache_hit": st.sampled_from(("", "false", "true", "0")),
        "reported_cost": st.one_of(st.just(""), CELLS),
        "hold_id": st.sampled_from(("", "", "false")),
    }
)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(CSV_ROWS, min_size=1, max_size=5))
def test_plain_rows_of_a_csv_file_are_the_events_that_are_read_one_by_one(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "events.csv"
    pl.DataFrame(rows).write_csv(path)

    for piece in read_pieces(path):
        compare(piece)


def test_plain_rows_of_a_parquet_file_are_the_events_that_are_read_one_by_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame(
        {
            "event_id": ["a", "b", "c", "d", "e", "f"],
            "provider": pl.Series(["acme"] * 6, dtype=pl.Categorical),
            "model": ["plain"] * 6,
            "occurred_at": pl.Series([NOON - timedelta(seconds=n / 4) for n in range(6)]),
            "usage": [{"input_tokens": 5, "output_tokens": None}] * 5 + [None],
            "tags": [{"team": "x"}, {"team": None}, {"team": ""}, None, {"team": "y"}, None],
            "attempt": pl.Series([1, 2, None, 3, 1, 1], dtype=pl.UInt8),
            "latency_ms": [812.0, 0.5, None, float("nan"), -1.0, 2.0],
            "reported_cost": [0.5, None, 1e-7, float("inf"), 1e22, 3.0],
            "cache_hit": [False, None, True, False, False, False],
        }
    ).write_parquet(path)

    [piece] = read_pieces(path)

    assert compare(piece) == 1


@pytest.mark.parametrize(
    "cells",
    [
        {},
        {"usage.output_tokens": None},
        {"usage.input_tokens": "7"},
        {"usage.input_tokens": 7.0},
        {"occurred_at": "2026-11-20T13:00:00.123456+02:00"},
        {"occurred_at": NOON},
        {"attempt": 1000},
        {"revision": 0},
        {"source": None},
        {"cache_hit": False},
        {"cache_hit": "false"},
        {"void": False},
        {"reported_cost": "0.10"},
        {"reported_cost": Decimal("0.1")},
        {"hold_id": None},
        {"tags.user": "u" * 256},
        {"status": "error"},
        {"status": "ok", "usage.input_tokens": 0},
    ],
)
def test_the_usual_rows_are_plain(cells: dict[str, Any]) -> None:
    assert is_plain(**cells)


@pytest.mark.parametrize(
    "cells",
    [
        {"event_id": None},
        {"model": ""},
        {"model": 5},
        {"model": "m" * 257},
        {"operation": 'a "quoted" one'},
        {"operation": "back\\slash"},
        {"tags.team": "a\nb"},
        {'tags.a"b': "x"},
        {"tags.": "x"},
        {"tags.team": NOON},
        {"usage.input_tokens": -1},
        {"usage.input_tokens": 10**8 + 1},
        {"usage.input_tokens": "007"},
        {"usage.input_tokens": 0.5},
        {"usage.input_tokens": True},
        {"usage.cached_input_tokens": 101},
        {"usage.cache_write_tokens": 60, "usage.cached_input_tokens": 60},
        {"usage.reasoning_tokens": 1},
        {"usage.input_tokens": None, "usage.output_tokens": None},
        {"occurred_at": None},
        {"occurred_at": NOON.replace(tzinfo=None)},
        {"occurred_at": "2026-11-20T12:00:60Z"},
        {"occurred_at": "2026-02-30T12:00:00Z"},
        {"occurred_at": "2026-11-20T12:00:00.1234567Z"},
        {"occurred_at": NOON + timedelta(seconds=1)},
        {"occurred_at": "1969-12-31T23:59:59Z"},
        {"attempt": 0},
        {"revision": 1},
        {"cache_hit": True},
        {"cache_hit": 0},
        {"void": "true"},
        {"hold_id": "h1"},
        {"hold_id": "false"},
        {"span_id": "s1"},
        {"text": "hello"},
        {"reported_cost": "x"},
        {"reported_cost": "inf"},
        {"reported_cost": "1e19"},
        {"reported_cost": "1e18"},
        {"usage.nonsense": 1},
        {"status": "error", "usage.input_tokens": 0},
    ],
)
def test_odd_rows_are_left_to_be_read_one_by_one(cells: dict[str, Any]) -> None:
    assert not is_plain(**cells)


def test_rows_that_tell_of_the_same_event_or_response_are_not_plain() -> None:
    rows = [
        {**ROW, "event_id": "a", "source": None, "response_id": None},
        {**ROW, "event_id": "a", "source": "x", "response_id": None},
        {**ROW, "event_id": "b", "source": "x", "response_id": "r1"},
        {**ROW, "event_id": "c", "source": "x", "response_id": "r1"},
        {**ROW, "event_id": "d", "source": "x", "response_id": "r2"},
        {**ROW, "event_id": "d", "source": "x", "response_id": "r3"},
    ]

    assert plain_events(columns_of(*rows), DOOR)["event_id"].to_list() == ["a", "a"]


def test_a_table_that_is_too_wide_has_no_plain_rows() -> None:
    tags = {f"tags.t{number}": "x" for number in range(65)}

    assert not is_plain(**tags)
    assert not is_plain(**{f"usage.u{number}": None for number in range(65)}, **tags)


def test_lines_with_names_without_end_have_no_plain_rows() -> None:
    lines = [
        json.dumps({**EVENT, "tags": {f"t{part}-{number}": "x" for number in range(60)}}).encode()
        for part in range(5)
    ]

    assert plain_events(line_columns(lines), DOOR).is_empty()


def test_a_column_that_only_some_rows_fill_is_there_for_them() -> None:
    plain = plain_events(columns_of({**ROW, "region": "eu"}, {**ROW, "event_id": "e2"}), DOOR)

    assert plain["region"].to_list() == ["eu", None]
    assert "operation" not in plain.columns


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 30), min_size=1, max_size=5))
def test_counts_are_sound_exactly_when_the_domain_finds_no_fault(counts: dict[str, int]) -> None:
    cells = {f"usage.{unit}": count for unit, count in counts.items()}
    usual = {name: cell for name, cell in ROW.items() if not name.startswith("usage.")}
    found = plain_events(columns_of({**usual, **cells}), DOOR)
    fault = find_fault(counts)

    assert found.height == (fault is None)
    [item] = parse_objects([{**EVENT, "usage": counts}], DOOR)
    assert isinstance(item, UsageEvent) == (fault is None)
