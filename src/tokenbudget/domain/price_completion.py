"""What a further source may add to a price book that has its prices from another one.

It owns the rule: tiers, regions and days of sunset are taken only for a model whose present input
and output prices both sources agree on, and only where all the names that mean the model say the
same. Everything else is a conflict to be looked at. It refuses to translate a source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.price_differences import (
    AddRow,
    Difference,
    DifferenceKind,
    SetSunset,
    is_by_hand,
    is_kept,
)
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import (
    STANDARD_TIER,
    ModelPrices,
    Price,
    Selector,
    describe_row,
    describe_selector,
    rates_in_picos,
)
from tokenbudget.domain.usage import TOKEN_UNITS

Rates = Mapping[str, Fraction]
Ladder = Mapping[int | None, Rates]
"""Rates in currency units for one unit of usage, by exclusive threshold on total input."""

BASE_UNIT: Final = "input_tokens"
AGREEING_UNITS: Final = (BASE_UNIT, "output_tokens")
MILLION: Final = 10**6


@dataclass(frozen=True, slots=True)
class Offer:
    """What a completing source states for one name of a provider.

    ``tiers`` holds the standard prices under ``standard``. ``multipliers`` are by region. An offer
    with a ``region`` states prices for that region alone.
    """

    provider: str
    name: str
    tiers: Mapping[str, Ladder]
    multipliers: Mapping[str, Fraction] = field(default_factory=dict)
    region: str | None = None
    sunset: datetime | None = None

    @property
    def standard(self) -> Ladder:
        """Give the standard prices, empty when none are stated."""
        return self.tiers.get(STANDARD_TIER, {})


def complete_book(
    price_list: PriceList, offers: Iterable[Offer], *, label: str, today: datetime
) -> list[Difference]:
    """Give what the offers add to the book and where they contradict it; ``label`` is their source.

    Names the book does not know mean nothing here: they are no completion.
    """
    by_model: dict[tuple[str, str], list[Offer]] = defaultdict(list)
    models: dict[tuple[str, str], ModelPrices] = {}
    for offer in offers:
        match = price_list.find(offer.provider, offer.name, occurred_at=today)
        if match is not None and not match.flags:
            key = match.model.provider, match.model.model
            models[key] = match.model
            by_model[key].append(offer)
    return [
        difference
        for key in sorted(models)
        for difference in _Completion(models[key], by_model[key], label, today).differences()
    ]


@dataclass(frozen=True, slots=True)
class _Completion:
    """One model of the book and all that a source states for its names."""

    model: ModelPrices
    offers: Sequence[Offer]
    label: str
    today: datetime

    def differences(self) -> Iterator[Difference]:
        """Give what the offers add and where they contradict the book."""
        everywhere = [offer for offer in self.offers if offer.region is None]
        agreeing = [offer for offer in everywhere if self._agrees(offer, None)]
        yield from self._other_base_prices(offer for offer in everywhere if offer not in agreeing)
        if agreeing:
            yield from self._tiers(agreeing)
            yield from self._multipliers(agreeing)
            yield from self._regions(agreeing)
        yield from self._sunset(everywhere)

    def _other_base_prices(self, offers: Iterable[Offer]) -> Iterator[Difference]:
        names: dict[str, list[str]] = defaultdict(list)
        for offer in offers:
            stated = offer.standard.get(None, {})
            if BASE_UNIT in stated:
                names[_spell_base(stated)].append(offer.name)
        for base, those in names.items():
            yield self._conflict(Selector(), f"{', '.join(those)}: {base}")

    def _agrees(self, offer: Offer, above: int | None) -> bool:
        stated = offer.standard.get(above)
        if stated is None or above not in self._bases:
            return False
        rates = rates_of(self._bases[above])
        return all(
            stated.get(unit, Fraction(0)) == rates.get(unit, Fraction(0)) for unit in AGREEING_UNITS
        )

    @property
    def _bases(self) -> dict[int | None, Price]:
        """Give today's standard rows by threshold."""
        sizes = {row.selector.above for row in self.model.prices}
        rows = {size: self._present(Selector(above=size)) for size in sizes}
        return {size: row for size, row in rows.items() if row is not None}

    def _present(self, selector: Selector) -> Price | None:
        return next(
            (
                row
                for row in self.model.prices
                if row.selector == selector and row.times is None and row.is_valid_at(self.today)
            ),
            None,
        )

    def _tiers(self, agreeing: Sequence[Offer]) -> Iterator[Difference]:
        tiers = dict.fromkeys(tier for offer in agreeing for tier in offer.tiers)
        for tier in (tier for tier in tiers if tier != STANDARD_TIER):
            ladders = [
                {above: rates for above, rates in ladder.items() if self._agrees(offer, above)}
                for offer in agreeing
                if (ladder := offer.tiers.get(tier))
            ]
            yield from self._ladder(Selector(tier), ladders)

    def _regions(self, agreeing: Sequence[Offer]) -> Iterator[Difference]:
        agreed = {
            above for each in agreeing for above in each.standard if self._agrees(each, above)
        }
        regions = dict.fromkeys(offer.region for offer in self.offers if offer.region is not None)
        for region in regions:
            ladders = [
                {above: rates for above, rates in offer.standard.items() if above in agreed}
                for offer in self.offers
                if offer.region == region
            ]
            if any(self._differs_from_base(ladder) for ladder in ladders):
                yield from self._ladder(Selector(region=region), ladders)

    def _differs_from_base(self, ladder: Ladder) -> bool:
        rates = rates_of(self._bases[None])
        return any(rates.get(unit) != rate for unit, rate in ladder.get(None, {}).items() if rate)

    def _ladder(self, selector: Selector, ladders: Sequence[Ladder]) -> Iterator[Difference]:
        """Give what follows for one tier or region; a threshold needs the row without one."""
        merged = _merge(ladders)
        if merged is None:
            yield self._conflict(selector, "its names state different prices")
            return
        for above in sorted(merged, key=lambda above: -1 if above is None else above):
            step = self._step(replace(selector, above=above), merged[above])
            if step is not None:
                yield step
            if above is None and step is not None and step.change is None:
                return

    def _step(self, selector: Selector, stated: Rates) -> Difference | None:
        base, present = self._bases[selector.above], self._present(selector)
        missing = [unit for unit in base.rates if unit in TOKEN_UNITS and unit not in stated]
        if present is not None:
            others = _spell_others(rates_of(present), stated)
            return self._conflict(selector, others, present) if others else None
        if missing:
            return self._conflict(selector, f"states nothing for {', '.join(missing)}")
        if any(row.selector == selector for row in self.model.prices):
            return self._conflict(selector, "the book has a row, but not for today")
        rates, divisor = rates_in_picos({**rates_of(base), **stated})
        row = replace(base, rates=rates, divisor=divisor, selector=selector)
        return self._added(replace(row, source=self.label, note="", is_pinned=False))

    def _multipliers(self, agreeing: Sequence[Offer]) -> Iterator[Difference]:
        regions = dict.fromkeys(region for offer in agreeing for region in offer.multipliers)
        for region in regions:
            selector = Selector(tier=None, region=region)
            factors = {offer.multipliers.get(region, Fraction(1)) for offer in agreeing}
            present = [row for row in self.model.prices if row.selector == selector and row.times]
            if len(factors) > 1:
                yield self._conflict(selector, "its names state different multipliers")
            elif not present:
                times = next(iter(factors)).as_integer_ratio()
                row = replace(
                    self._bases[None], rates={}, divisor=1, times=times, selector=selector
                )
                yield self._added(replace(row, source=self.label, note="", is_pinned=False))
            elif any(row.times and Fraction(*row.times) not in factors for row in present):
                yield self._conflict(selector, "another multiplier", present[-1])

    def _added(self, row: Price) -> Difference:
        return Difference(
            DifferenceKind.NEW_ROW,
            row.provider,
            row.model,
            describe_row(row),
            f"{self.label} agrees on the base prices",
            AddRow(row),
            after=row,
        )

    def _conflict(
        self, selector: Selector, reason: str, present: Price | None = None
    ) -> Difference:
        place = describe_selector(selector)
        if present is not None and is_kept(present):
            kind, reason = DifferenceKind.PINNED, present.note or present.source
        else:
            kind, reason = DifferenceKind.CONFLICT, f"{self.label}: {reason}"
        return Difference(
            kind, self.model.provider, self.model.model, place, reason, before=present
        )

    def _sunset(self, offers: Sequence[Offer]) -> Iterator[Difference]:
        stated = [offer.sunset for offer in offers if offer.sunset is not None]
        if not stated or len(stated) < len(offers):
            return
        last = max(stated)
        facts = self.model.provider, self.model.model, f"sunset {last.date()}"
        if self.model.sunset is None:
            change = SetSunset(self.model.model, last, self.label)
            yield Difference(DifferenceKind.NEW_SUNSET, *facts, self.label, change)
        elif self.model.sunset != last:
            by_hand = is_by_hand(self.model.sunset_source)
            kind = DifferenceKind.PINNED if by_hand else DifferenceKind.CONFLICT
            reason = f"the book says {self.model.sunset.date()}, {self.model.sunset_source}"
            yield Difference(kind, *facts, reason)


def rates_of(price: Price) -> dict[str, Fraction]:
    """Give the published rates in currency units for one unit of usage."""
    return {
        unit: Fraction(picos, price.divisor * PICOS_PER_UNIT) for unit, picos in price.rates.items()
    }


def _merge(ladders: Sequence[Ladder]) -> Ladder | None:
    """Give all that the ladders state together, None when two of them contradict each other."""
    merged: dict[int | None, dict[str, Fraction]] = {}
    for ladder in ladders:
        for above, rates in ladder.items():
            known = merged.setdefault(above, {})
            if any(known.get(unit, rate) != rate for unit, rate in rates.items()):
                return None
            known.update(rates)
    return merged


def _spell_base(rates: Rates) -> str:
    return ", ".join(f"{unit} {_spell(rates[unit])}" for unit in AGREEING_UNITS if unit in rates)


def _spell_others(mine: Rates, stated: Rates) -> str:
    """Give the rates that are stated otherwise than the book has them, empty when none is."""
    return ", ".join(
        f"{unit} {_spell(rate)} instead of {_spell(mine[unit]) if unit in mine else 'none'}"
        for unit, rate in stated.items()
        if mine.get(unit) != rate
    )


def _spell(rate: Fraction) -> str:
    """Give a rate for a million tokens."""
    figure = rate * MILLION
    return f"{(Decimal(figure.numerator) / figure.denominator).normalize():f}"
