"""What genai-prices publishes, read from its own structures and by rules of our own.

It shares no code with our loader, our price list or our rating, and none with the package's
``calc_price``: it only reads the dated prices, the variants for tiers and the steps by size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from genai_prices.data import providers
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

PublishedPrice = Decimal | TieredPrices

LATEST: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
INSTANT_BEFORE: Final = timedelta(microseconds=1)
PER_BY_SUFFIX: Final = {
    "mtok": 10**6,
    "mchars": 10**6,
    "kcount": 10**3,
    "kpages": 10**3,
    "hours": 3600,
}
TIER_OF_CONTEXT: Final = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
    ("service_tier", "fast"): "fast",
    ("speed", "fast"): "fast",
}
"""Which service tier a variant is for; other contexts (a route, a search type) are no tiers."""
CLAUSE_TEXTS: Final = ("equals", "starts_with", "ends_with", "contains")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model by a name it answers to, at a time, in a tier, with the prices published for it.

    ``context`` is how the package names the tier.
    """

    provider: Provider
    model: ModelInfo
    name: str
    occurred_at: datetime
    tier: str | None
    context: Mapping[str, str]
    prices: Mapping[str, PublishedPrice]

    @property
    def thresholds(self) -> list[int]:
        """Give the sizes of input above which a price changes, ascending."""
        tiered = (price for price in self.prices.values() if isinstance(price, TieredPrices))
        return sorted({tier.start for price in tiered for tier in price.tiers})

    def rate(self, keys: Iterable[str], total_input_tokens: int) -> Fraction:
        """Give the dollars for one unit by the first of the keys that has a price."""
        key = next(key for key in keys if key in self.prices)
        price = self.prices[key]
        if isinstance(price, TieredPrices):
            reached = [tier for tier in price.tiers if total_input_tokens > tier.start]
            price = max(reached, key=lambda tier: tier.start).price if reached else price.base
        return Fraction(price) / PER_BY_SUFFIX[key.rsplit("_", 1)[-1]]


def list_offers() -> Iterator[Offer]:
    """Give every model by one name: on both sides of each dated change and now, in each tier."""
    for provider in providers:
        for model in provider.models:
            name = _name_of(provider, model)
            if name is not None and not has_daily_hours(model):
                yield from _offers_of(provider, model, name)


def has_daily_hours(model: ModelInfo) -> bool:
    """Tell whether the package prices the model by the hour of the day."""
    return any(isinstance(row.constraint, TimeOfDateConstraint) for row in _rows(model))


def _offers_of(provider: Provider, model: ModelInfo, name: str) -> Iterator[Offer]:
    contexts = {
        tier: variant.when
        for variant in model.price_variants or ()
        if (tier := _tier_of(variant)) is not None
    }
    for instant in _instants(model):
        standard = _standard_prices(model, instant)
        yield Offer(provider, model, name, instant, None, {}, standard)
        for tier, context in sorted(contexts.items()):
            overrides = _tier_prices(model, tier, instant)
            if overrides:
                prices = {**standard, **overrides}
                yield Offer(provider, model, name, instant, tier, context, prices)


def _name_of(provider: Provider, model: ModelInfo) -> str | None:
    """Give a name by which the package finds this model and no earlier one; None without any."""
    candidates = [model.id, *_texts_of(model.match)]
    return next((name for name in candidates if provider.find_model(name) is model), None)


def _texts_of(clause: Any) -> list[str]:
    """Give names that a match clause may answer to: its texts, alone and one after another."""
    for attribute in CLAUSE_TEXTS:
        if hasattr(clause, attribute):
            return [getattr(clause, attribute)]
    if hasattr(clause, "or_"):
        return [text for part in clause.or_ for text in _texts_of(part)]
    if hasattr(clause, "and_"):
        return ["".join(text for part in clause.and_ for text in _texts_of(part)[:1])]
    return []


def _instants(model: ModelInfo) -> list[datetime]:
    constraints = [
        *(row.constraint for row in _rows(model)),
        *(variant.constraint for variant in model.price_variants or ()),
    ]
    starts = {
        datetime.combine(constraint.start_date, time(), tzinfo=UTC)
        for constraint in constraints
        if isinstance(constraint, StartDateConstraint)
    }
    return sorted({LATEST, *starts, *(start - INSTANT_BEFORE for start in starts)})


def _rows(model: ModelInfo) -> list[ConditionalPrice]:
    if isinstance(model.prices, ModelPrice):
        return [ConditionalPrice(prices=model.prices)]
    return model.prices


def _standard_prices(model: ModelInfo, instant: datetime) -> dict[str, PublishedPrice]:
    """Give the prices of the last row that has begun, or of the first when none has."""
    rows = _rows(model)
    begun = [row for row in rows if _has_begun(row.constraint, instant)]
    return _published(begun[-1] if begun else rows[0])


def _tier_prices(model: ModelInfo, tier: str, instant: datetime) -> dict[str, PublishedPrice]:
    """Give what the tier's variants say instead, the first variant first; empty before they do."""
    overrides: dict[str, PublishedPrice] = {}
    for variant in model.price_variants or ():
        if _tier_of(variant) == tier and _has_begun(variant.constraint, instant):
            overrides = {**_published(variant), **overrides}
    return overrides


def _tier_of(variant: PriceVariant) -> str | None:
    [*others, context] = variant.when.items()
    return None if others else TIER_OF_CONTEXT.get(context)


def _has_begun(constraint: object, instant: datetime) -> bool:
    if isinstance(constraint, StartDateConstraint):
        return instant.date() >= constraint.start_date
    return constraint is None


def _published(row: ConditionalPrice | PriceVariant) -> dict[str, PublishedPrice]:
    return {key: price for key, price in vars(row.prices).items() if price is not None}
