"""What is doubtful in a price book that parses. It owns the rules of ``prices lint``.

It refuses to mend anything.

rate_finer_than_pico   a rate has more decimals than a pico a unit (six per million tokens)
rows_not_ascending     rows of one selector are not in the order of their beginnings
rows_overlap           a row states an end after the next row of its selector begins
base_row_missing       a row for long context or daily hours has no row that applies otherwise
child_without_parent   a row rates a part of a total but not the total
pin_without_note       a row or model is kept as it is and does not say why
sunset_without_source  a model has a day of sunset and does not say who told it
name_claimed_twice     two models answer to one name
pattern_never_reached  an earlier pattern answers to everything this one would
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from tokenbudget.domain.patterns import pattern_expression
from tokenbudget.domain.prices import (
    PARENT_UNITS,
    SINCE_EVER,
    ModelPrices,
    Price,
    ProviderPrices,
    Selector,
    describe_row,
)
from tokenbudget.formats.price_book import parse_price_file

FACTORS_OF_TEN: Final = (2, 5)


@dataclass(frozen=True, slots=True)
class Finding:
    """One doubtful place of a price book; ``rule`` is stable, ``detail`` tells what is wrong."""

    file: str
    model: str
    rule: str
    detail: str


def lint_price_book(sources: Mapping[str, str]) -> list[Finding]:
    """Give the findings in all files, in order; raises BadFile for one that does not parse."""
    return [
        finding
        for file, text in sources.items()
        for finding in _lint(file, parse_price_file(file, text))
    ]


def _lint(file: str, provider: ProviderPrices) -> Iterator[Finding]:
    for model in provider.models:
        for rule, detail in _model_faults(model):
            yield Finding(file, model.model, rule, detail)
    for name, rule, detail in _name_faults(provider.models):
        yield Finding(file, name, rule, detail)


def _model_faults(model: ModelPrices) -> Iterator[tuple[str, str]]:
    if model.is_pinned and not model.note:
        yield "pin_without_note", "the model"
    if model.sunset is not None and not model.sunset_source:
        yield "sunset_without_source", "sunset_src is missing"
    by_selector: dict[tuple[Selector, bool], list[Price]] = defaultdict(list)
    for price in model.prices:
        by_selector[price.selector, price.times is None].append(price)
        yield from _rate_faults(price)
        if price.is_pinned and not price.note:
            yield "pin_without_note", describe_row(price)
        if not _has_base(price, model.prices):
            yield "base_row_missing", describe_row(price)
    for rows in by_selector.values():
        yield from _order_faults(rows)


def _rate_faults(price: Price) -> Iterator[tuple[str, str]]:
    # Hourly rates told in seconds leave a divisor of 3 or 9; a factor of ten is too many decimals.
    if any(price.divisor % factor == 0 for factor in FACTORS_OF_TEN):
        yield "rate_finer_than_pico", describe_row(price)
    for unit in price.rates:
        parent = PARENT_UNITS.get(unit)
        if parent is not None and parent not in price.unit_rates:
            yield "child_without_parent", f"{describe_row(price)}: {unit} without {parent}"


def _has_base(price: Price, prices: Iterable[Price]) -> bool:
    selector = price.selector
    if price.times is None and selector.above is None and selector.hours is None:
        return True
    return any(
        row.times is None
        and row.selector.above is None
        and row.selector.hours is None
        and (price.times is not None or row.selector.tier == selector.tier)
        and row.selector.region in (selector.region, None)
        and row.is_valid_at(price.valid_from)
        for row in prices
    )


def _order_faults(rows: list[Price]) -> Iterator[tuple[str, str]]:
    for earlier, later in pairwise(rows):
        if _beginning(later) < _beginning(earlier):
            yield "rows_not_ascending", describe_row(later)
    for earlier, later in pairwise(sorted(rows, key=_beginning)):
        if earlier.valid_to is not None and earlier.valid_to > _beginning(later):
            yield "rows_overlap", describe_row(earlier)


def _beginning(price: Price) -> datetime:
    return price.valid_from or SINCE_EVER


def _name_faults(models: Iterable[ModelPrices]) -> Iterator[tuple[str, str, str]]:
    owners: dict[str, str] = {}
    earlier: list[tuple[re.Pattern[str], str]] = []
    for model, text in ((each.model, text) for each in models for text in each.patterns):
        owner = owners.setdefault(text, model)
        if owner != model:
            yield model, "name_claimed_twice", f"{text} belongs to {owner} too"
        expression = pattern_expression(text)
        if expression is None:
            continue
        hider = None if text.startswith("/") else _find_hider(text, model, earlier)
        if hider is not None:
            yield model, "pattern_never_reached", f"{text} is hidden by {hider}"
        earlier.append((re.compile(expression), model))


def _find_hider(
    text: str, model: str, earlier: Iterable[tuple[re.Pattern[str], str]]
) -> str | None:
    # What answers to the text of a glob, wildcards and all, answers to all that the glob would.
    return next((name for pattern, name in earlier if name != model and pattern.search(text)), None)
