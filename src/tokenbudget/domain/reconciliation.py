"""Comparing what was metered with what was invoiced: it owns matching, variance and verdicts.

It refuses files, SQL and conversion: other currencies are only listed. Amounts are exact decimals,
since bills carry more decimals than the ledger's nanos; no sum is ever rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from enum import StrEnum
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.money import DECIMAL_PRECISION, NANO_DIGITS
from tokenbudget.domain.periods import Period, Window, window_at
from tokenbudget.domain.statements import NOBODY, Bearer

TOLERANCE_BASIS_POINTS: Final = 200
BASIS_POINTS: Final = 10_000

ZERO: Final = Decimal(0)
# An amount that does not fit raises instead of losing a digit; nobody else's decimals are touched.
_EXACT: Final = Context(prec=DECIMAL_PRECISION, traps=[Inexact, InvalidOperation, Overflow])

CanonicalModel = Callable[[str, str], str]
"""Gives the one name that (provider, model) goes by, the model itself when it knows no other."""


class Verdict(StrEnum):
    """What a variance means.

    MATCHED: within tolerance. DISCOUNT: money taken off that no usage stands for (a credit).
    UNTRACKED: invoiced and not metered, wholly or in part. OVER_COUNTED: metered above what was
    invoiced. MISSING_BILL: metered, and no line invoices it.
    """

    MATCHED = "matched"
    DISCOUNT = "discount"
    UNTRACKED = "untracked"
    OVER_COUNTED = "over_counted"
    MISSING_BILL = "missing_bill"


@dataclass(frozen=True, slots=True)
class MeteredCost:
    """What the ledger holds for one model, bearer and period, without unpriced usage.

    ``account`` is the provider's project, account or key that the usage named, None for none.
    """

    provider: str
    model: str
    period: Period
    effective_nanos: int
    unpriced_requests: int = 0
    account: str | None = None
    bearer: Bearer = NOBODY
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class InvoicedCost:
    """One bill line, as far as it is compared; the amount may be negative.

    ``period`` is what it is billed for, be it an hour or a month. ``model`` counts for usage only:
    tax, credits and purchases stand for no usage, whatever they name.
    """

    provider: str
    period: Period
    category: ChargeCategory
    amount: Decimal
    currency: str
    model: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class ReconciliationRow:
    """One line of the comparison; ``variance`` is invoiced less metered.

    ``metered`` or ``invoiced`` is None where there is nothing on that side, which is not zero.
    ``description`` is only there when ``model`` is None.
    """

    provider: str
    period: Period
    model: str | None
    description: str | None
    metered: Decimal | None
    invoiced: Decimal | None
    variance: Decimal
    verdict: Verdict
    unpriced_requests: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The whole comparison of one period in the ledger's currency, with rows in order of time.

    ``invoiced`` is the exact sum of every line in that currency; ``other_currencies`` holds what
    was invoiced in others, which is never added.
    """

    period: Period
    currency: str
    rows: tuple[ReconciliationRow, ...]
    metered: Decimal
    invoiced: Decimal
    variance: Decimal
    other_currencies: Mapping[str, Decimal]

    @property
    def is_over_counted(self) -> bool:
        """Tell whether any row was metered above its invoice, which must stop a close."""
        return any(row.verdict is Verdict.OVER_COUNTED for row in self.rows)


@dataclass(frozen=True, slots=True)
class _Subject:
    provider: str
    period: Period
    model: str | None
    description: str | None

    def order(self) -> tuple[Period, str, bool, str, str]:
        """Give the sort key: time, provider, models before the rest, name."""
        return (
            self.period,
            self.provider,
            self.model is None,
            self.model or "",
            self.description or "",
        )


@dataclass(slots=True)
class _Sides:
    metered_nanos: int | None = None
    invoiced: Decimal | None = None
    unpriced_requests: int = 0

    def add_metered(self, cost: MeteredCost) -> None:
        self.metered_nanos = (self.metered_nanos or 0) + cost.effective_nanos
        self.unpriced_requests += cost.unpriced_requests

    def add_invoiced(self, amount: Decimal) -> None:
        self.invoiced = add_exactly(self.invoiced or ZERO, amount)


def reconcile(
    metered: Iterable[MeteredCost],
    invoiced: Iterable[InvoicedCost],
    *,
    period: Period,
    currency: str,
    canonical_model: CanonicalModel = lambda _provider, model: model,
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS,
) -> Reconciliation:
    """Give one row for each provider, time and model, and for each description without a model.

    Names are made canonical on both sides, so a bill's ``gpt-4.1-2025-04-14`` meets usage recorded
    as ``gpt-4.1``; equal names meet whatever the function knows. Both inputs are read once and may
    be long: what is kept grows with the rows given back.
    """
    subjects: dict[_Subject, _Sides] = defaultdict(_Sides)
    other_currencies: dict[str, Decimal] = defaultdict(Decimal)
    for cost in metered:
        model = canonical_model(cost.provider, cost.model)
        subjects[_Subject(cost.provider, cost.period, model, None)].add_metered(cost)
    for line in invoiced:
        if line.currency == currency:
            subjects[_subject_of(line, canonical_model)].add_invoiced(line.amount)
        else:
            other = other_currencies[line.currency]
            other_currencies[line.currency] = add_exactly(other, line.amount)
    rows = tuple(
        _row(subject, subjects[subject], tolerance_basis_points)
        for subject in sorted(subjects, key=_Subject.order)
    )
    return _with_totals(rows, period, currency, dict(sorted(other_currencies.items())))


def billed_period(period: Period) -> Period:
    """Give what a bill's line is compared and restated by: the UTC day that holds its period.

    A period that no single day holds (a month's fee) stands for itself.
    """
    day = window_at(Window.DAY, period.start, "UTC")
    return day if period.end <= day.end else period


def add_exactly(first: Decimal, second: Decimal) -> Decimal:
    """Give the sum with every digit; raises decimal.Inexact rather than round it."""
    return _EXACT.add(first, second)


def format_amount(amount: Decimal) -> str:
    """Give every decimal that matters and at least nine, such as ``0.161703500``."""
    whole, _, fraction = format(amount, "f").partition(".")
    text = f"{whole}.{fraction.rstrip('0').ljust(NANO_DIGITS, '0')}"
    return text.removeprefix("-") if amount.is_zero() else text


def judge(
    *,
    metered: Decimal | None,
    invoiced: Decimal | None,
    is_unpriced: bool,
    tolerance_basis_points: int,
) -> Verdict:
    """Give the verdict on one row; None means that side has nothing.

    The tolerance is a share of what was invoiced. Usage without a price is never judged free: when
    no line invoices it, the bill is missing.
    """
    if invoiced is None:
        is_free = not metered and not is_unpriced
        return Verdict.MATCHED if is_free else Verdict.MISSING_BILL
    if not metered and invoiced < ZERO:
        return Verdict.DISCOUNT
    variance = _EXACT.subtract(invoiced, metered or ZERO)
    scaled_variance = _EXACT.multiply(variance.copy_abs(), Decimal(BASIS_POINTS))
    if scaled_variance <= _EXACT.multiply(invoiced.copy_abs(), Decimal(tolerance_basis_points)):
        return Verdict.MATCHED
    return Verdict.UNTRACKED if variance > ZERO else Verdict.OVER_COUNTED


def _subject_of(line: InvoicedCost, canonical_model: CanonicalModel) -> _Subject:
    period = billed_period(line.period)
    if line.model is None or line.category is not ChargeCategory.USAGE:
        return _Subject(line.provider, period, None, line.description or line.category.value)
    return _Subject(line.provider, period, canonical_model(line.provider, line.model), None)


def _row(subject: _Subject, sides: _Sides, tolerance_basis_points: int) -> ReconciliationRow:
    nanos = sides.metered_nanos
    metered = None if nanos is None else _EXACT.scaleb(Decimal(nanos), Decimal(-NANO_DIGITS))
    return ReconciliationRow(
        provider=subject.provider,
        period=subject.period,
        model=subject.model,
        description=subject.description,
        metered=metered,
        invoiced=sides.invoiced,
        variance=_EXACT.subtract(sides.invoiced or ZERO, metered or ZERO),
        verdict=judge(
            metered=metered,
            invoiced=sides.invoiced,
            is_unpriced=sides.unpriced_requests > 0,
            tolerance_basis_points=tolerance_basis_points,
        ),
        unpriced_requests=sides.unpriced_requests,
    )


def _with_totals(
    rows: tuple[ReconciliationRow, ...],
    period: Period,
    currency: str,
    other_currencies: Mapping[str, Decimal],
) -> Reconciliation:
    metered = invoiced = ZERO
    for row in rows:
        metered = add_exactly(metered, row.metered or ZERO)
        invoiced = add_exactly(invoiced, row.invoiced or ZERO)
    variance = _EXACT.subtract(invoiced, metered)
    return Reconciliation(period, currency, rows, metered, invoiced, variance, other_currencies)
