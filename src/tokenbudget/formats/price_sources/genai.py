"""The price data of genai-prices (extra ``sync``) as rows of ours.

It refuses to correct the package: where our book differs on purpose, the book says so itself.
Package objects are read by field name, so that nothing of the package is imported but its data.

Its words and ours: a price list is a list of conditions of which the last one that holds counts; a
variant changes some keys of it in a context (a tier of ours); an object without any price means
free of charge where the name ends in ``:free`` and unknown elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.domain.price_sync import PriceSource
from tokenbudget.domain.prices import (
    STANDARD_TIER,
    DailyHours,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
    close_validity,
    normalise_word,
    rates_in_picos,
)
from tokenbudget.formats.price_rates import RATE_KEYS, snap_rate
from tokenbudget.formats.price_sources import Provenance, Snapshot

PACKAGE: Final = "genai-prices"
LICENCE: Final = "MIT"
COPYRIGHT: Final = "Copyright (c) Pydantic Services Inc. 2025 to present"

OUR_KEYS: Final[Mapping[str, str]] = {
    "input_mtok": "input",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "write",
    "cache_write_5m_mtok": "write_5m",
    "cache_write_1h_mtok": "write_1h",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_in",
    "cache_audio_read_mtok": "audio_cached",
    "output_audio_mtok": "audio_out",
    "input_image_mtok": "image_in",
    "cache_image_read_mtok": "image_cached",
    "output_image_mtok": "image_out",
    "input_video_mtok": "video_in",
    "output_video_mtok": "video_out",
    "input_mchars": "chars_in",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "rerank_searches_kcount": "rerank",
    "requests_kcount": "request",
    "input_document_kpages": "page",
    "audio_hours": "audio_hour",
}
TOLD_TWICE: Final = frozenset({"input_audio_hours"})
"""Keys that repeat another one."""
OUR_TIERS: Final[Mapping[tuple[tuple[str, str], ...], str]] = {
    (("processing", "batch"),): "batch",
    (("service_tier", "flex"),): "flex",
    (("service_tier", "priority"),): "priority",
    (("service_tier", "fast"),): "fast",
    (("speed", "fast"),): "fast",
}
SAME_AS_STANDARD: Final = (("service_tier", "default"),)
FREE_MARK: Final = ":free"
FREE_OF_CHARGE: Final = {"input_tokens": Fraction(0), "output_tokens": Fraction(0)}

Rates = Mapping[str, Fraction]
Ladder = Mapping[int | None, Rates]
"""Rates by exclusive threshold on total input; those without a threshold are under None."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the package states from a day on (None: since ever), by its own keys."""

    start: datetime | None
    prices: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Model:
    """The model being translated; ``remarks`` collects what is left out of it."""

    provider: str
    name: str
    label: str
    remarks: list[str]

    def remark(self, text: str) -> None:
        """Note something that is left out."""
        self.remarks.append(f"{self.provider} {self.name}: {text}")

    def row(self, rates: Rates, selector: Selector, start: datetime | None) -> Price:
        """Give a row that begins at the instant and has no end."""
        picos, divisor = rates_in_picos(rates)
        return Price(
            provider=self.provider,
            model=self.name,
            rates=picos,
            divisor=divisor,
            selector=selector,
            valid_from=start,
            source=self.label,
        )


def read_genai(*, today: date) -> Snapshot:
    """Give the prices of the installed package, read ``today``.

    Raises ConfigurationError when it is missing.
    """
    try:
        from genai_prices import data
    except ImportError:
        raise ConfigurationError(
            "the price source genai needs the package genai-prices: "
            "install tokenbudget with the extra sync"
        ) from None
    file = Path(data.__file__)
    provenance = Provenance(
        package=PACKAGE,
        version=version(PACKAGE),
        file=f"{file.parent.name}/{file.name}",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        date=today,
        licence=LICENCE,
        copyright=COPYRIGHT,
    )
    return translate_providers(data.providers, provenance)


def translate_providers(providers: Iterable[Any], provenance: Provenance) -> Snapshot:
    """Give the package's provider objects as rows of ours."""
    remarks: list[str] = []
    translated = tuple(_provider(provider, provenance.label, remarks) for provider in providers)
    source = PriceSource(provenance.label, translated)
    return Snapshot(provenance, source, tuple(dict.fromkeys(remarks)))


def _provider(provider: Any, label: str, remarks: list[str]) -> ProviderPrices:
    claimed: set[str] = set()
    models = []
    for theirs in provider.models:
        model = _Model(provider.id, theirs.id, label, remarks)
        rows = close_validity(_rows(model, theirs))
        names = tuple(name for name in _names(theirs.match) if name not in claimed)
        if not rows:
            model.remark("left out, no price is known")
        elif not names:
            model.remark("left out, earlier models answer to all its names")
        else:
            claimed.update(names)
            models.append(ModelPrices(provider.id, theirs.id, names, rows))
    return ProviderPrices(
        provider=provider.id,
        names=(provider.id,),
        models=tuple(models),
        fallback=tuple(normalise_word(word) for word in provider.fallback_model_providers or ()),
    )


def _rows(model: _Model, theirs: Any) -> list[Price]:
    stages = _stages(theirs)
    standard = [(stage.start, _ladder(stage.prices, model)) for stage in stages]
    if FREE_MARK in model.name:
        standard = [(start, _free_unless_stated(ladder)) for start, ladder in standard]
    rows = list(_dated_rows(standard, STANDARD_TIER, model))
    for tier, variants in _variants_by_tier(theirs, model).items():
        overlaid = _overlaid(stages, variants)
        ladders = [(stage.start, _ladder(stage.prices, model)) for stage in overlaid]
        rows.extend(_dated_rows(ladders, tier, model))
    rows.extend(_daily_rows(theirs, model))
    return rows


def _free_unless_stated(ladder: Ladder) -> Ladder:
    return ladder if any(ladder.values()) else {None: FREE_OF_CHARGE}


def _stages(theirs: Any) -> list[_Stage]:
    """Give the standard prices that do not depend on the hour, in order of time."""
    conditions = [each for each in _conditions(theirs) if not _is_daily(each)]
    stages = [_Stage(_start(each), _stated(each.prices)) for each in conditions]
    return sorted(stages, key=lambda stage: (stage.start is not None, stage.start))


def _conditions(theirs: Any) -> list[Any]:
    return theirs.prices if isinstance(theirs.prices, list) else [_Unconditional(theirs.prices)]


@dataclass(frozen=True, slots=True)
class _Unconditional:
    prices: Any
    constraint: None = None


def _is_daily(condition: Any) -> bool:
    return hasattr(condition.constraint, "start_time")


def _start(condition: Any) -> datetime | None:
    if condition.constraint is None:
        return None
    day: date = condition.constraint.start_date
    return datetime.combine(day, time(), tzinfo=UTC)


def _stated(prices: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(prices).items() if value is not None}


def _ladder(prices: Mapping[str, Any], model: _Model) -> Ladder:
    """Give complete rates for each size of request at which any of them changes."""
    sizes = {tier.start for value in prices.values() for tier in getattr(value, "tiers", ())}
    return {
        size: _rates({key: _at_size(value, size) for key, value in prices.items()}, model)
        for size in (None, *sorted(sizes))
    }


def _at_size(value: Any, size: int | None) -> Decimal:
    figure: Decimal = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if size is not None and tier.start <= size:
            figure = tier.price
    return figure


def _rates(published: Mapping[str, Decimal], model: _Model) -> Rates:
    rates = {}
    for key, figure in published.items():
        if key in TOLD_TWICE:
            continue
        if key not in OUR_KEYS:
            model.remark(f"{key} left out, no unit of ours")
            continue
        rate = snap_rate(figure, OUR_KEYS[key])
        if rate is None:
            model.remark(f"{key} {figure} left out, finer than a pico a unit")
            continue
        rates[RATE_KEYS[OUR_KEYS[key]].unit] = rate
    return rates


def _dated_rows(
    ladders: Sequence[tuple[datetime | None, Ladder]], tier: str, model: _Model
) -> Iterator[Price]:
    """Give the rows of one tier; one that a later ladder does not go on with ends there."""
    followers: list[tuple[datetime | None, Ladder]] = [*ladders[1:], (None, {})]
    for (start, ladder), (end, following) in zip(ladders, followers, strict=True):
        for size, rates in ladder.items():
            if rates:
                row = model.row(rates, Selector(tier, above=size), start)
                yield row if following.get(size) else replace(row, valid_to=end)


def _variants_by_tier(theirs: Any, model: _Model) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for variant in theirs.price_variants or ():
        context = tuple(variant.when.items())
        if context in OUR_TIERS and not _is_daily(variant):
            found.setdefault(OUR_TIERS[context], []).append(variant)
        elif context != SAME_AS_STANDARD:
            model.remark(f"prices for {variant.when} left out, no tier of ours")
    return found


def _overlaid(stages: Sequence[_Stage], variants: Sequence[Any]) -> Iterator[_Stage]:
    """Give the prices of a tier over time: the standard ones with what its variants change.

    Of variants that hold, the first that states a key counts. A tier without a variant that holds
    has no price, whatever the standard is.
    """
    starts = {_start(variant) for variant in variants} | {stage.start for stage in stages}
    for start in sorted(starts, key=lambda start: (start is not None, start)):
        holding = [variant for variant in variants if _has_begun(_start(variant), start)]
        standard = [stage for stage in stages if _has_begun(stage.start, start)]
        if holding and standard:
            prices = dict(standard[-1].prices)
            for variant in reversed(holding):
                prices.update(_stated(variant.prices))
            yield _Stage(start, prices)


def _has_begun(start: datetime | None, instant: datetime | None) -> bool:
    return start is None or (instant is not None and start <= instant)


def _daily_rows(theirs: Any, model: _Model) -> Iterator[Price]:
    """Give the rows for hours of the day, hours with equal prices together.

    The package cannot date them: they are taken to hold from the last dated price before them.
    """
    start: datetime | None = None
    spans: dict[int, list[tuple[int, int]]] = {}
    ladders: list[tuple[Ladder, datetime | None]] = []
    for condition in _conditions(theirs):
        if not _is_daily(condition):
            start = _start(condition) or start
            continue
        priced = _ladder(_stated(condition.prices), model), start
        if priced not in ladders:
            ladders.append(priced)
        spans.setdefault(ladders.index(priced), []).append(_span(condition.constraint))
    for place, (ladder, begun) in enumerate(ladders):
        hours = DailyHours(tuple(sorted(spans[place])))
        for size, rates in ladder.items():
            if rates:
                yield model.row(rates, Selector(above=size, hours=hours), begun)


def _span(constraint: Any) -> tuple[int, int]:
    return _minute(constraint.start_time), _minute(constraint.end_time)


def _minute(moment: time) -> int:
    aware = datetime.combine(date.min.replace(year=1970), moment)
    utc = aware.replace(tzinfo=UTC) if aware.tzinfo is None else aware.astimezone(UTC)
    return utc.hour * 60 + utc.minute


def _names(clause: Any) -> list[str]:
    """Give the names and patterns of ours that match what a clause of the package matches."""
    ((kind, value),) = vars(clause).items()
    if kind == "or_":
        return list(dict.fromkeys(name for each in value for name in _names(each)))
    if kind == "and_":
        return ["/^" + "".join(_lookahead(each) for each in value) + "/"]
    text = str(value) if kind == "regex" else str(value).lower()
    patterns = {
        "equals": text,
        "starts_with": f"{text}*",
        "ends_with": f"*{text}",
        "contains": f"*{text}*",
        "regex": f"/{text}/",
    }
    return [patterns[kind]]


def _lookahead(clause: Any) -> str:
    ((kind, value),) = vars(clause).items()
    if kind == "or_":
        return "(?:" + "|".join(_lookahead(each) for each in value) + ")"
    if kind == "regex":
        return f"(?={value})" if value.startswith("^") else f"(?=.*{value})"
    text = re.escape(str(value).lower())
    return {
        "equals": f"(?={text}$)",
        "starts_with": f"(?={text})",
        "ends_with": f"(?=.*{text}$)",
        "contains": f"(?=.*{text})",
    }[kind]
