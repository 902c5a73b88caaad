"""Reconciling a month of the ledger with the bills in force: one snapshot, read and never written.

It owns which rows are compared; it refuses the comparison itself (``domain/reconciliation.py``).
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlmodel import Session

from tokenbudget.domain.allocation_rules import CommitmentRule, commitment_finder
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.invoice_months import (
    CanonicalProvider,
    ConvertedLines,
    convert_lines,
    invoice_period,
    spell_like_bills,
)
from tokenbudget.domain.months import month_period
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.reconciliation import (
    TOLERANCE_BASIS_POINTS,
    CanonicalModel,
    CommitmentOf,
    Comparison,
    MeteredCost,
    Reconciliation,
    add_by_currency,
    compare,
)
from tokenbudget.domain.rollups import cover
from tokenbudget.services.allocation_rules import load_allocation_rules
from tokenbudget.store import reconciliation as store
from tokenbudget.store.db import Database


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """Both sides of a month, and how they compare.

    ``lines`` are in the ledger's currency, by ``conversions`` where they were billed in another;
    ``unconverted`` are those that no quote converts. The indices of the reconciliation are those
    of ``metered`` and ``lines``.
    """

    month: int
    period: Period
    metered: tuple[MeteredCost, ...]
    lines: tuple[BilledCost, ...]
    reconciliation: Reconciliation
    conversions: tuple[Conversion, ...]
    unconverted: tuple[BilledCost, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a month is read.

    ``as_of`` leaves days that are not over then unjudged; None judges everything. ``provider``
    leaves the others out, however it is spelt. ``commitments`` are the rules by which lines pay
    commitments, None those in force.
    """

    currency: str
    price_list: PriceList
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS
    as_of: datetime | None = None
    provider: str | None = None
    commitments: Sequence[CommitmentRule] | None = None


def reconcile_month(database: Database, month: int, reading: Reading) -> MonthFacts:
    """Give what was metered of a month beside what was invoiced for it."""
    with database.reading() as session:
        return read_facts(session, month, reading)


def read_month(
    session: Session,
    *,
    month: int,
    currency: str,
    price_list: PriceList,
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS,
    commitments: Sequence[CommitmentRule] | None = None,
) -> MonthFacts:
    """Give what was metered of a month that is over beside what was invoiced for it.

    ``commitments`` None pays commitments by the rules in force.
    """
    reading = Reading(currency, price_list, tolerance_basis_points, commitments=commitments)
    return read_facts(session, month, reading)


def read_facts(session: Session, month: int, reading: Reading) -> MonthFacts:
    """Give both sides of a month and how they compare.

    A line belongs to the month whose invoice carries it. Metered is effective cost from rollups of
    the same month, which for most providers is that of UTC.
    """
    rules = reading.commitments
    if rules is None:
        rules = load_allocation_rules(session).draft.rules.commitments
    commitment_of = commitment_finder(rules, month)
    metered, read = _read_sides(session, month, reading, commitment_of)
    period = month_period(month)
    comparison = Comparison(
        period,
        reading.currency,
        canonical_names(reading.price_list, period),
        reading.tolerance_basis_points,
        reading.as_of,
        commitment_of,
    )
    result = compare(metered, read.lines, comparison)
    return MonthFacts(
        month=month,
        period=period,
        metered=metered,
        lines=read.lines,
        reconciliation=replace(result, other_currencies=add_by_currency(read.unconverted)),
        conversions=read.conversions,
        unconverted=read.unconverted,
    )


def canonical_names(price_list: PriceList, period: Period) -> CanonicalModel:
    """Give the function that names a model as the price list does in that time.

    A model that was priced in the midst of it is known by its later name; one without a price keeps
    the name it was given.
    """

    def canonical_model(provider: str, model: str) -> str:
        for instant in (period.start, period.end - timedelta.resolution):
            match = price_list.find(provider, model, occurred_at=instant)
            if match is not None:
                return match.model.model
        return model

    return canonical_model


def book_names(price_list: PriceList) -> CanonicalProvider:
    """Give the function that names a provider as the price book does, else by the word itself."""
    return lambda provider: price_list.canonical_provider(provider) or provider


def _read_sides(
    session: Session, month: int, reading: Reading, commitment_of: CommitmentOf
) -> tuple[tuple[MeteredCost, ...], ConvertedLines]:
    book_name = book_names(reading.price_list)
    wanted = None if reading.provider is None else book_name(reading.provider)
    # What pays a commitment is wanted where its usage is, whoever invoices it.
    owned_by = {each.id: each.provider for each in reading.price_list.agreements.commitments}
    lines = [
        line
        for line in store.iterate_lines_of(session, month)
        if wanted is None
        or book_name(owned_by.get(commitment_of(line) or "", line.provider)) == wanted
    ]
    billed = {line.provider for line in lines}
    by_period: dict[Period, dict[str, str]] = defaultdict(dict)
    for provider in store.list_providers(session):
        if wanted is None or book_name(provider) == wanted:
            period = invoice_period(book_name(provider), month)
            by_period[period][provider] = spell_like_bills(provider, billed, book_name)
    with _cycles_left_alone():
        metered = tuple(
            cost
            for period, names in by_period.items()
            for cost in store.iterate_metered(session, cover([period]), names)
        )
    return metered, convert_lines(lines, reading.currency, reading.price_list.agreements.exchange)


@contextmanager
def _cycles_left_alone() -> Iterator[None]:
    """Look for no cycles of objects: a large month is a million of them without any.

    Looking would take as long as reading. Where several read at once, whoever is done first ends it
    for all, which costs them time and nothing else.
    """
    was_looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_looking:
            gc.enable()
