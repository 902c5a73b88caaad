"""How far token estimates are off. It owns the fit of a multiplier and its band from what was seen.

It refuses to count tokens, to know families and to read a ledger. Ratios are integers in basis
points: 15,000 means that three tokens were reported for every two counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.money import divide_half_even

BASIS_POINTS: Final = 10_000
MIN_PAIRS: Final = 50
"""Fewer pairs say too little of a family: the band would rest on five of them."""
MIN_COUNTED_TOKENS: Final = 100
"""Below it, what providers add to every call outweighs the text that was counted."""
COVERED_PERCENT: Final = 90
LOW_PERCENT, HIGH_PERCENT = 10, 90


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens counted in the text of one call, unscaled, and those its provider reported."""

    counted: int
    reported: int

    @property
    def is_telling(self) -> bool:
        """Tell whether the pair is large enough to say something of the text itself."""
        return self.counted >= MIN_COUNTED_TOKENS and self.reported > 0


@dataclass(frozen=True, slots=True)
class Fit:
    """What the pairs of one family say, in basis points.

    ``multiplier`` is the median ratio. ``band`` is the smallest share of it within which
    COVERED_PERCENT of the ratios lie on either side. ``low`` and ``high`` are the outer deciles.
    """

    multiplier: int
    band: int
    low: int
    high: int


def fit_multiplier(pairs: Sequence[TokenPair]) -> Fit | None:
    """Give the fit of the pairs that are telling, None when there are fewer than MIN_PAIRS.

    The median is not moved by calls whose prompt was only partly counted, as long as these are
    less than half.
    """
    ratios = sorted(
        divide_half_even(pair.reported * BASIS_POINTS, pair.counted)
        for pair in pairs
        if pair.is_telling
    )
    if len(ratios) < MIN_PAIRS:
        return None
    multiplier = max(1, _median(ratios))
    distances = sorted(-(-abs(ratio - multiplier) * BASIS_POINTS // multiplier) for ratio in ratios)
    return Fit(
        multiplier=multiplier,
        band=_percentile(distances, COVERED_PERCENT),
        low=_percentile(ratios, LOW_PERCENT),
        high=_percentile(ratios, HIGH_PERCENT),
    )


def _median(ordered: Sequence[int]) -> int:
    middle = len(ordered) // 2
    return divide_half_even(ordered[middle] + ordered[-middle - 1], 2)


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """Give the smallest value that so many percent of the values do not exceed (nearest rank)."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[rank - 1]
