"""How a price book and a source differ: the kinds, what makes one go away, what is alarming.

It refuses to compare (``price_sync.py``, ``price_completion.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tokenbudget.domain.prices import ModelPrices, Price, ProviderPrices

BY_HAND: Final = "manual"
MAX_GONE_SHARE: Final = Fraction(1, 5)
MAX_RATE_MOVE: Final = 10


class DifferenceKind(StrEnum):
    """What kind of difference it is; all but the last two wait for somebody to decide."""

    NEW_PROVIDER = "new_provider"
    NEW_MODEL = "new_model"
    NEW_ROW = "new_row"
    CHANGED_RATE = "changed_rate"
    NEW_NAME = "new_name"
    NEW_SUNSET = "new_sunset"
    GONE = "gone"
    CONFLICT = "conflict"
    PINNED = "pinned"
    ONLY_HERE = "only_here"


SETTLED_KINDS: Final = frozenset({DifferenceKind.PINNED, DifferenceKind.ONLY_HERE})
"""Differences that are wanted: their reason is in the book."""


@dataclass(frozen=True, slots=True)
class AddProvider:
    """A provider the book has no file for."""

    prices: ProviderPrices


@dataclass(frozen=True, slots=True)
class AddModel:
    """A model for a provider's file; it stands before the model ``before``, None is at the end."""

    prices: ModelPrices
    before: str | None


@dataclass(frozen=True, slots=True)
class AddRow:
    """A row for a model that the file has."""

    price: Price


@dataclass(frozen=True, slots=True)
class AddNames:
    """All names a model answers to from now on, those it had first."""

    model: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetSunset:
    """The day from which a model is no longer served, and who says so."""

    model: str
    sunset: datetime
    source: str


FileChange = AddModel | AddRow | AddNames | SetSunset
"""What changes a file that is there."""
Change = AddProvider | FileChange


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; ``change`` is what makes it go away, None when only a person can.

    ``place`` names the row; ``reason`` says what is behind it; ``before`` and ``after`` are the
    rows of the book and of the source where both have one.
    """

    kind: DifferenceKind
    provider: str
    model: str
    place: str = ""
    reason: str = ""
    change: Change | None = None
    before: Price | None = None
    after: Price | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether somebody has to decide."""
        return self.kind not in SETTLED_KINDS


def find_alarms(book: Sequence[ProviderPrices], differences: Sequence[Difference]) -> list[str]:
    """Give why the differences should not be written without a second look.

    ``book`` is what was compared: with a part of it, a part that vanishes is seen too.
    """
    count = sum(len(prices.models) for prices in book)
    gone = sum(1 for each in differences if each.kind is DifferenceKind.GONE and not each.place)
    alarms = [_leap(each) for each in differences if each.change is not None]
    if count and Fraction(gone, count) > MAX_GONE_SHARE:
        alarms.insert(0, f"{gone} of {count} models vanish, more than one in five")
    return [alarm for alarm in alarms if alarm]


def have_same_rates(first: Price, second: Price) -> bool:
    """Tell whether two rows charge the same for everything, whatever units they spell out."""
    return (
        first.currency == second.currency
        and first.times == second.times
        and first.unit_rates.keys() == second.unit_rates.keys()
        and all(
            picos * second.divisor == second.unit_rates[unit] * first.divisor
            for unit, picos in first.unit_rates.items()
        )
    )


def is_kept(price: Price) -> bool:
    """Tell whether a row stays as it is, whatever a source says."""
    return price.is_pinned or is_by_hand(price.source)


def is_by_hand(provenance: str) -> bool:
    """Tell whether something was entered by hand, from the page its provenance names."""
    return package_of(provenance) == BY_HAND


def package_of(label: str) -> str:
    """Give the package of a provenance such as ``genai-prices 0.2.3``, whatever its version."""
    return label.partition(" ")[0].partition(":")[0]


def _leap(difference: Difference) -> str:
    """Give words for a rate that moves far, empty when none does."""
    before, after = difference.before, difference.after
    old, new = _figures(before), _figures(after)
    for name in (name for name in old if name in new):
        if max(old[name], new[name]) > MAX_RATE_MOVE * min(old[name], new[name]):
            where = f"{difference.provider} {difference.model}"
            return f"{where}: {name} moves by more than {MAX_RATE_MOVE} times"
    return ""


def _figures(price: Price | None) -> dict[str, Fraction]:
    if price is None:
        return {}
    if price.times is not None:
        return {"times": Fraction(*price.times)}
    return {unit: Fraction(picos, price.divisor) for unit, picos in price.unit_rates.items()}
