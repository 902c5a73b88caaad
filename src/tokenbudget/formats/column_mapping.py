"""Mapping files: which columns of somebody else's log give which parts of an event.

It owns the TOML and what each entry does to a column. It refuses to judge values: what cannot be
converted stays as it was, so that ``events.py`` rejects the row by its own rules. An entry is the
name of a column, or a table of one of ``column``, ``constant``, ``template`` and ``sum``::

    [event]
    event_id = { template = "{request_id}-{attempt}" }   # or { row_number = true }
    occurred_at = { column = "ts", unit = "ms" }         # or format = "%d/%m/%Y", timezone = "…"
    provider = { constant = "openai" }
    model = { column = "model", default = "gpt-5-mini" }
    latency_ms = { column = "seconds", unit = "s" }

    [usage]
    input_tokens = { sum = ["prompt_tokens", "cached_tokens"] }
    output_tokens = "completion_tokens"

    [tags]
    team = "department"

A column inside of a structure is named with a dot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, Final

import polars as pl

from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.periods import zone
from tokenbudget.domain.usage import UNIT_SET
from tokenbudget.formats.event_files import EVENT_FIELDS
from tokenbudget.formats.toml_files import load_toml

SECTIONS: Final = ("event", "usage", "tags")
GIVERS: Final = ("column", "constant", "template", "sum", "row_number")
OPTIONS: Final = frozenset({*GIVERS, "default", "unit", "format", "timezone"})
NEEDED: Final = ("event_id", "occurred_at", "provider", "model")
UNMAPPED_FIELDS: Final = frozenset({"usage", "tags"})
MICROS: Final[Mapping[str, int]] = {"s": 1_000_000, "ms": 1_000}
PER_MICRO: Final[Mapping[str, int]] = {"us": 1, "ns": 1_000}
TIME_UNITS: Final = (*MICROS, *PER_MICRO)
DURATIONS: Final = frozenset({"latency_ms", "time_to_first_token_ms"})
INSTANT: Final = "occurred_at"
MICROS_PER_MILLISECOND: Final = 1_000
WIRE_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.6fZ"


@dataclass(frozen=True, slots=True)
class Entry:
    """How one part of an event is found. ``key`` is its name in the mapping file."""

    key: str
    target: str
    column: str | None = None
    constant: str | int | bool | None = None
    template: str | None = None
    summed: tuple[str, ...] = ()
    is_row_number: bool = False
    default: str | int | bool | None = None
    unit: str | None = None
    text_format: str | None = None
    timezone: str = "UTC"

    def columns(self) -> tuple[str, ...]:
        """Give the columns that the entry reads."""
        if self.column is not None:
            return (self.column,)
        if self.template is not None:
            return tuple(_names_in(self.template))
        return self.summed


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """A mapping file: its entries, and the text that identifies it."""

    path: Path
    text: str
    entries: tuple[Entry, ...]

    def reshape(self, frame: pl.DataFrame, rows: Sequence[int], *, file_id: str) -> pl.DataFrame:
        """Give the columns of events for those of a log.

        ``rows`` says where each row stands and ``file_id`` what identifies the file, for events
        known by their row. Raises BadFile naming the entry whose column is not there.
        """
        numbers = pl.Series("", list(rows), dtype=pl.Int64)
        return frame.select(
            self._given(entry, frame, numbers, file_id).alias(entry.target)
            for entry in self.entries
        )

    def _given(
        self, entry: Entry, frame: pl.DataFrame, numbers: pl.Series, file_id: str
    ) -> pl.Expr:
        if entry.is_row_number:
            return pl.concat_str(pl.lit(f"{file_id}:"), pl.lit(numbers).cast(pl.String))
        if entry.constant is not None:
            return pl.lit(entry.constant)
        cells = [self._cell(entry, name, frame) for name in entry.columns()]
        if entry.template is not None:
            return _filled(_formatted(entry.template, cells), entry)
        if entry.summed:
            return _filled(_summed(cells), entry)
        cell = cells[0]
        if entry.target == INSTANT:
            return _filled(_instant(cell, entry, frame.select(cell).to_series().dtype), entry)
        if entry.unit is not None:
            cell = _milliseconds(cell, entry.unit)
        return _filled(cell, entry)

    def _cell(self, entry: Entry, name: str, frame: pl.DataFrame) -> pl.Expr:
        """Give the column, or the member of a structure, of that name; blank cells are absent."""
        first, *inner = [name] if name in frame.columns else name.split(".")
        kind: object = frame.schema.get(first)
        cell = pl.col(first)
        for member in inner:
            members = dict(kind.to_schema()) if isinstance(kind, pl.Struct) else {}
            kind = members.get(member)
            cell = cell.struct.field(member)
        if kind is None:
            raise BadFile(f"{self.path}: {entry.key}: the log has no column {name!r}")
        return cell.replace("", None) if kind == pl.String else cell


def load_mapping(path: Path) -> ColumnMapping:
    """Give the mapping of a TOML file; raises BadFile naming the entry and the rule."""
    text, content = load_toml(path)
    try:
        entries = tuple(_entries(content))
        _require_whole(entries)
    except InvalidInput as error:
        raise BadFile(f"{path}: {error.detail}") from None
    return ColumnMapping(path, text, entries)


def _entries(content: Mapping[str, Any]) -> Iterable[Entry]:
    for section, members in content.items():
        if section not in SECTIONS or not isinstance(members, dict):
            raise InvalidInput(f"{section}: there are the tables {', '.join(SECTIONS)}")
        for name, given in members.items():
            yield _entry(section, name, given)


def _entry(section: str, name: str, given: object) -> Entry:
    key = f"{section}.{name}"
    _require_target(section, name, key)
    options = {"column": given} if isinstance(given, str) else given
    if not isinstance(options, dict):
        raise InvalidInput(f"{key}: must be the name of a column or a table")
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise InvalidInput(f"{key}: {unknown[0]!r} is not known; there are {', '.join(OPTIONS)}")
    givers = [option for option in GIVERS if option in options]
    if len(givers) != 1:
        raise InvalidInput(f"{key}: exactly one of {', '.join(GIVERS)} is needed")
    _require_texts(key, options)
    _require_fitting(section, name, key, options)
    return Entry(
        key=key,
        target=name if section == "event" else key,
        column=options.get("column"),
        constant=options.get("constant"),
        template=options.get("template"),
        summed=tuple(options.get("sum", ())),
        is_row_number=options.get("row_number", False),
        default=options.get("default"),
        unit=options.get("unit"),
        text_format=options.get("format"),
        timezone=options.get("timezone", "UTC"),
    )


def _require_target(section: str, name: str, key: str) -> None:
    if section == "event" and (name not in EVENT_FIELDS or name in UNMAPPED_FIELDS):
        raise InvalidInput(f"{key}: an event has no such field")
    if section == "usage" and name not in UNIT_SET:
        raise InvalidInput(f"{key}: is not a known unit")


def _require_texts(key: str, options: Mapping[str, Any]) -> None:
    for option in ("column", "template", "unit", "format", "timezone"):
        if option in options and not (isinstance(options[option], str) and options[option]):
            raise InvalidInput(f"{key}: {option} must be a text")
    for option in ("constant", "default"):
        if option in options and not isinstance(options[option], str | int | bool):
            raise InvalidInput(f"{key}: {option} must be a text, a whole number, true or false")
    summed = options.get("sum", ["-"])
    if not isinstance(summed, list) or not summed or not all(isinstance(x, str) for x in summed):
        raise InvalidInput(f"{key}: sum must be a list of columns")


def _require_fitting(section: str, name: str, key: str, options: Mapping[str, Any]) -> None:
    is_instant = section == "event" and name == INSTANT
    is_duration = section == "event" and name in DURATIONS
    if "sum" in options and section != "usage":
        raise InvalidInput(f"{key}: only units can be sums")
    if "row_number" in options and (name != "event_id" or options["row_number"] is not True):
        raise InvalidInput(f"{key}: only event_id can have row_number, which must be true")
    if "unit" in options and not (is_instant or is_duration):
        raise InvalidInput(f"{key}: only times have a unit")
    if options.get("unit", "s") not in TIME_UNITS:
        raise InvalidInput(f"{key}: unit must be one of {', '.join(TIME_UNITS)}")
    if ("format" in options or "timezone" in options) and not is_instant:
        raise InvalidInput(f"{key}: only {INSTANT} has a format and a timezone")
    if "unit" in options and "format" in options:
        raise InvalidInput(f"{key}: unit is of numbers and format of texts; give one of them")
    if "template" in options:
        _names_in(options["template"], key=key)
    try:
        zone(options.get("timezone", "UTC"))
    except InvalidInput as error:
        raise InvalidInput(f"{key}: {error.detail}") from None


def _names_in(template: str, *, key: str = "") -> list[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidInput(f"{key}: template: {error}") from None
    names = [name for _, name, _, _ in parts if name is not None]
    if not names or not all(names):
        raise InvalidInput(f"{key}: template must name a column, like {{request_id}}")
    return names


def _require_whole(entries: Sequence[Entry]) -> None:
    targets = [entry.target for entry in entries]
    for name in NEEDED:
        if name not in targets:
            raise InvalidInput(f"event.{name} is missing")
    measures = {"provider_usage", "text"}
    if not measures & set(targets) and not any(name.startswith("usage.") for name in targets):
        raise InvalidInput("usage: a unit is needed, such as input_tokens")


def _filled(cell: pl.Expr, entry: Entry) -> pl.Expr:
    return cell if entry.default is None else pl.coalesce(cell, pl.lit(entry.default))


def _formatted(template: str, cells: Sequence[pl.Expr]) -> pl.Expr:
    left = list(cells)
    pieces: list[pl.Expr] = []
    for text, name, _, _ in Formatter().parse(template):
        if text:
            pieces.append(pl.lit(text))
        if name is not None:
            pieces.append(left.pop(0).cast(pl.String))
    return pl.concat_str(pieces)


def _summed(cells: Sequence[pl.Expr]) -> pl.Expr:
    counts = [cell.cast(pl.Int64, strict=False) for cell in cells]
    is_told = pl.any_horizontal(count.is_not_null() for count in counts)
    return pl.when(is_told).then(pl.sum_horizontal(counts))


def _micros(cell: pl.Expr, unit: str) -> pl.Expr:
    """Give whole microseconds of a count of time units, null where it is no number."""
    whole = cell.cast(pl.Int64, strict=False)
    part = cell.cast(pl.Float64, strict=False)
    if unit in MICROS:
        exact, rounded = whole * MICROS[unit], (part * MICROS[unit]).round()
    else:
        exact, rounded = whole // PER_MICRO[unit], (part / PER_MICRO[unit]).round()
    is_whole = whole.cast(pl.Float64) == part
    return pl.when(is_whole).then(exact).otherwise(rounded.cast(pl.Int64, strict=False))


def _milliseconds(cell: pl.Expr, unit: str) -> pl.Expr:
    return _micros(cell, unit) // MICROS_PER_MILLISECOND


def _instant(cell: pl.Expr, entry: Entry, dtype: pl.DataType) -> pl.Expr:
    """Give the instant as the wire spells it; what cannot be read stays as it is."""
    if isinstance(dtype, pl.Datetime):
        return cell if dtype.time_zone else cell.dt.replace_time_zone(entry.timezone)
    if entry.unit is not None:
        known = _micros(cell, entry.unit).cast(pl.Datetime("us"))
    elif entry.text_format is not None:
        known = _parsed(cell.cast(pl.String), entry.text_format, entry.timezone)
    else:
        return cell
    return pl.coalesce(known.dt.to_string(WIRE_FORMAT), cell.cast(pl.String))


def _parsed(cell: pl.Expr, text_format: str, timezone: str) -> pl.Expr:
    if "%z" in text_format or "%:z" in text_format:
        zoned = cell.str.to_datetime(text_format, time_unit="us", strict=False)
    else:
        local = cell.str.to_datetime(text_format, time_unit="us", strict=False)
        zoned = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
