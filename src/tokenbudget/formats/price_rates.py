"""How rates are published: keys, what they price, and picos for both directions.

It refuses to know rows and files (``price_book.py``, ``price_writer.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.prices import Price

MILLION: Final = 10**6
THOUSAND: Final = 10**3
SECONDS_PER_HOUR: Final = 3600
FRACTION: Final = re.compile(r"\d+/[1-9]\d*")


@dataclass(frozen=True, slots=True)
class RateKey:
    """What a rate key prices: the unit, and how many of it the published figure is for."""

    unit: str
    per: int


RATE_KEYS: Final[Mapping[str, RateKey]] = {
    "input": RateKey("input_tokens", MILLION),
    "cached": RateKey("cached_input_tokens", MILLION),
    "write": RateKey("cache_write_tokens", MILLION),
    "write_5m": RateKey("cache_write_5m_tokens", MILLION),
    "write_1h": RateKey("cache_write_1h_tokens", MILLION),
    "output": RateKey("output_tokens", MILLION),
    "reasoning": RateKey("reasoning_tokens", MILLION),
    "audio_in": RateKey("input_audio_tokens", MILLION),
    "audio_cached": RateKey("cached_audio_tokens", MILLION),
    "audio_out": RateKey("output_audio_tokens", MILLION),
    "image_in": RateKey("input_image_tokens", MILLION),
    "image_cached": RateKey("cached_image_tokens", MILLION),
    "image_out": RateKey("output_image_tokens", MILLION),
    "video_in": RateKey("input_video_tokens", MILLION),
    "video_out": RateKey("output_video_tokens", MILLION),
    "chars_in": RateKey("input_characters", MILLION),
    "web_search": RateKey("web_searches", THOUSAND),
    "file_search": RateKey("file_searches", THOUSAND),
    "code_exec": RateKey("code_executions", THOUSAND),
    "request": RateKey("requests", THOUSAND),
    "rerank": RateKey("reranks", THOUSAND),
    "page": RateKey("pages", THOUSAND),
    "image": RateKey("images", 1),
    "audio_second": RateKey("audio_seconds", 1),
    "audio_hour": RateKey("audio_seconds", SECONDS_PER_HOUR),
    "gpu_second": RateKey("gpu_seconds", 1),
    "gpu_hour": RateKey("gpu_seconds", SECONDS_PER_HOUR),
}

KEY_OF_UNIT: Final[Mapping[str, str]] = {
    # Of several keys for one unit the last is published: durations are sold by the hour.
    rate.unit: key
    for key, rate in RATE_KEYS.items()
}
ARTEFACT_TOLERANCE: Final = Fraction(1, 10**9)
MAX_DENOMINATOR: Final = 1_000


def publish_rates(rates: Mapping[str, int], divisor: int) -> dict[str, str]:
    """Give the rates as a price file writes them, by key, in the order of RATE_KEYS."""
    published = {
        KEY_OF_UNIT[unit]: Fraction(picos * RATE_KEYS[KEY_OF_UNIT[unit]].per, PICOS_PER_UNIT)
        / divisor
        for unit, picos in rates.items()
    }
    return {key: format_exact(published[key]) for key in RATE_KEYS if key in published}


def format_exact(value: Fraction) -> str:
    """Give a decimal without exponent, or the quoted fraction when no decimal is exact."""
    places = 0
    rest = value.denominator
    while rest % 10 == 0 or rest % 2 == 0 or rest % 5 == 0:
        rest //= 10 if rest % 10 == 0 else 2 if rest % 2 == 0 else 5
        places += 1
    if rest != 1:
        return f'"{value.numerator}/{value.denominator}"'
    return f"{Decimal(int(value * 10**places)).scaleb(-places):f}"


def snap_rate(value: Decimal, key: str) -> Fraction | None:
    """Give the price of one unit for a published figure, rid of what binary fractions added.

    A figure that is no whole pico a unit is taken for the nearest one, or for a fraction with a
    small denominator, when that is a billionth of it away at most. None: it is neither, and no
    price may be made of it.
    """
    per = RATE_KEYS[key].per
    steps = PICOS_PER_UNIT // per if PICOS_PER_UNIT % per == 0 else PICOS_PER_UNIT
    exact = Fraction(value)
    nearest = Fraction(round(exact * steps), steps)
    for candidate in (nearest, exact.limit_denominator(MAX_DENOMINATOR)):
        if abs(candidate - exact) <= exact * ARTEFACT_TOLERANCE:
            return candidate / per
    return None


def spell_rates(price: Price) -> str:
    """Give the rates, or the multiplier, of a row in one line."""
    if price.times is not None:
        return f"times {format_exact(Fraction(*price.times))}"
    published = publish_rates(price.rates, price.divisor)
    return ", ".join(f"{key} {value}" for key, value in published.items())


def spell_change(before: Price, after: Price) -> str:
    """Give what changes from one row to another, in one line."""
    if before.times is not None or after.times is not None:
        return f"{spell_rates(before)} -> {spell_rates(after)}"
    old = publish_rates(before.rates, before.divisor)
    new = publish_rates(after.rates, after.divisor)
    return ", ".join(
        f"{key} {old.get(key, 'none')} -> {new.get(key, 'none')}"
        for key in RATE_KEYS
        if old.get(key) != new.get(key)
    )
