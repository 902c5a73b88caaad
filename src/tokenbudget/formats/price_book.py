"""Price files (TOML) as a price list. It owns the file schema and its strictness.

It refuses to choose a price, to fetch one and to judge a book that parses (``price_lint.py``). One
file holds one provider; a row is an inline table, so that a change of price is one changed line.
Numbers are read as Decimal and become integer rates without rounding. Unknown keys are errors that
name file, model and row. The schema is told in ``docs/decisions/0003-rating-and-price-book.md``.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.periods import zone
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import (
    MAX_DAILY_HOURS,
    MINUTES_PER_DAY,
    STANDARD_TIER,
    AliasTarget,
    DailyHours,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
    close_validity,
    find_superseded,
    normalise_word,
    rates_in_picos,
)
from tokenbudget.formats.price_rates import FRACTION, RATE_KEYS

SCHEMA: Final = 1
OTHER_FILES: Final = frozenset({"SOURCES.toml", "fx.toml", "estimators.toml"})
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAILY_SPAN: Final = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)")


FILE_KEYS: Final = frozenset(
    {"schema", "provider", "names", "currency", "fallback", "src", "model", "alias"}
)
MODEL_KEYS: Final = frozenset({"match", "sunset", "sunset_src", "src", "pin", "note", "price"})
SELECTOR_KEYS: Final = frozenset({"tier", "region", "above", "hours", "days", "tz"})
ROW_KEYS: Final = (
    SELECTOR_KEYS
    | {"from", "to", "times", "recorded", "src", "pin", "note", "unit"}
    | set(RATE_KEYS)
)
ALIAS_KEYS: Final = frozenset({"name", "to"})
TARGET_KEYS: Final = frozenset({"from", "model"})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a file something stands; every error names it."""

    file: str
    detail: str = ""

    def at(self, detail: str) -> _Place:
        """Give a place further in."""
        return _Place(self.file, f"{self.detail}: {detail}" if self.detail else detail)

    def fault(self, rule: str) -> BadFile:
        """Give the error that names the place and the rule."""
        where = f"{self.file}: {self.detail}" if self.detail else self.file
        return BadFile(f"{where}: {rule}", file=self.file)


def load_price_book(directory: Path, *, currency: str = "USD") -> PriceList:
    """Give the price list of a directory; raises BadFile for the first thing that is wrong."""
    return build_price_list(read_sources(directory), currency=currency)


def read_sources(directory: Path) -> dict[str, str]:
    """Give the text of every price file by file name, sorted; raises BadFile when there is none."""
    try:
        paths = sorted(path for path in directory.glob("*.toml") if path.name not in OTHER_FILES)
        sources = {path.name: path.read_text(encoding="utf-8") for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{directory}: the price files cannot be read: {error}") from None
    if not sources:
        raise BadFile(f"{directory}: there are no price files (*.toml)")
    return sources


def build_price_list(sources: Mapping[str, str], *, currency: str = "USD") -> PriceList:
    """Give the price list of the files' texts; its version is the sha256 of names and texts."""
    version = digest_sources(sources)
    return PriceList(parse_price_book(sources), version=version, currency=currency)


def parse_price_book(sources: Mapping[str, str]) -> list[ProviderPrices]:
    """Give the prices all files hold, in their order; raises BadFile as for one file."""
    providers = [parse_price_file(name, text) for name, text in sources.items()]
    _check_names(providers, list(sources))
    return providers


def digest_sources(sources: Mapping[str, str]) -> str:
    """Give the sha256 of file names and texts, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        text = sources[name].encode()
        digest.update(f"{name}\n{len(text)}\n".encode() + text)
    return digest.hexdigest()


def parse_price_file(file: str, text: str) -> ProviderPrices:
    """Give the prices one file holds; raises BadFile naming file, model, row and rule."""
    place = _Place(file)
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise place.fault(f"this is no TOML: {error}") from None
    _reject_unknown(document, FILE_KEYS, place)
    if document.get("schema") != SCHEMA:
        raise place.fault(f"schema must be {SCHEMA}")
    provider = _text(document, "provider", place)
    models = tuple(
        _model(name, table, document, place.at(f"model {name}"))
        for name, table in document.get("model", {}).items()
    )
    known = {model.model.lower() for model in models}
    return ProviderPrices(
        provider=provider,
        names=(provider, *_texts(document, "names", place)),
        models=models,
        fallback=_texts(document, "fallback", place),
        aliases=dict(
            _alias(table, known, place.at("alias")) for table in document.get("alias", [])
        ),
    )


def _check_names(providers: Sequence[ProviderPrices], files: Sequence[str]) -> None:
    owners: dict[str, str] = {}
    for prices, file in zip(providers, files, strict=True):
        for word in {normalise_word(name) for name in prices.names}:
            if word in owners:
                raise _Place(file).fault(f"the provider name {word!r} is taken by {owners[word]}")
            owners[word] = file
    known = {prices.provider for prices in providers}
    for prices, file in zip(providers, files, strict=True):
        for fallback in prices.fallback:
            if fallback not in known:
                raise _Place(file).fault(f"fallback {fallback!r} is no provider of this price book")


def _model(
    name: str, table: Mapping[str, Any], document: Mapping[str, Any], place: _Place
) -> ModelPrices:
    _reject_unknown(table, MODEL_KEYS, place)
    rows = table.get("price")
    if not isinstance(rows, list) or not rows:
        raise place.fault("price must be a list of rows")
    common = {
        "provider": document["provider"],
        "model": name,
        "currency": document.get("currency", "USD"),
        "source": table.get("src", document.get("src", "")),
    }
    prices = [
        _price(row, common, place.at(f"row {number}")) for number, row in enumerate(rows, start=1)
    ]
    _check_rows(prices, place)
    patterns = _texts(table, "match", place) or (name,)
    return ModelPrices(
        provider=document["provider"],
        model=name,
        patterns=tuple(_pattern(pattern, place) for pattern in patterns),
        prices=close_validity(prices),
        sunset=_instant(table, "sunset", place),
        superseded=find_superseded(prices),
        sunset_source=table.get("sunset_src", ""),
        is_pinned=_flag(table, "pin", place),
        note=table.get("note", ""),
    )


def _check_rows(prices: Sequence[Price], place: _Place) -> None:
    seen = set()
    for number, price in enumerate(prices, start=1):
        key = (price.selector, price.times is None, price.valid_from, price.recorded_at)
        if key in seen:
            raise place.at(f"row {number}").fault(
                "an earlier row has the same selector and beginning"
            )
        seen.add(key)
    if len({price.selector.hours for price in prices} - {None}) > MAX_DAILY_HOURS:
        raise place.fault(f"there are more than {MAX_DAILY_HOURS} different daily hours")


def _price(row: Mapping[str, Any], common: Mapping[str, str], place: _Place) -> Price:
    if not isinstance(row, dict):
        raise place.fault("a row must be an inline table")
    _reject_unknown(row, ROW_KEYS, place)
    times = _times(row, place)
    rates, divisor = _rates(row, place)
    if bool(rates) == bool(times):
        raise place.fault("a row holds either rates or times")
    valid_from, valid_to = _instant(row, "from", place), _instant(row, "to", place)
    if valid_to is not None and valid_from is not None and valid_to <= valid_from:
        raise place.fault("to must be later than from")
    return Price(
        provider=common["provider"],
        model=common["model"],
        currency=common["currency"],
        source=row.get("src", common["source"]),
        rates=rates,
        divisor=divisor,
        times=times,
        selector=_selector(row, place, is_multiplier=times is not None),
        valid_from=valid_from,
        valid_to=valid_to,
        note=row.get("note", ""),
        recorded_at=_instant(row, "recorded", place),
        is_pinned=_flag(row, "pin", place),
    )


def _rates(row: Mapping[str, Any], place: _Place) -> tuple[dict[str, int], int]:
    units = row.get("unit", {})
    published: dict[str, Fraction] = {}
    for key in (key for key in row if key in RATE_KEYS):
        unit, per = RATE_KEYS[key].unit, units.get(key, RATE_KEYS[key].per)
        if unit in published:
            raise place.fault(f"{unit} has two rates")
        if not isinstance(per, int) or per <= 0:
            raise place.fault(f"unit.{key} must be a positive integer")
        published[unit] = _rate(row, key, place) / per
    return rates_in_picos(published)


def _rate(row: Mapping[str, Any], key: str, place: _Place) -> Fraction:
    value = row[key]
    if isinstance(value, str):
        if not FRACTION.fullmatch(value):
            raise place.fault(f"{key} {value!r} must be a number or a fraction such as '1/12'")
        return Fraction(value)
    return Fraction(_number(row, key, place))


def _times(row: Mapping[str, Any], place: _Place) -> tuple[int, int] | None:
    if "times" not in row:
        return None
    times = _number(row, "times", place)
    if times == 0:
        raise place.fault("times must be above zero; write a row with rates of zero instead")
    return Decimal(times).as_integer_ratio()


def _selector(row: Mapping[str, Any], place: _Place, *, is_multiplier: bool) -> Selector:
    above = row.get("above")
    if above is not None and (not isinstance(above, int) or above < 0):
        raise place.fault("above must be a whole number of tokens")
    tier = normalise_word(_text(row, "tier", place)) if "tier" in row else None
    return Selector(
        tier=tier if tier or is_multiplier else STANDARD_TIER,
        region=_text(row, "region", place).lower() if "region" in row else None,
        above=above,
        hours=_hours(row, place),
    )


def _hours(row: Mapping[str, Any], place: _Place) -> DailyHours | None:
    if not row.keys() & {"hours", "days"}:
        if "tz" in row:
            raise place.fault("tz needs hours or days")
        return None
    zone_name = row.get("tz", "UTC")
    try:
        zone(zone_name)
    except InvalidInput as error:
        raise place.fault(error.detail) from None
    spans = tuple(_span(text, place) for text in _texts(row, "hours", place))
    return DailyHours(
        spans=spans or ((0, MINUTES_PER_DAY),),
        weekdays=_weekdays(row.get("days", "mon-sun"), place),
        zone_name=zone_name,
    )


def _span(text: str, place: _Place) -> tuple[int, int]:
    found = DAILY_SPAN.fullmatch(text)
    if not found:
        raise place.fault(f"hours {text!r} must look like 16:30-00:30")
    start_hour, start_minute, end_hour, end_minute = (int(part) for part in found.groups())
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start >= MINUTES_PER_DAY or end > MINUTES_PER_DAY or start == end:
        raise place.fault(f"hours {text!r} are no hours of a day")
    return start, end


def _weekdays(text: str, place: _Place) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
        raise place.fault(f"days {text!r} must look like mon-fri or sun")
    start = WEEKDAYS.index(first)
    count = (WEEKDAYS.index(last or first) - start) % len(WEEKDAYS) + 1
    return tuple(sorted((start + step) % len(WEEKDAYS) for step in range(count)))


def _alias(
    table: Mapping[str, Any], known: set[str], place: _Place
) -> tuple[str, tuple[AliasTarget, ...]]:
    _reject_unknown(table, ALIAS_KEYS, place)
    name = _text(table, "name", place).lower()
    inside = place.at(name)
    targets = []
    for entry in table.get("to", []):
        _reject_unknown(entry, TARGET_KEYS, inside)
        model = _text(entry, "model", inside)
        if model.lower() not in known:
            raise inside.fault(f"there is no model {model!r} in this file")
        targets.append(AliasTarget(_instant(entry, "from", inside), model))
    starts = [target.valid_from or datetime.min.replace(tzinfo=UTC) for target in targets]
    if not targets or starts != sorted(set(starts)):
        raise inside.fault("to must list at least one model, in ascending order of from")
    return name, tuple(targets)


def _pattern(pattern: str, place: _Place) -> str:
    if not (pattern.startswith("/") and pattern.endswith("/")):
        return pattern.lower()
    try:
        re.compile(pattern[1:-1])
    except re.error as error:
        raise place.fault(f"match {pattern!r} is no regular expression: {error}") from None
    return pattern


def _instant(table: Mapping[str, Any], key: str, place: _Place) -> datetime | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise place.fault(f"{key} {value} has no UTC offset")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), tzinfo=UTC)
    raise place.fault(f"{key} must be a date or a date with time and offset")


def _number(table: Mapping[str, Any], key: str, place: _Place) -> int | Decimal:
    value = table[key]
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not is_number or not Decimal(value).is_finite() or value < 0:
        raise place.fault(f"{key} {value!r} must be a number of at least zero")
    return value  # type: ignore[no-any-return]


def _flag(table: Mapping[str, Any], key: str, place: _Place) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise place.fault(f"{key} must be true or false")
    return value


def _text(table: Mapping[str, Any], key: str, place: _Place) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise place.fault(f"{key} must be a text")
    return value


def _texts(table: Mapping[str, Any], key: str, place: _Place) -> tuple[str, ...]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise place.fault(f"{key} must be a list of texts")
    return tuple(values)


def _reject_unknown(
    table: Mapping[str, Any], known: frozenset[str] | set[str], place: _Place
) -> None:
    for key in table:
        if key not in known:
            raise place.fault(f"unknown key {key!r}")
