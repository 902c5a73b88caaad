"""Tables of usage events, checked a column at a time: the vectorised twin of ``events.py``.

It owns telling which rows are plain: surely accepted, by their columns alone, with the content that
``events.py`` would give them. It refuses to reject anything. A row that is not plain (odd numbers
or times, quotes in a text, a hold, a revision, a provider's own usage object, anything at fault) is
for ``events.py``, which reads it on its own and knows why it is refused; so a test that is too
strict here costs time and never an event. Rows that tell of the same event or the same response are
not plain either, since their order decides.

Columns of a table are named by where their cells go: ``model`` is a field of the event,
``usage.input_tokens`` a unit, ``tags.team`` a tag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, reduce
from operator import and_
from typing import Final

import msgspec
import polars as pl

from tokenbudget.domain.money import MAX_NANOS, decimal_to_nanos
from tokenbudget.domain.periods import EPOCH, to_micros
from tokenbudget.domain.usage import (
    CACHED_MODALITIES,
    INPUT_MODALITIES,
    INPUT_PARTS,
    MAX_QUANTITY,
    OK_STATUS,
    OUTPUT_MODALITIES,
    UNIT_SET,
    UNITS,
)
from tokenbudget.formats.events import MAX_TAGS, MAX_UNIT_EXPONENT, Door, EventShape

MAX_TEXT: Final = 256
MAX_COLUMNS: Final = 256
NEEDED_TEXTS: Final = ("provider", "model", "event_id")
TEXTS: Final = (
    *NEEDED_TEXTS,
    "source",
    "operation",
    "service_tier",
    "region",
    "account",
    "status",
    "operation_id",
    "trace_id",
    "response_id",
    "request_model",
)
COUNTS: Final[Mapping[str, tuple[int, int]]] = {
    "attempt": (1, 1000),
    "revision": (0, 0),
    "latency_ms": (0, 2**31 - 1),
    "time_to_first_token_ms": (0, 2**31 - 1),
}
SWITCHES: Final = ("cache_hit", "void")
"""What is plain as long as it is off."""
CONTAINMENTS: Final[Sequence[tuple[tuple[str, ...], str]]] = (
    (INPUT_PARTS, "input_tokens"),
    (INPUT_MODALITIES, "input_tokens"),
    *(((cached,), modality) for cached, modality in CACHED_MODALITIES.items()),
    (tuple(CACHED_MODALITIES), "cached_input_tokens"),
    (("reasoning_tokens",), "output_tokens"),
    (OUTPUT_MODALITIES, "output_tokens"),
)
"""Which parts a total holds, as ``domain/usage.py`` checks it."""

PLAIN_NUMBER: Final = r"^(0|[1-9][0-9]{0,9})$"
PLAIN_INSTANT: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})$"
)
INSTANT_FORMAT: Final = "%Y-%m-%dT%H:%M:%S%.f%:z"
ESCAPED: Final = r'["\\\x00-\x1f]'
"""What JSON writes otherwise than it is."""
_ESCAPED: Final = re.compile(ESCAPED)

TEXT_TYPES: Final = (pl.String, pl.Categorical, pl.Enum)
PLACE: Final = "place"
CONTENT: Final = "content"
OCCURRED: Final = "occurred_micros"
REPORTED: Final = "reported_nanos"
REPORTED_TEXT: Final = "reported_text"
FIELDS: Final = EventShape.__struct_fields__
_PARSED_NAMES: Final = {"occurred_at": OCCURRED, "reported_cost": REPORTED_TEXT}

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Cells of events under the names of where they go.

    In the columns of ``blank_is_absent`` an empty text says that nothing is there.
    """

    frame: pl.DataFrame
    blank_is_absent: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Column:
    """One column read as what it should be, null where nothing is, and where it is plain."""

    value: pl.Expr
    is_plain: pl.Expr


def plain_events(columns: EventColumns, door: Door) -> pl.DataFrame:
    """Give the rows that are plain, in their order, typed and with what identifies their content.

    ``place`` is the row of the frame, ``occurred_micros`` the time in microseconds since 1970,
    ``content`` (Binary) what ``events.py`` takes the content hash of, ``reported_nanos`` the
    emitter's own figure. The other columns keep their names; those with nothing in them are left
    out.
    """
    frame = columns.frame
    frame = frame.select(each for each in frame.get_columns() if each.null_count() < each.len())
    is_too_wide = frame.width > MAX_COLUMNS or sum(map(_is_tag, frame.columns)) > MAX_TAGS
    nothing = pl.DataFrame(schema={PLACE: pl.UInt32})
    if is_too_wide or not {*NEEDED_TEXTS, "occurred_at"} <= set(frame.columns):
        return nothing
    reads = {name: _read(name, frame[name], columns, door) for name in frame.columns}
    parsed = frame.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias(PLACE),
        *(read.value.alias(_PARSED_NAMES.get(name, name)) for name, read in reads.items()),
        is_plain=reduce(and_, (read.is_plain for read in reads.values()), _is_alone(frame)),
    )
    if "reported_cost" in frame.columns:
        parsed = _with_reported(parsed, frame["reported_cost"], columns)
    kept = parsed.filter(pl.col("is_plain") & _is_sound(parsed.columns)).drop("is_plain")
    if kept.is_empty():
        return nothing
    filled = [name for name in kept.columns if kept[name].null_count() < kept.height]
    return kept.select(filled).with_columns(content=_content(filled).cast(pl.Binary))


def _is_alone(frame: pl.DataFrame) -> pl.Expr:
    """Tell which rows, plain or not, share neither their event nor their response with another."""
    event = [
        pl.col(name).cast(pl.String, strict=False)
        for name in ("source", "event_id")
        if name in frame.columns
    ]
    is_alone = ~pl.struct(event).is_duplicated()
    if "response_id" in frame.columns:
        response = pl.col("response_id").cast(pl.String, strict=False)
        is_alone &= response.is_null() | (response == "") | ~response.is_duplicated()
    return is_alone


def _is_tag(name: str) -> bool:
    return name.startswith("tags.")


def _is_plain_tag(name: str) -> bool:
    return _is_tag(name) and 0 < len(name) - len("tags.") <= MAX_TEXT and not _ESCAPED.search(name)


def _read(name: str, cells: pl.Series, columns: EventColumns, door: Door) -> _Column:
    """Give how a column is read by its name and by what it holds."""
    cell = pl.col(name)
    is_text = isinstance(cells.dtype, TEXT_TYPES)
    if is_text:
        cell = cell.cast(pl.String)
        if name in columns.blank_is_absent:
            cell = cell.replace("", None)
    if name in TEXTS or _is_plain_tag(name):
        return _text(name, cell, is_text=is_text)
    if name in COUNTS:
        return _number(cell, cells.dtype, *COUNTS[name])
    if name.removeprefix("usage.") in UNITS and name not in FIELDS:
        return _number(cell, cells.dtype, 0, MAX_QUANTITY)
    if name == "occurred_at":
        return _instant(cell, cells.dtype, door)
    if name == "reported_cost":
        return _Column(pl.lit(None, dtype=pl.String), pl.lit(value=True))
    is_off = cell.is_null()
    if name in SWITCHES and (is_text or cells.dtype == pl.Boolean):
        is_off |= cell == ("false" if is_text else pl.lit(value=False))
    return _Column(pl.lit(None, dtype=pl.String), is_off)


def _text(name: str, cell: pl.Expr, *, is_text: bool) -> _Column:
    if not is_text:
        return _Column(pl.lit(None, dtype=pl.String), cell.is_null())
    is_short = cell.str.len_chars().is_between(1, MAX_TEXT)
    is_fine = is_short & ~cell.str.contains(ESCAPED)
    is_absent_fine = name not in NEEDED_TEXTS
    return _Column(cell, is_fine.fill_null(value=is_absent_fine))


def _number(cell: pl.Expr, dtype: pl.DataType, least: int, most: int) -> _Column:
    if dtype.is_integer():
        value = cell.cast(pl.Int64, strict=False)
    elif dtype.is_float():
        value = pl.when(cell.is_between(least, most) & (cell.floor() == cell)).then(cell)
        value = value.cast(pl.Int64, strict=False)
    elif isinstance(dtype, TEXT_TYPES):
        value = pl.when(cell.str.contains(PLAIN_NUMBER)).then(cell).cast(pl.Int64, strict=False)
    else:
        return _Column(pl.lit(None, dtype=pl.Int64), cell.is_null())
    return _Column(value, cell.is_null() | value.is_between(least, most).fill_null(value=False))


def _instant(cell: pl.Expr, dtype: pl.DataType, door: Door) -> _Column:
    if isinstance(dtype, TEXT_TYPES):
        zoned = cell.str.replace("Z$", "+00:00")
        known = zoned.str.to_datetime(INSTANT_FORMAT, time_unit="us", strict=False, exact=True)
        micros = pl.when(cell.str.contains(PLAIN_INSTANT)).then(known).dt.timestamp("us")
    elif isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        micros = cell.dt.timestamp("us")
    else:
        return _Column(pl.lit(None, dtype=pl.Int64), pl.lit(value=False))
    return _Column(micros, micros.is_between(0, to_micros(door.now)).fill_null(value=False))


def _with_reported(parsed: pl.DataFrame, cells: pl.Series, columns: EventColumns) -> pl.DataFrame:
    """Give the frame with the emitter's own figure as JSON writes it and in nanos."""
    told = cells.unique().drop_nulls().to_list()
    if "reported_cost" in columns.blank_is_absent:
        told = [cell for cell in told if cell != ""]
    if not told:
        return parsed
    figures = [_figure(cell) for cell in told]
    texts = [None if figure is None else figure[0] for figure in figures]
    nanos = [None if figure is None else figure[1] for figure in figures]
    is_told = cells.is_in(pl.Series(told, dtype=cells.dtype).implode())
    return parsed.with_columns(
        cells.replace_strict(told, texts, default=None, return_dtype=pl.String).alias(
            REPORTED_TEXT
        ),
        cells.replace_strict(told, nanos, default=None, return_dtype=pl.Int64).alias(REPORTED),
        is_told.fill_null(value=False).alias("is_told"),
    ).select(
        pl.exclude("is_told", "is_plain"),
        is_plain=pl.col("is_plain") & (~pl.col("is_told") | pl.col(REPORTED).is_not_null()),
    )


def _figure(cell: object) -> tuple[str, int] | None:
    """Give a reported cost as JSON writes it and in nanos, None where that is doubtful."""
    try:
        cost = msgspec.convert(cell, Decimal, strict=False)
    except msgspec.ValidationError:
        return None
    if not cost.is_finite() or cost.adjusted() > MAX_UNIT_EXPONENT:
        return None
    nanos = decimal_to_nanos(cost)
    return (str(cost.normalize()), nanos) if abs(nanos) <= MAX_NANOS else None


def _is_sound(names: Sequence[str]) -> pl.Expr:
    """Tell where the counts can be true, there is one at least, and a failed call used something.

    A call that failed without using anything is free whatever its price, which is for rating alone.
    """
    units = {name.removeprefix("usage."): pl.col(name) for name in names if _is_unit(name)}
    if not units:
        return pl.lit(value=False)
    is_sound = pl.any_horizontal(count.is_not_null() for count in units.values())
    if "status" in names:
        used_something = pl.any_horizontal(
            count.fill_null(0) > 0 for unit, count in units.items() if unit in UNIT_SET
        )
        is_sound &= (pl.col("status").fill_null(OK_STATUS) == OK_STATUS) | used_something
    for parts, total in CONTAINMENTS:
        held = [units[part].fill_null(0) for part in parts if part in units]
        if held:
            is_sound &= pl.sum_horizontal(held) <= (
                units[total].fill_null(0) if total in units else 0
            )
    return is_sound


def _is_unit(name: str) -> bool:
    return name.startswith("usage.")


def _content(names: Sequence[str]) -> pl.Expr:
    """Give the JSON that ``events.py`` would write of each row."""
    pieces: list[pl.Expr | str] = []
    for place, (field, default) in enumerate(_defaults().items()):
        pieces.append(("{" if place == 0 else ",") + f'"{field}":')
        pieces.append(_member(field, default, names))
    return pl.concat_str([*_merged(pieces), pl.lit("}")])


def _member(field: str, default: str, names: Sequence[str]) -> pl.Expr | str:
    if field == "usage":
        return _group([name for name in names if _is_unit(name)], quote="")
    if field == "tags":
        return _group([name for name in names if _is_tag(name)], quote='"')
    name = _PARSED_NAMES.get(field, field)
    if name not in names:
        return default
    if field == "occurred_at":
        return _instant_text(pl.col(name))
    quote = "" if field in COUNTS else '"'
    return pl.concat_str(pl.lit(quote), pl.col(name), pl.lit(quote)).fill_null(default)


def _instant_text(micros: pl.Expr) -> pl.Expr:
    instant = micros.cast(pl.Datetime("us"))
    whole = instant.dt.to_string("%Y-%m-%dT%H:%M:%S")
    exact = instant.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
    text = pl.when(micros % 1_000_000 == 0).then(whole).otherwise(exact)
    return pl.concat_str(pl.lit('"'), text, pl.lit('Z"'))


def _group(names: Sequence[str], *, quote: str) -> pl.Expr | str:
    """Give the object of what is there in these columns, in the order that JSON gives names."""
    if not names:
        return "{}"
    by_inner = {name.partition(".")[2]: name for name in names}
    ordered = msgspec.json.decode(_encoder.encode(dict.fromkeys(by_inner, 0)))
    members = [
        pl.concat_str(
            pl.lit(f",{_json(inner)}:{quote}"), pl.col(by_inner[inner]), pl.lit(quote)
        ).fill_null("")
        for inner in ordered
    ]
    return pl.concat_str(pl.lit("{"), pl.concat_str(members).str.slice(1), pl.lit("}"))


def _json(value: object) -> str:
    return _encoder.encode(value).decode()


def _merged(pieces: Sequence[pl.Expr | str]) -> list[pl.Expr]:
    """Give the pieces as expressions, texts that follow each other as one."""
    merged: list[pl.Expr] = []
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        else:
            merged.extend((pl.lit(text), piece))
            text = ""
    return [*merged, pl.lit(text)] if text else merged


@lru_cache(1)
def _defaults() -> Mapping[str, str]:
    """Give, in the order of an event's fields, the JSON of each where nothing is told."""
    bare = EventShape(provider="", model="", occurred_at=EPOCH)
    members = msgspec.json.decode(_encoder.encode(bare), type=dict[str, msgspec.Raw])
    return {field: bytes(member).decode() for field, member in members.items()}
