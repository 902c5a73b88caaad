"""Mapping files: another log's columns under our names, and entries that make no sense refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.column_mapping import load_mapping

WHOLE = """
[event]
event_id = "id"
occurred_at = "ts"
provider = { constant = "acme" }
model = "model"

[usage]
input_tokens = "in"
"""
ROW: dict[str, Any] = {"id": "a", "ts": "2026-11-20T12:00:00Z", "model": "plain", "in": 5}


def mapped(directory: Path, text: str, *rows: dict[str, Any]) -> pl.DataFrame:
    """Give what a mapping makes of rows."""
    path = directory / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return load_mapping(path).reshape(frame, range(1, 1 + len(rows)), file_id="f1")


def with_entry(entry: str) -> str:
    """Give the whole mapping with one entry of the event replaced or added."""
    name = entry.partition(" ")[0]
    lines = [line for line in WHOLE.splitlines() if not line.startswith(f"{name} ")]
    lines.insert(lines.index("[event]") + 1, entry)
    return "\n".join(lines)


def instants(directory: Path, entry: str, *cells: Any) -> list[Any]:
    """Give the instants that an entry makes of cells of ``ts``."""
    rows = [{**ROW, "ts": cell} for cell in cells]
    return mapped(directory, with_entry(entry), *rows)["occurred_at"].to_list()


def test_columns_come_under_the_names_of_events(tmp_path: Path) -> None:
    frame = mapped(tmp_path, WHOLE, ROW)

    assert frame.to_dicts() == [
        {
            "event_id": "a",
            "occurred_at": "2026-11-20T12:00:00Z",
            "provider": "acme",
            "model": "plain",
            "usage.input_tokens": 5,
        }
    ]


def test_a_template_joins_columns_and_is_absent_where_one_of_them_is(tmp_path: Path) -> None:
    text = with_entry('event_id = { template = "{id}/{in}!" }')

    frame = mapped(tmp_path, text, ROW, {**ROW, "id": None}, {**ROW, "id": ""})

    assert frame["event_id"].to_list() == ["a/5!", None, None]


def test_events_can_be_known_by_their_row(tmp_path: Path) -> None:
    frame = mapped(tmp_path, with_entry("event_id = { row_number = true }"), ROW, ROW)

    assert frame["event_id"].to_list() == ["f1:1", "f1:2"]


def test_a_default_stands_where_nothing_is(tmp_path: Path) -> None:
    text = with_entry('model = { column = "model", default = "usual" }')

    frame = mapped(tmp_path, text, ROW, {**ROW, "model": None}, {**ROW, "model": ""})

    assert frame["model"].to_list() == ["plain", "usual", "usual"]


def test_members_of_structures_are_named_with_dots(tmp_path: Path) -> None:
    text = WHOLE.replace('"in"', '"usage.tokens.in"')

    frame = mapped(tmp_path, text, {**ROW, "usage": {"tokens": {"in": 7}}})

    assert frame["usage.input_tokens"].to_list() == [7]


def test_units_can_be_sums(tmp_path: Path) -> None:
    text = WHOLE.replace('"in"', '{ sum = ["in", "cached"] }')
    rows: list[dict[str, Any]] = [
        {"in": 5, "cached": "2"},
        {"in": None, "cached": "2"},
        {"in": None, "cached": None},
    ]

    frame = mapped(tmp_path, text, *({**ROW, **row} for row in rows))

    assert frame["usage.input_tokens"].to_list() == [7, 2, None]


@pytest.mark.parametrize(
    ("unit", "cells"),
    [
        ("s", [1763640000, 1763640000.25, None]),
        ("s", ["1763640000", "1763640000.25", None]),
        ("ms", [1763640000000, 1763640000250, None]),
        ("us", [1763640000000000, 1763640000250000, None]),
        ("ns", [1763640000000000999, 1763640000250000999, None]),
    ],
)
def test_instants_can_be_counted_from_1970(tmp_path: Path, unit: str, cells: list[Any]) -> None:
    entry = f'occurred_at = {{ column = "ts", unit = "{unit}" }}'
    rows = [{**ROW, "ts": cell} for cell in cells]
    frame = mapped(tmp_path, with_entry(entry), *rows)

    assert frame["occurred_at"].to_list() == [
        "2025-11-20T12:00:00.000000Z",
        "2025-11-20T12:00:00.250000Z",
        None,
    ]


def test_what_is_no_number_of_a_unit_stays_as_it_is(tmp_path: Path) -> None:
    entry = 'occurred_at = { column = "ts", unit = "s" }'

    assert instants(tmp_path, entry, "noon") == ["noon"]


def test_instants_can_have_a_format_and_a_zone(tmp_path: Path) -> None:
    entry = 'occurred_at = { column = "ts", format = "%d/%m/%Y %H:%M", timezone = "Europe/Berlin" }'

    assert instants(tmp_path, entry, "20/11/2026 13:00", "20/07/2026 13:00", "noon") == [
        "2026-11-20T12:00:00.000000Z",
        "2026-07-20T11:00:00.000000Z",
        "noon",
    ]


def test_a_format_may_read_the_offset(tmp_path: Path) -> None:
    entry = 'occurred_at = { column = "ts", format = "%Y-%m-%d %H:%M %z" }'

    assert instants(tmp_path, entry, "2026-11-20 13:00 +0100") == ["2026-11-20T12:00:00.000000Z"]


def test_instants_of_a_table_keep_their_zone_or_get_that_of_the_entry(tmp_path: Path) -> None:
    entry = 'occurred_at = { column = "ts", timezone = "Europe/Berlin" }'

    [aware] = instants(tmp_path, entry, datetime(2026, 11, 20, 12, tzinfo=UTC))
    [local] = instants(tmp_path, entry, datetime(2026, 11, 20, 13))  # noqa: DTZ001

    assert aware == local == datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "cell", "milliseconds"),
    [("s", 0.812, 812), ("s", "1", 1000), ("ms", 7, 7), ("us", 2500, 2), ("ns", 3_000_000, 3)],
)
def test_durations_are_given_in_milliseconds(
    tmp_path: Path, unit: str, cell: Any, milliseconds: int
) -> None:
    text = with_entry(f'latency_ms = {{ column = "took", unit = "{unit}" }}')

    assert mapped(tmp_path, text, {**ROW, "took": cell})["latency_ms"].to_list() == [milliseconds]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[event", "not readable TOML: "),
        ("[things]", "things: there are the tables event, usage, tags"),
        ("event = 5", "event: there are the tables event, usage, tags"),
        (with_entry('colour = "c"'), "event.colour: an event has no such field"),
        (with_entry('usage = "c"'), "event.usage: an event has no such field"),
        (WHOLE.replace("input_tokens", "tokens"), "usage.tokens: is not a known unit"),
        (with_entry("model = 5"), "event.model: must be the name of a column or a table"),
        (with_entry("model = { columns = 5 }"), "event.model: 'columns' is not known; there are "),
        (with_entry("model = { }"), "event.model: exactly one of column, constant, "),
        (
            with_entry('model = { column = "a", constant = "b" }'),
            "event.model: exactly one of column, constant, ",
        ),
        (with_entry("model = { column = 5 }"), "event.model: column must be a text"),
        (with_entry('model = ""'), "event.model: column must be a text"),
        (
            with_entry("model = { constant = 5.5 }"),
            "event.model: constant must be a text, a whole number, true or false",
        ),
        (WHOLE.replace('"in"', "{ sum = [] }"), "usage.input_tokens: sum must be a list of col"),
        (WHOLE.replace('"in"', "{ sum = [5] }"), "usage.input_tokens: sum must be a list of col"),
        (with_entry('model = { sum = ["a"] }'), "event.model: only units can be sums"),
        (
            with_entry("model = { row_number = true }"),
            "event.model: only event_id can have row_number, which must be true",
        ),
        (
            with_entry("event_id = { row_number = false }"),
            "event.event_id: only event_id can have row_number, which must be true",
        ),
        (
            with_entry('model = { column = "a", unit = "s" }'),
            "event.model: only times have a unit",
        ),
        (
            with_entry('occurred_at = { column = "a", unit = "h" }'),
            "event.occurred_at: unit must be one of s, ms, us, ns",
        ),
        (
            with_entry('latency_ms = { column = "a", format = "%H" }'),
            "event.latency_ms: only occurred_at has a format and a timezone",
        ),
        (
            with_entry('occurred_at = { column = "a", unit = "s", format = "%H" }'),
            "event.occurred_at: unit is of numbers and format of texts; give one of them",
        ),
        (
            with_entry('occurred_at = { column = "a", timezone = "Mars/Base" }'),
            "event.occurred_at: timezone 'Mars/Base' is not an IANA zone",
        ),
        (
            with_entry('event_id = { template = "{id" }'),
            "event.event_id: template: expected '}' before end of string",
        ),
        (
            with_entry('event_id = { template = "fixed" }'),
            "event.event_id: template must name a column, like {request_id}",
        ),
        (
            with_entry('event_id = { template = "{}" }'),
            "event.event_id: template must name a column, like {request_id}",
        ),
        (WHOLE.replace('model = "model"', ""), "event.model is missing"),
        (
            WHOLE.replace('input_tokens = "in"', ""),
            "usage: a unit is needed, such as input_tokens",
        ),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(BadFile) as caught:
        load_mapping(path)

    assert caught.value.detail.startswith(f"{path}: {fault}")


def test_a_mapping_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        load_mapping(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", ["gone", "ts.inner", "usage.gone"])
def test_a_column_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile) as caught:
        mapped(tmp_path, WHOLE.replace('"in"', f'"{name}"'), {**ROW, "usage": {"in": 1}})

    fault = f"{tmp_path / 'mapping.toml'}: usage.input_tokens: the log has no column '{name}'"
    assert caught.value.detail == fault
