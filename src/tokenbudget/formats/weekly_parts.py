"""The parts of the weekly report that are its own: tiles, why spend changed, what grows the bill.

It refuses to read.

The cube is one set of cost rows by every dimension of ``CUBE``; everything here is folded from two
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.breakdowns import (
    NANOS_PER_CENT,
    Amount,
    Line,
    fold_by,
    round_parts,
    rounded_amount,
)
from tokenbudget.domain.changes import explain_change
from tokenbudget.domain.cost_folding import total
from tokenbudget.domain.costs import CostRow, Group
from tokenbudget.domain.money import divide_half_even
from tokenbudget.formats.display import (
    DASH,
    change_share_text,
    money_text,
    nanos_text,
    share_text,
    short_count_text,
)
from tokenbudget.formats.panels import Tile, value_text

CUBE: Final = (
    "team",
    "feature",
    "tenant",
    "provider",
    "model",
    "request_type",
    "status",
    "is_retry",
)
DEAREST_MODELS: Final = 3
THOUSAND: Final = 1000


@dataclass(frozen=True, slots=True)
class EffectLine:
    """One part of the change and what it means; the shown amounts add to the change shown."""

    name: str
    meaning: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class DriverLine:
    """A kind of spend that grows the bill. Kinds overlap, so these lines do not add up."""

    name: str
    amount: Amount
    share: str
    amount_before: Amount
    share_before: str

    @property
    def change(self) -> Amount:
        """Give what was spent more than before."""
        return self.amount - self.amount_before


def cube_key(*dimensions: str) -> Callable[[CostRow], Group]:
    """Give the function that picks these dimensions of a cube row, as the key to fold it by."""
    positions = [CUBE.index(dimension) for dimension in dimensions]

    def pick(row: CostRow) -> Group:
        return tuple(row.group[position] for position in positions)

    return pick


def effect_lines(
    now: Mapping[Group, CostRow], before: Mapping[Group, CostRow], change: Amount
) -> tuple[EffectLine, ...]:
    """Give the four effects that add to the change; none when there is nothing to compare."""
    explained = explain_change(now, before)
    if explained is None:
        return ()
    named = (
        ("More or fewer requests", "at the former cost per request", explained.volume_nanos),
        ("Other features or models", "requests moved, started, ended", explained.mix_nanos),
        ("Longer or shorter requests", "tokens per request", explained.length_nanos),
        ("Cost per token", "prices, caching, input against output", explained.rate_nanos),
    )
    cents = round_parts([nanos for *_, nanos in named], unit=NANOS_PER_CENT, target=change.cents)
    return tuple(
        EffectLine(name, meaning, Amount(nanos, shown))
        for (name, meaning, nanos), shown in zip(named, cents, strict=True)
    )


def driver_lines(rows: Sequence[CostRow], rows_before: Sequence[CostRow]) -> tuple[DriverLine, ...]:
    """Give evaluation traffic, retries and failed requests, then the dearest models."""
    kinds: list[tuple[str, Callable[[CostRow], bool]]] = [
        ("Evaluation traffic", _is_value("request_type", "evaluation")),
        ("Retries", _is_value("is_retry", "true")),
        ("Failed requests", lambda row: cube_key("status")(row) != ("ok",)),
    ]
    by_model = fold_by(rows, cube_key("model"))
    dearest = sorted(by_model, key=lambda group: (-by_model[group].effective_nanos, group))
    for (model,) in dearest[:DEAREST_MODELS]:
        kinds.append((f"Model {value_text(model)}", _is_value("model", model)))
    return tuple(_driver_line(name, is_kind, rows, rows_before) for name, is_kind in kinds)


def weekly_tiles(whole: Line, currency: str) -> tuple[Tile, ...]:
    """Give the headline figures of the week, each beside the week before."""
    now, before = whole.now, whole.before
    return (
        Tile(
            "Spend",
            money_text(whole.amount, currency),
            _before(money_text(whole.amount_before, currency)),
            change_share_text(now.effective_nanos, before.effective_nanos),
        ),
        _count_tile("Requests", now.requests, before.requests),
        _count_tile("Tokens", now.tokens, before.tokens),
        Tile("Input from cache", cached_share(now), _before(cached_share(before))),
        _rate_tile(now, before, currency),
    )


def cached_share(row: CostRow) -> str:
    """Give the part of input that came from the provider's cache, or a dash without input."""
    return share_text(row.cached_input_tokens, row.input_tokens)


def _is_value(dimension: str, value: str | None) -> Callable[[CostRow], bool]:
    pick = cube_key(dimension)
    return lambda row: pick(row) == (value,)


def _driver_line(
    name: str,
    is_kind: Callable[[CostRow], bool],
    rows: Sequence[CostRow],
    rows_before: Sequence[CostRow],
) -> DriverLine:
    shown = []
    for sample in (rows, rows_before):
        kind = total(row for row in sample if is_kind(row)).effective_nanos
        shown.append((rounded_amount(kind), share_text(kind, total(sample).effective_nanos)))
    (amount, share), (amount_before, share_before) = shown
    return DriverLine(name, amount, share, amount_before, share_before)


def _count_tile(label: str, now: int, before: int) -> Tile:
    change = change_share_text(now, before)
    return Tile(label, short_count_text(now), _before(short_count_text(before)), change)


def _rate_tile(now: CostRow, before: CostRow, currency: str) -> Tile:
    """Give the cost of a thousand priced requests; what is unpriced counts on neither side."""
    rates = [_cost_per_thousand(row) for row in (now, before)]
    texts = [DASH if rate is None else nanos_text(rate, currency) for rate in rates]
    change = DASH if None in rates else change_share_text(rates[0] or 0, rates[1] or 0)
    return Tile("Cost per 1,000 requests", texts[0], _before(texts[1]), change)


def _before(text: str) -> str:
    return f"week before {text}"


def _cost_per_thousand(row: CostRow) -> int | None:
    priced = row.requests - row.unpriced_requests
    return divide_half_even(row.effective_nanos * THOUSAND, priced) if priced > 0 else None
