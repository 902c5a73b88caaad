"""Price rows and lists with boring defaults, for tests of whatever rates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import (
    AliasTarget,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
    close_validity,
    find_superseded,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday."""


def day(text: str) -> datetime:
    """Give midnight UTC of an ISO date."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_price(rates: Mapping[str, int] | None = None, **overrides: Any) -> Price:
    """Give a row of ``acme``'s model ``m``: by default a dollar a million in, four out."""
    selector = {
        key: overrides.pop(key) for key in ("tier", "region", "above", "hours") if key in overrides
    }
    usual = {"input_tokens": 1_000_000, "output_tokens": 4_000_000}
    fields: dict[str, Any] = {"provider": "acme", "model": "m", **overrides}
    return Price(rates=usual if rates is None else rates, selector=Selector(**selector), **fields)


def make_model(*prices: Price, **overrides: Any) -> ModelPrices:
    """Give a model of ``acme`` with these rows, closed; it answers to its own name only."""
    model = overrides.pop("model", "m")
    rows = prices or (make_price(),)
    fields: dict[str, Any] = {"provider": "acme", "patterns": (model,), **overrides}
    return ModelPrices(
        model=model, prices=close_validity(rows), superseded=find_superseded(rows), **fields
    )


def make_price_list(*models: ModelPrices, **overrides: Any) -> PriceList:
    """Give a price list in USD with one provider, ``acme``, that has these models."""
    aliases: Mapping[str, tuple[AliasTarget, ...]] = overrides.pop("aliases", {})
    others: tuple[ProviderPrices, ...] = overrides.pop("others", ())
    fallback: tuple[str, ...] = overrides.pop("fallback", ())
    acme = ProviderPrices(
        provider="acme",
        names=("acme", "acme-ai"),
        models=models or (make_model(),),
        fallback=fallback,
        aliases=aliases,
    )
    return PriceList((acme, *others), version=overrides.pop("version", "v1"), **overrides)
