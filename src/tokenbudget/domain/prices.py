"""What is charged for what, and when. It owns price rows, selectors, validity, rate parents.

It refuses to look a price up (``price_lists.py``), to multiply one with a quantity (``rating.py``)
and to read files (``formats/price_book.py``). Rates are integer picos of the row's own currency
for one unit of usage; a row whose published rates are no whole picos a unit (an hourly rate told
in seconds) holds them times its ``divisor``, so no rate is ever rounded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from math import lcm
from typing import Final, TypeVar

from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.periods import EPOCH, format_instant, zone
from tokenbudget.domain.usage import UNITS

RateT = TypeVar("RateT")

STANDARD_TIER: Final = "standard"
SINCE_EVER: Final = datetime.min.replace(tzinfo=UTC)
MINUTES_PER_DAY: Final = 24 * 60
MAX_DAILY_HOURS: Final = 4
IDENTITY_DIGITS: Final = 32

PARENT_UNITS: Final[Mapping[str, str]] = {
    "cached_input_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
    "cache_write_5m_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_tokens",
    "input_audio_tokens": "input_tokens",
    "input_image_tokens": "input_tokens",
    "input_video_tokens": "input_tokens",
    "cached_audio_tokens": "cached_input_tokens",
    "cached_image_tokens": "cached_input_tokens",
    "reasoning_tokens": "output_tokens",
    "output_audio_tokens": "output_tokens",
    "output_image_tokens": "output_tokens",
    "output_video_tokens": "output_tokens",
}
"""Whose rate a unit takes when the row has none for it."""


@dataclass(frozen=True, slots=True)
class DailyHours:
    """Hours of the day, on some weekdays, on the wall clock of a zone.

    ``spans`` are minutes after midnight, start included and end excluded; a span that ends before
    it starts runs past midnight. ``weekdays`` (Monday is 0) are those of the instant itself, not
    of the span's beginning.
    """

    spans: tuple[tuple[int, int], ...] = ((0, MINUTES_PER_DAY),)
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    zone_name: str = "UTC"

    def contains(self, instant: datetime) -> bool:
        """Tell whether the instant falls into these hours; it changes on whole minutes only."""
        local = instant.astimezone(zone(self.zone_name))
        if local.weekday() not in self.weekdays:
            return False
        minute = local.hour * 60 + local.minute
        return any(_span_contains(start, end, minute) for start, end in self.spans)


def _span_contains(start: int, end: int, minute: int) -> bool:
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


@dataclass(frozen=True, slots=True)
class Selector:
    """Which usage a row is for: every condition has to hold.

    ``tier`` None means any tier and belongs to multiplier rows; ``region`` None means every region
    without a row of its own; ``above`` is an exclusive threshold on the total input tokens of the
    whole request, None means no threshold.
    """

    tier: str | None = STANDARD_TIER
    region: str | None = None
    above: int | None = None
    hours: DailyHours | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One row of a price list: what a model costs for one selector in one stretch of time.

    ``rates`` holds the published rates by unit, in picos divided by ``divisor``; ``unit_rates``
    adds those taken from a parent. ``times`` (numerator, denominator) makes the row a pure
    multiplier without rates. ``valid_from`` None means since ever, ``valid_to`` None means until
    further notice. ``recorded_at`` tells a fix from the row it replaces. ``is_pinned`` keeps a row
    as it is whatever a source of prices says. ``price_ref`` is a digest of everything but
    provenance and the end of validity, so it outlives a later row.
    """

    provider: str
    model: str
    rates: Mapping[str, int]
    selector: Selector = Selector()
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    times: tuple[int, int] | None = None
    divisor: int = 1
    currency: str = "USD"
    source: str = ""
    note: str = ""
    recorded_at: datetime | None = None
    is_pinned: bool = False
    unit_rates: Mapping[str, int] = field(init=False, repr=False, compare=False)
    price_ref: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what depends on the fields."""
        object.__setattr__(self, "unit_rates", inherit_rates(self.rates))
        object.__setattr__(self, "price_ref", _digest(self))

    def is_valid_at(self, instant: datetime | None) -> bool:
        """Tell whether the row is in force; None asks about the time before every dated row."""
        if instant is None:
            return self.valid_from is None
        if self.valid_from is not None and instant < self.valid_from:
            return False
        return self.valid_to is None or instant < self.valid_to


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """All price rows of one model of one provider, in the order of their file.

    ``patterns`` are the names it answers to, lower case: exact, glob (only ``*`` is special) or
    ``/regular expression/``. ``sunset`` is the instant from which the provider no longer serves
    it. ``superseded`` are the rows that a later recorded fix replaced; they rate nothing any more.
    ``is_pinned`` keeps the whole model as it is whatever a source of prices says; ``note`` says
    why.
    """

    provider: str
    model: str
    patterns: tuple[str, ...]
    prices: tuple[Price, ...]
    sunset: datetime | None = None
    superseded: tuple[Price, ...] = ()
    sunset_source: str = ""
    is_pinned: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """The model a moving name means from an instant on (None: since ever)."""

    valid_from: datetime | None
    model: str


@dataclass(frozen=True, slots=True)
class ProviderPrices:
    """One provider's part of a price list.

    ``names`` are the words it is known by; ``fallback`` the providers whose models it also serves,
    asked in order when it has no price of its own; ``aliases`` moving names with their targets in
    order of time.
    """

    provider: str
    names: tuple[str, ...]
    models: tuple[ModelPrices, ...]
    fallback: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[AliasTarget, ...]] = field(default_factory=dict)


def rates_in_picos(published: Mapping[str, Fraction]) -> tuple[dict[str, int], int]:
    """Give integer rates by unit and their common divisor, from currency units for one unit."""
    exact = {unit: rate * PICOS_PER_UNIT for unit, rate in published.items()}
    divisor = lcm(*(rate.denominator for rate in exact.values()))
    return {unit: int(rate * divisor) for unit, rate in exact.items()}, divisor


def inherit_rates(rates: Mapping[str, RateT]) -> dict[str, RateT]:
    """Give the rates plus those that units without one take from a parent, in order of UNITS."""
    complete: dict[str, RateT] = {}
    for unit in UNITS:
        ancestor: str | None = unit
        while ancestor is not None and ancestor not in rates:
            ancestor = PARENT_UNITS.get(ancestor)
        if ancestor is not None:
            complete[unit] = rates[ancestor]
    return complete


def close_validity(prices: Sequence[Price]) -> tuple[Price, ...]:
    """Give the rows believed now, each ended where the next of its selector begins.

    The order is kept. Of rows with one selector and one beginning, the latest recorded wins (it is
    a fix of the others). An end that a row states itself is kept.
    """
    by_selector: dict[tuple[Selector, bool], dict[datetime | None, Price]] = defaultdict(dict)
    for price in sorted(prices, key=lambda row: _order(row.recorded_at)):
        by_selector[price.selector, price.times is not None][price.valid_from] = price
    closed = {
        id(price): _end_at(price, later)
        for rows in by_selector.values()
        for price, later in _with_next(rows.values())
    }
    return tuple(closed[id(price)] for price in prices if id(price) in closed)


def find_superseded(prices: Sequence[Price]) -> tuple[Price, ...]:
    """Give the rows that ``close_validity`` leaves out: each was replaced by a fix."""
    believed = {price.price_ref for price in close_validity(prices)}
    return tuple(price for price in prices if price.price_ref not in believed)


def describe_row(price: Price) -> str:
    """Give the words that tell a row from the others of its model: its beginning and selector."""
    start = price.valid_from
    beginning = "since ever" if start is None else f"from {format_instant(start)}"
    return f"{beginning}, {describe_selector(price.selector)}"


def describe_selector(selector: Selector) -> str:
    """Give the words that tell a selector from others."""
    parts = [f"tier {selector.tier or 'any'}"]
    if selector.region is not None:
        parts.append(f"region {selector.region}")
    if selector.above is not None:
        parts.append(f"above {selector.above}")
    if selector.hours is not None:
        parts.append("daily hours")
    return ", ".join(parts)


def normalise_word(word: str) -> str:
    """Give the one spelling of a provider or tier word: lower case, ``_`` for ``-`` and blank."""
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def _with_next(rows: Iterable[Price]) -> list[tuple[Price, Price | None]]:
    ordered = sorted(rows, key=lambda row: _order(row.valid_from))
    return list(zip(ordered, [*ordered[1:], None], strict=True))


def _end_at(price: Price, later: Price | None) -> Price:
    if later is None or price.valid_to is not None:
        return price
    return replace(price, valid_to=later.valid_from)


def _order(instant: datetime | None) -> tuple[bool, datetime]:
    # An absent instant comes before every stated one.
    return (False, EPOCH) if instant is None else (True, instant)


def _spell(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, DailyHours):
        return f"{value.spans} {value.weekdays} {value.zone_name}"
    return "" if value is None else str(value)


def _digest(price: Price) -> str:
    selector = price.selector
    parts = (
        price.provider,
        price.model,
        price.valid_from,
        selector.tier,
        selector.region,
        selector.above,
        selector.hours,
        price.times,
        price.divisor,
        price.currency,
        price.recorded_at,
        *(f"{unit}={rate}" for unit, rate in sorted(price.rates.items())),
    )
    text = "\x1f".join(_spell(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_DIGITS]
