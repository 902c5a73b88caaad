"""Why spend changed from one period to the next.

It owns an exact split into four effects; it refuses to guess causes.

The effects are worked out a cell at a time (a cell is a feature on a model) and sum to the change
to the nano:

    volume   what the change in requests would have cost at the whole's former cost per request
    mix      what came from requests moving between cells of other cost, new and ended ones too
    length   what came from requests that use more or fewer tokens than before
    rate     the rest: another cost per token, by price, caching or the balance of input and output
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenbudget.domain.cost_folding import total
from tokenbudget.domain.costs import CostRow, Group
from tokenbudget.domain.money import divide_half_even


@dataclass(frozen=True, slots=True)
class ChangeEffects:
    """The four effects in nanos; their sum is the change of the effective cost."""

    volume_nanos: int
    mix_nanos: int
    length_nanos: int
    rate_nanos: int


def explain_change(
    now: Mapping[Group, CostRow], before: Mapping[Group, CostRow]
) -> ChangeEffects | None:
    """Give the effects, or None when there were no requests before to compare with."""
    whole_now, whole_before = total(now.values()), total(before.values())
    if whole_before.requests == 0:
        return None
    at_former_mix = _scaled(whole_before.effective_nanos, whole_now.requests, whole_before.requests)
    at_former_length = at_former_rate = 0
    for group in now.keys() | before.keys():
        length, rate = _cell_expectations(now.get(group, CostRow()), before.get(group, CostRow()))
        at_former_length += length
        at_former_rate += rate
    return ChangeEffects(
        volume_nanos=at_former_mix - whole_before.effective_nanos,
        mix_nanos=at_former_length - at_former_mix,
        length_nanos=at_former_rate - at_former_length,
        rate_nanos=whole_now.effective_nanos - at_former_rate,
    )


def _cell_expectations(now: CostRow, before: CostRow) -> tuple[int, int]:
    """Give the cell's cost at its former cost per request, and at its former cost per token."""
    if before.requests == 0:
        return now.effective_nanos, now.effective_nanos
    at_former_length = _scaled(before.effective_nanos, now.requests, before.requests)
    if before.tokens == 0:
        return at_former_length, at_former_length
    return at_former_length, _scaled(before.effective_nanos, now.tokens, before.tokens)


def _scaled(nanos: int, numerator: int, denominator: int) -> int:
    return divide_half_even(nanos * numerator, denominator)
