"""Additions to price files, as text. It owns how a row, a model and a file are written.

It refuses to change what stands there: rows, comments and order of a file stay byte for byte, and
one added row is one added line. A file that another hand laid out otherwise than one row a line is
an error rather than a guess. What was written is read back before it is given away.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, time
from fractions import Fraction
from typing import Final

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.price_differences import (
    AddModel,
    AddNames,
    AddRow,
    FileChange,
    SetSunset,
)
from tokenbudget.domain.prices import (
    MINUTES_PER_DAY,
    SINCE_EVER,
    STANDARD_TIER,
    DailyHours,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
)
from tokenbudget.formats.price_book import SCHEMA, WEEKDAYS, parse_price_file
from tokenbudget.formats.price_rates import format_exact, publish_rates

HEADER: Final = (
    "# Prices of {provider}. One row is one price; rows are added, never edited. "
    "Schema: docs/decisions/0003."
)
TABLE_START: Final = "["
MODEL_TABLE: Final = re.compile(r"\[model\..*\]\s*(#.*)?")
ROWS_START: Final = "price = ["
ROWS_END: Final = "]"
AFTER_TIERS: Final = "~"
USUAL_CURRENCY: Final = "USD"
ALL_DAYS: Final = tuple(range(len(WEEKDAYS)))


def render_provider(prices: ProviderPrices) -> str:
    """Give the whole file of a provider that had none."""
    rows = [row for model in prices.models for row in model.prices]
    source = Counter(row.source for row in rows).most_common(1)[0][0] if rows else ""
    currency = rows[0].currency if rows else USUAL_CURRENCY
    lines = [
        HEADER.format(provider=prices.provider),
        f"schema = {SCHEMA}",
        f"provider = {_text(prices.provider)}",
    ]
    if names := [name for name in prices.names if name != prices.provider]:
        lines.append(f"names = {_texts(names)}")
    lines.append(f"currency = {_text(currency)}")
    if prices.fallback:
        lines.append(f"fallback = {_texts(prices.fallback)}")
    lines.append(f"src = {_text(source)}")
    for model in prices.models:
        lines.extend(["", *_model_lines(model, source)])
    return "\n".join(lines) + "\n"


def apply_changes(file: str, text: str, changes: Sequence[FileChange]) -> str:
    """Give the file with the changes; raises BadFile when it is not laid out one row a line."""
    before = parse_price_file(file, text)
    sources = _sources(text)
    lines = text.split("\n")
    for change in changes:
        if isinstance(change, AddRow):
            _add_row(file, lines, change.price, sources)
        elif isinstance(change, AddModel):
            _add_model(file, lines, change, sources[None])
        elif isinstance(change, AddNames):
            _set_names(file, lines, change)
        else:
            _set_sunset(file, lines, change)
    written = "\n".join(lines)
    _require_only_additions(file, before, parse_price_file(file, written), changes)
    return written


def render_row(price: Price, siblings: Iterable[Price], source: str) -> str:
    """Give a row as an inline table; its end is left out where a sibling begins there anyway."""
    selector = price.selector
    parts = [f"from = {format_instant(price.valid_from)}"] if price.valid_from else []
    if price.valid_to is not None and not _is_followed(price, siblings):
        parts.append(f"to = {format_instant(price.valid_to)}")
    parts.extend(_selector_parts(selector, is_multiplier=price.times is not None))
    if price.times is not None:
        parts.append(f"times = {format_exact(Fraction(*price.times))}")
    parts.extend(f"{key} = {value}" for key, value in _published(price))
    if price.recorded_at is not None:
        parts.append(f"recorded = {format_instant(price.recorded_at)}")
    if price.is_pinned:
        parts.append("pin = true")
    if price.note:
        parts.append(f"note = {_text(price.note)}")
    if price.source != source:
        parts.append(f"src = {_text(price.source)}")
    return "{ " + ", ".join(parts) + " }"


def _published(price: Price) -> Iterable[tuple[str, str]]:
    return publish_rates(price.rates, price.divisor).items()


def _is_followed(price: Price, siblings: Iterable[Price]) -> bool:
    return any(
        row.selector == price.selector
        and (row.times is None) == (price.times is None)
        and row.valid_from == price.valid_to
        for row in siblings
    )


def _selector_parts(selector: Selector, *, is_multiplier: bool) -> list[str]:
    parts = []
    if selector.tier is not None and (is_multiplier or selector.tier != STANDARD_TIER):
        parts.append(f"tier = {_text(selector.tier)}")
    if selector.region is not None:
        parts.append(f"region = {_text(selector.region)}")
    if selector.above is not None:
        parts.append(f"above = {selector.above}")
    if selector.hours is not None:
        parts.extend(_hours_parts(selector.hours))
    return parts


def _hours_parts(hours: DailyHours) -> list[str]:
    parts = []
    if hours.spans != ((0, MINUTES_PER_DAY),):
        parts.append(f"hours = {_texts(f'{_clock(a)}-{_clock(b)}' for a, b in hours.spans)}")
    if hours.weekdays != ALL_DAYS:
        parts.append(f"days = {_text(_days(hours.weekdays))}")
    if hours.zone_name != "UTC":
        parts.append(f"tz = {_text(hours.zone_name)}")
    return parts


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _days(weekdays: Sequence[int]) -> str:
    """Give the run of days as the file spells it; it may pass from Sunday to Monday."""
    count = len(weekdays)
    start = next(day for day in weekdays if (day - 1) % len(WEEKDAYS) not in weekdays)
    last = WEEKDAYS[(start + count - 1) % len(WEEKDAYS)]
    return WEEKDAYS[start] if count == 1 else f"{WEEKDAYS[start]}-{last}"


def _model_lines(model: ModelPrices, source: str) -> list[str]:
    lines = [f"[model.{_text(model.model)}]"]
    if model.patterns != (model.model.lower(),):
        lines.append(f"match = {_texts(model.patterns)}")
    if model.sunset is not None:
        lines.extend(_sunset_lines(model.sunset, model.sunset_source))
    rows = sorted(model.prices, key=_row_order)
    lines.append(ROWS_START)
    lines.extend(f"  {render_row(row, rows, source)}," for row in rows)
    lines.append(ROWS_END)
    return lines


def _row_order(price: Price) -> tuple[str, str, datetime, int, bool]:
    selector = price.selector
    is_usual = selector.tier == STANDARD_TIER and price.times is None
    return (
        "" if is_usual else selector.tier or AFTER_TIERS,
        selector.region or "",
        price.valid_from or SINCE_EVER,
        -1 if selector.above is None else selector.above,
        selector.hours is not None,
    )


def _sunset_lines(sunset: datetime, source: str) -> list[str]:
    is_midnight = sunset.time() == time()
    day = sunset.date().isoformat() if is_midnight else format_instant(sunset)
    return [f"sunset = {day}", f"sunset_src = {_text(source)}"]


def _sources(text: str) -> dict[str | None, str]:
    """Give the provenance a row has without its own: by model, that of the file under None."""
    document = tomllib.loads(text)
    common = document.get("src", "")
    models = document.get("model", {})
    return {None: common, **{name: table.get("src", common) for name, table in models.items()}}


def _find_model(file: str, lines: Sequence[str], model: str) -> tuple[int, int]:
    """Give the first line of a model's table and the line after its last."""
    for start, line in enumerate(lines):
        if MODEL_TABLE.fullmatch(line) and model in tomllib.loads(line)["model"]:
            rest = range(start + 1, len(lines))
            tables = (number for number in rest if lines[number].startswith(TABLE_START))
            return start, next(tables, len(lines))
    raise BadFile(f"{file}: there is no line [model.{_text(model)}]", file=file)


def _add_row(file: str, lines: list[str], price: Price, sources: dict[str | None, str]) -> None:
    start, end = _find_model(file, lines, price.model)
    first, last = _find_rows(file, lines, start, end)
    rows = [_parse_row(file, price.model, line) for line in lines[first:last] if _is_row(line)]
    places = [number for number in range(first, last) if _is_row(lines[number])]
    earlier = [
        place
        for place, row in zip(places, rows, strict=True)
        if _row_order(row) <= _row_order(price)
    ]
    line = f"  {render_row(price, rows, sources[price.model])},"
    lines.insert(max(earlier) + 1 if earlier else first, line)


def _find_rows(file: str, lines: list[str], start: int, end: int) -> tuple[int, int]:
    """Give the first line of a model's rows and the line of the closing bracket.

    Rows that stand in one line are spread first, one a line.
    """
    for number in range(start, end):
        line = lines[number]
        if line == ROWS_START and ROWS_END in lines[number:end]:
            return number + 1, lines.index(ROWS_END, number, end)
        if line.startswith(ROWS_START + "{") and line.endswith("}]"):
            row = line.removeprefix(ROWS_START).removesuffix(ROWS_END)
            lines[number : number + 1] = [ROWS_START, f"  {row},", ROWS_END]
            return number + 1, number + 2
    raise BadFile(f"{file}: {lines[start]}: rows must stand one a line to be added to", file=file)


def _is_row(line: str) -> bool:
    return line.startswith("  {")


def _parse_row(file: str, model: str, line: str) -> Price:
    head = f'schema = {SCHEMA}\nprovider = "any"\n[model.{_text(model)}]'
    rows = f"{ROWS_START}\n{line}\n{ROWS_END}"
    return parse_price_file(file, f"{head}\n{rows}").models[0].prices[0]


def _add_model(file: str, lines: list[str], change: AddModel, source: str) -> None:
    block = [*_model_lines(change.prices, source), ""]
    if change.before is not None:
        start, _ = _find_model(file, lines, change.before)
        while start and lines[start - 1].startswith("#"):
            start -= 1
        lines[start:start] = block
        return
    tables = [number for number, line in enumerate(lines) if MODEL_TABLE.fullmatch(line)]
    end = _find_end(lines, tables[-1] if tables else 0)
    lines[end:end] = ["", *block[:-1]]


def _find_end(lines: Sequence[str], start: int) -> int:
    """Give the line after a table's last line that is neither blank nor a comment."""
    rest = range(start + 1, len(lines))
    end = next((number for number in rest if lines[number].startswith(TABLE_START)), len(lines))
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):
        end -= 1
    return end


def _set_names(file: str, lines: list[str], change: AddNames) -> None:
    start, end = _find_model(file, lines, change.model)
    line = f"match = {_texts(change.names)}"
    for number in range(start, end):
        if lines[number].startswith("match = "):
            lines[number] = line
            return
    lines.insert(start + 1, line)


def _set_sunset(file: str, lines: list[str], change: SetSunset) -> None:
    start, end = _find_model(file, lines, change.model)
    place = next(number for number in range(start, end) if lines[number].startswith(ROWS_START))
    lines[place:place] = _sunset_lines(change.sunset, change.source)


def _require_only_additions(
    file: str, before: ProviderPrices, after: ProviderPrices, changes: Sequence[FileChange]
) -> None:
    expected = {row.price_ref for model in before.models for row in model.prices}
    for change in changes:
        if isinstance(change, AddRow):
            expected.add(change.price.price_ref)
        elif isinstance(change, AddModel):
            expected.update(row.price_ref for row in change.prices.prices)
    found = {row.price_ref for model in after.models for row in model.prices}
    if found != expected:
        raise BadFile(f"{file}: the rows would not be those that are meant", file=file)


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"
