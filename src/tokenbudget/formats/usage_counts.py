"""What the readers of provider usage share: the answer, and counts read from foreign objects.

It owns what a foreign number must be. It refuses to know any provider's spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from numbers import Real
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import MAX_NANOS, NANOS_PER_UNIT, decimal_to_nanos

TOTAL_MISMATCH: Final = "usage_total_mismatch"
SECONDS_ROUNDED_UP: Final = "seconds_rounded_up"
NOT_COUNTED: Final = "not_counted"
OTHER_MODEL: Final = "other_model"
MAX_LIST_ENTRIES: Final = 1_000

Spellings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class NormalisedUsage:
    """A provider's usage in our units.

    ``quantities`` holds only what the provider reported: absent is not zero. ``flags`` names what
    did not add up or has no unit of ours. ``service_tier`` and ``region`` are those the provider
    says it served from, when its usage says so. ``reported_nanos`` is the provider's own price of
    the call in US dollars; it informs and never rates.
    """

    quantities: Mapping[str, int]
    flags: tuple[str, ...] = ()
    service_tier: str | None = None
    reported_nanos: int | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class UsageObject:
    """One JSON object of a usage; ``path`` is where it lies, for messages."""

    values: Mapping[str, object]
    path: str = "provider_usage"

    def count(self, *spellings: str) -> int | None:
        """Give the first of these fields that is there, or None; dots lead into inner objects.

        Raises InvalidInput when it is no whole number of at least zero.
        """
        for spelling in spellings:
            number = self._number(spelling)
            if number is not None:
                if number != ceil(number):
                    raise self._fault(spelling, "is not a whole number")
                return ceil(number)
        return None

    def counts(self, spellings_by_unit: Spellings) -> dict[str, int]:
        """Give the units that are there, each from the first of its spellings that is."""
        found = {unit: self.count(*spellings) for unit, spellings in spellings_by_unit.items()}
        return {unit: count for unit, count in found.items() if count is not None}

    def seconds(self, spelling: str) -> tuple[int | None, tuple[str, ...]]:
        """Give whole seconds, rounded up, with the flag that says so when it mattered."""
        number = self._number(spelling)
        if number is None:
            return None, ()
        seconds = ceil(number)
        return seconds, () if seconds == number else (SECONDS_ROUNDED_UP,)

    def nanos(self, spelling: str, *, exponent: int = 0) -> int | None:
        """Give nanos of a dollar for an amount in 10**-``exponent`` dollars, or None."""
        number = self._number(spelling)
        if number is None:
            return None
        if number > MAX_NANOS // NANOS_PER_UNIT * 10**exponent:
            raise self._fault(spelling, "is out of range")
        return decimal_to_nanos(number.scaleb(-exponent))

    def text(self, *spellings: str) -> str | None:
        """Give the first of these fields that is there as text, or None."""
        for spelling in spellings:
            value = self._find(spelling)
            if value is not None:
                if not isinstance(value, str):
                    raise self._fault(spelling, "is not text")
                return value
        return None

    def objects(self, *spellings: str) -> list[UsageObject]:
        """Give the objects of the first of these lists that is there; none when it is absent."""
        for spelling in spellings:
            value = self._find(spelling)
            if value is not None:
                return self._entries(spelling, value)
        return []

    def _entries(self, spelling: str, value: object) -> list[UsageObject]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._fault(spelling, "is not a list")
        if len(value) > MAX_LIST_ENTRIES:
            raise self._fault(spelling, f"has more than {MAX_LIST_ENTRIES} entries")
        entries = []
        for index, entry in enumerate(value):
            if not isinstance(entry, Mapping):
                raise self._fault(f"{spelling}[{index}]", "is not an object")
            entries.append(UsageObject(entry, f"{self.path}.{spelling}[{index}]"))
        return entries

    def _number(self, spelling: str) -> Decimal | None:
        """Give the number exactly; a binary fraction counts as its shortest decimal form."""
        value = self._find(spelling)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, Real | Decimal):
            raise self._fault(spelling, "is not a number")
        number = Decimal(value) if isinstance(value, int | Decimal) else Decimal(str(value))
        if not number.is_finite():
            raise self._fault(spelling, "is not finite")
        if number < 0:
            raise self._fault(spelling, "is negative")
        return number

    def _find(self, spelling: str) -> object:
        value: object = self.values
        for name in spelling.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping):
                raise self._fault(spelling, "does not lie in an object")
            value = value.get(name)
        return value

    def _fault(self, spelling: str, rule: str) -> InvalidInput:
        field = f"{self.path}.{spelling}"
        return InvalidInput(f"{field} {rule}", field=field)


def total_flags(quantities: Mapping[str, int], total: int | None) -> tuple[str, ...]:
    """Give the flag of a provider's total that is not input plus output, or nothing."""
    if total is None or total == token_total(quantities):
        return ()
    return (TOTAL_MISMATCH,)


def token_total(quantities: Mapping[str, int]) -> int:
    """Give input plus output tokens."""
    return quantities.get("input_tokens", 0) + quantities.get("output_tokens", 0)


def not_counted_flags(usage: UsageObject, *spellings: str) -> tuple[str, ...]:
    """Give ``not_counted:<field>`` for each of these that is above zero: we have no unit for it."""
    return tuple(f"{NOT_COUNTED}:{name}" for name in spellings if usage.count(name))


def split_cache_writes(
    written: int | None, by_lifetime: Mapping[str, int]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Give cache writes by unit, and the flag of a split that is not ``written``.

    What the split leaves open has no stated lifetime. Without a split, all of it has none.
    """
    split = dict(by_lifetime)
    if written is None:
        return split, ()
    rest = written - sum(split.values())
    if rest > 0 or not split:
        split["cache_write_tokens"] = split.get("cache_write_tokens", 0) + rest
    return split, (TOTAL_MISMATCH,) if rest and by_lifetime else ()


def sum_present(*counts: int | None) -> int | None:
    """Give the sum of what is there, or None when nothing is."""
    present = [count for count in counts if count is not None]
    return sum(present) if present else None
