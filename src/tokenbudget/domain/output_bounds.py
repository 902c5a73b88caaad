"""How much output calls usually have. It owns the buckets and what bound follows from them.

It refuses to know models and days. A bucket is named by its upper edge: the whole numbers at or
above the powers of 2^(1/4), and zero. So a bound read off a bucket is an upper bound of the
percentile, by at most a fifth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from typing import Final

from tokenbudget.domain.usage import MAX_QUANTITY

STEPS_PER_DOUBLING: Final = 4
BOUND_PERCENT: Final = 95
MIN_CALLS: Final = 20
"""Fewer calls than this tell nothing about what most have."""

BOUND_DAYS: Final = 7
"""Days of use that a bound looks at, today included."""


@dataclass(frozen=True, slots=True)
class OutputBound:
    """What 95 of 100 calls stay within, and how many calls say so."""

    tokens: int
    calls: int


def bucket_of(tokens: int) -> int:
    """Give the upper edge of the bucket that holds so many tokens."""
    return EDGES[min(bisect_left(EDGES, tokens), len(EDGES) - 1)]


def bound_of(calls_by_bucket: Mapping[int, int]) -> OutputBound | None:
    """Give the edge that 95 % of the calls do not exceed, None when they are too few to tell."""
    calls = sum(calls_by_bucket.values())
    if calls < MIN_CALLS:
        return None
    wanted = -(-calls * BOUND_PERCENT // 100)
    edges = sorted(calls_by_bucket)
    reached = accumulate(calls_by_bucket[edge] for edge in edges)
    tokens = next(edge for edge, seen in zip(edges, reached, strict=True) if seen >= wanted)
    return OutputBound(tokens, calls)


def _edges() -> Iterator[int]:
    yield 0
    last, step = 0, 0
    while last < MAX_QUANTITY:
        edge = _ceil_fourth_root(2**step)
        if edge > last:
            yield edge
            last = edge
        step += 1


def _ceil_fourth_root(number: int) -> int:
    root = isqrt(isqrt(number))
    return root if root**STEPS_PER_DOUBLING >= number else root + 1


EDGES: Final = tuple(_edges())
