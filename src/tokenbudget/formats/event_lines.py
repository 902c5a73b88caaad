"""Lines of JSON as columns of events, for ``event_tables.py`` to check.

It owns decoding each line by the wire shape. It refuses to say why a line is no event: that is an
empty row here, and ``events.py`` knows why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import polars as pl

from tokenbudget.formats.event_tables import MAX_COLUMNS, SWITCHES, TEXTS, EventColumns
from tokenbudget.formats.events import EventShape
from tokenbudget.formats.wire import UNREADABLE

StoredInt = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
# Instants are read as columns, which is many times quicker than one by one.
READ_OTHERWISE: Final[Mapping[str, Any]] = {
    "occurred_at": str,
    "usage": dict[str, StoredInt | None] | None,
}
KEPT_TEXTS: Final = frozenset({*TEXTS, "occurred_at"})
GROUPS: Final = ("usage", "tags")
LINES_AT_ONCE: Final = 1_000
"""So many lines stay in the processor's cache as objects; a whole piece takes twice the time."""


def _line_shape() -> type[msgspec.Struct]:
    fields: list[Any] = []
    for field in msgspec.structs.fields(EventShape):
        kind = READ_OTHERWISE.get(field.name, field.type)
        if field.required:
            fields.append((field.name, kind))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.name, kind, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, kind, field.default))
    return msgspec.defstruct("LineShape", fields, forbid_unknown_fields=True, kw_only=True)


_decoder: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_line_shape())
_NOTHING: Final = (None,) * len(EventShape.__struct_fields__)


def line_columns(lines: Sequence[bytes]) -> EventColumns:
    """Give the lines, one at least, as columns, in order; a line that is no event is an empty row.

    What no line of them says may have no column.
    """
    parts = [
        _columns(lines[first : first + LINES_AT_ONCE])
        for first in range(0, len(lines), LINES_AT_ONCE)
    ]
    return EventColumns(pl.concat(parts, how="diagonal", rechunk=True), frozenset())


def _columns(lines: Sequence[bytes]) -> pl.DataFrame:
    rows = [_values(line) for line in lines]
    values = dict(zip(EventShape.__struct_fields__, zip(*rows, strict=True), strict=True))
    columns: list[pl.Series] = []
    for name, cells in values.items():
        if name in GROUPS:
            columns.extend(_members(name, cells))
        elif name in KEPT_TEXTS:
            columns.append(pl.Series(name, cells, dtype=pl.String))
        elif name in SWITCHES:
            columns.append(pl.Series(name, cells, dtype=pl.Boolean))
        elif name == "reported_cost":
            texts = [None if cell is None else str(cell) for cell in cells]
            columns.append(pl.Series(name, texts, dtype=pl.String))
        elif name in ("attempt", "revision", "latency_ms", "time_to_first_token_ms"):
            columns.append(pl.Series(name, cells, dtype=pl.Int64))
        else:
            columns.append(_presence(name, cells))
    return pl.DataFrame(columns)


def with_source(line: bytes, source: str) -> bytes:
    """Give the line with the source it does not name itself; unreadable lines stay as they are."""
    try:
        event = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return line
    if bytes(event.get("source", msgspec.Raw(b"null"))) != b"null":
        return line
    event["source"] = msgspec.Raw(msgspec.json.encode(source))
    return msgspec.json.encode(event)


def _values(line: bytes) -> Sequence[Any]:
    try:
        return msgspec.structs.astuple(_decoder.decode(line))
    except UNREADABLE:
        return _NOTHING


def _members(name: str, groups: Sequence[Mapping[str, Any] | None]) -> Iterable[pl.Series]:
    """Give a column for each name that is in any of the groups, or one that says there are more."""
    present = [group or {} for group in groups]
    inner = sorted(set().union(*present))
    if len(inner) > MAX_COLUMNS:
        yield _presence(name, groups)
        return
    dtype = pl.Int64() if name == "usage" else pl.String()
    for key in inner:
        yield pl.Series(f"{name}.{key}", [group.get(key) for group in present], dtype=dtype)


def _presence(name: str, cells: Sequence[object]) -> pl.Series:
    return pl.Series(name, [None if cell is None else True for cell in cells], dtype=pl.Boolean)
