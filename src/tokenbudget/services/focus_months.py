"""Months as their invoices and statements tell them, for a FOCUS export.

It owns how a closed statement's amounts come to days and to charges of their own; it refuses rows
of files (``formats/focus_rows.py``) and every write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.focus import (
    ATTO_DIGITS,
    ATTOS_PER_NANO,
    CostSource,
    ExportedCharge,
    RunningShare,
)
from tokenbudget.domain.money import EXACT
from tokenbudget.domain.months import format_month, month_at, month_period, shift_month
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.statements import (
    Origin,
    StatementHeader,
    StatementLine,
    StatementState,
)
from tokenbudget.store.focus import (
    InvoiceName,
    iterate_lines_without_usage,
    list_invoice_names,
    list_weights,
)
from tokenbudget.store.statements import find_in_state, list_lines

ONE_SECOND: Final = timedelta(seconds=1)
METERED_ORIGINS: Final = frozenset({Origin.USAGE, Origin.UNUSED})
CATEGORIES: Final = {
    Origin.TAX: ChargeCategory.TAX,
    Origin.CREDIT: ChargeCategory.CREDIT,
    Origin.PURCHASE: ChargeCategory.PURCHASE,
    # What nobody used of a commitment was paid with it; that cost is in the shares already.
    Origin.UNUSED: ChargeCategory.PURCHASE,
}
"""The others are adjustments: usage has quantities and prices, and these have none."""

CORRECTED_USAGE: Final = METERED_ORIGINS | {Origin.UNTRACKED}

MeteredKey = tuple[str, str | None, str | None, str, str]


@dataclass(frozen=True, slots=True)
class Names:
    """The price book's names of providers and models, and the bills' of accounts and invoices."""

    price_list: PriceList
    invoices: tuple[InvoiceName, ...]
    _models: dict[tuple[int, str, str], str] = field(default_factory=dict)
    _found: dict[tuple[int, str, str | None], tuple[str | None, str | None]] = field(
        default_factory=dict
    )

    def provider(self, word: str) -> str:
        """Give the one name of a provider."""
        return self.price_list.canonical_provider(word) or word

    def model(self, month: int, provider: str, model: str) -> str:
        """Give the one name of a model in a month, its own when the book knows none."""
        known = self._models.get((month, provider, model))
        if known is None:
            known = self._find_model(month, provider, model)
            self._models[month, provider, model] = known
        return known

    def account_of(self, month: int, provider: str) -> str:
        """Give the account that bills of the month name for a provider, if they name just one.

        Else the provider itself stands for it.
        """
        return self._only(month, provider, None)[0] or provider

    def invoice_of(self, month: int, provider: str, account: str | None) -> str | None:
        """Give the invoice of a provider's account, None unless bills name just one."""
        return self._only(month, provider, account)[1]

    def _only(
        self, month: int, provider: str, account: str | None
    ) -> tuple[str | None, str | None]:
        key = month, provider, account
        if key not in self._found:
            alike = [
                name
                for name in self.invoices
                if name.billing_month == month
                and self.provider(name.provider) == self.provider(provider)
                and account in (None, name.account)
            ]
            accounts = {name.account for name in alike} - {""}
            refs = {name.invoice_ref for name in alike} - {None}
            self._found[key] = _single(accounts), _single(refs)
        return self._found[key]

    def _find_model(self, month: int, provider: str, model: str) -> str:
        period = month_period(month)
        for instant in (period.start, period.end - ONE_SECOND):
            match = self.price_list.find(provider, model, occurred_at=instant)
            if match is not None:
                return match.model.model
        return model


@dataclass(slots=True)
class ClosedMonth:
    """What a closed statement says, as shares of metered days and as charges of their own."""

    header: StatementHeader
    names: Names
    shares: dict[MeteredKey, tuple[RunningShare, bool]]
    charges: tuple[StatementLine, ...]
    metered_providers: frozenset[str]

    def category_of(self, line: StatementLine) -> ChargeCategory:
        """Give the category of a charge of its own.

        What was metered with one provider and is invoiced by another, who has no usage at all, is
        a commitment bought from that one.
        """
        key = line.key
        is_correction = key.service_month != self.header.month or line.corrects is not None
        if is_correction and key.origin in CORRECTED_USAGE:
            return ChargeCategory.USAGE
        is_metered = self.names.provider(key.provider) in self.metered_providers
        if key.origin is Origin.USAGE and not is_metered:
            return ChargeCategory.PURCHASE
        return CATEGORIES.get(key.origin, ChargeCategory.ADJUSTMENT)

    def next_billed(self, dimensions: DimensionSet, effective_nanos: int) -> int:
        """Give what was invoiced for the next day of these dimensions; days come in order."""
        found = self.shares.get(_key_of(self.names, self.header.month, dimensions))
        if found is None:
            return 0
        share, is_by_cost = found
        return share.next(effective_nanos if is_by_cost else 1)


@dataclass(frozen=True, slots=True)
class Months:
    """The months an export touches; those without a closed statement are missing in ``closed``."""

    period: Period
    names: Names
    numbers: tuple[int, ...]
    closed: dict[int, ClosedMonth]

    @property
    def are_invoiced(self) -> bool:
        """Tell whether every month has a closed statement: a file is wholly invoiced or not."""
        return len(self.closed) == len(self.numbers)

    @property
    def reading_period(self) -> Period:
        """Give the period with the days before it whose shares have to be known."""
        first = self.numbers[0]
        start = month_period(first).start if first in self.closed else self.period.start
        return Period(start, self.period.end)

    def invoice_ref(self, month: int, provider: str, account: str | None) -> str | None:
        """Give the invoice of an account, else the statement's name; None in a file without."""
        if not self.are_invoiced:
            return None
        header = self.closed[month].header
        named = self.names.invoice_of(month, provider, account)
        return named or f"statement-{format_month(month)}-v{header.version}"


def read_months(session: Session, period: Period, price_list: PriceList) -> Months:
    """Give the months of the period with what closed statements say of them."""
    numbers = _numbers(period)
    found = (find_in_state(session, month, StatementState.CLOSED) for month in numbers)
    headers = [header for header in found if header is not None]
    stated = (name for header in headers for name in _stated_names(header))
    names = Names(price_list, (*list_invoice_names(session, numbers), *stated))
    closed = {header.month: _closed_month(session, header, names) for header in headers}
    return Months(period, names, numbers, closed)


def iterate_charges(
    session: Session, months: Months, currency: str
) -> Generator[ExportedCharge, None, None]:
    """Give the charges of the period that no metered usage stands for.

    Those of a closed month are its statement's, dated by the month's first instant; those of others
    are bill lines, dated by the beginning of what they are for.
    """
    for month, closed in months.closed.items():
        if months.period.contains(month_period(month).start):
            for line in closed.charges:
                yield _stated_charge(line, closed, months, currency)
    open_months = [month for month in months.numbers if month not in months.closed]
    for row in iterate_lines_without_usage(session, open_months) if open_months else ():
        start, billing = row["period_start"], month_period(row["billing_month"])
        if months.period.contains(start if billing.contains(start) else billing.start):
            yield _invoiced_charge(row)


def _numbers(period: Period) -> tuple[int, ...]:
    month, last = month_at(period.start), month_at(period.end - ONE_SECOND)
    numbers = [month]
    while numbers[-1] < last:
        numbers.append(shift_month(numbers[-1], 1))
    return tuple(numbers)


def _stated_names(header: StatementHeader) -> Iterator[InvoiceName]:
    for stated in header.invoices:
        if stated.service_month == header.month and stated.invoice.is_billed:
            yield InvoiceName(header.month, stated.invoice.provider, stated.invoice.account, None)


def _closed_month(session: Session, header: StatementHeader, names: Names) -> ClosedMonth:
    weights: dict[MeteredKey, list[int]] = defaultdict(lambda: [0, 0])
    for weight in list_weights(session, month_period(header.month)):
        dimensions = DimensionSet(
            weight.team, weight.provider, weight.model, weight.feature, weight.tenant
        )
        sums = weights[_key_of(names, header.month, dimensions)]
        sums[0] += weight.effective_nanos
        sums[1] += weight.rollups
    lines = [line for _, line in list_lines(session, header.statement_id)]
    metered, charges = _parted(lines, header, names, weights.keys())
    shares = {}
    for key, amount in metered.items():
        cost, count = weights[key]
        shares[key] = (
            (RunningShare(amount, cost), True)
            if cost > 0
            else (
                RunningShare(amount, count),
                False,
            )
        )
    return ClosedMonth(header, names, shares, charges, frozenset(key[3] for key in weights))


def _parted(
    lines: Sequence[StatementLine],
    header: StatementHeader,
    names: Names,
    known: Iterable[MeteredKey],
) -> tuple[dict[MeteredKey, int], tuple[StatementLine, ...]]:
    """Give what falls to metered usage, by its key, and the rows that are charges of their own.

    What no invoice ever carries is neither.
    """
    metered: dict[MeteredKey, int] = defaultdict(int)
    charges = []
    present = set(known)
    for line in lines:
        key, origin = line.key, line.key.origin
        if origin is Origin.UNBILLED:
            continue
        is_own = key.service_month == header.month and line.corrects is None
        if is_own and origin in METERED_ORIGINS and key.model is not None:
            dimensions = DimensionSet(key.team, key.provider, key.model, key.feature, key.tenant)
            place = _key_of(names, header.month, dimensions)
            if place in present:
                metered[place] += line.amount_nanos
                continue
        charges.append(line)
    return metered, tuple(charges)


def _key_of(names: Names, month: int, dimensions: DimensionSet) -> MeteredKey:
    provider = names.provider(dimensions.provider)
    model = names.model(month, provider, dimensions.model)
    return dimensions.team, dimensions.feature, dimensions.tenant, provider, model


def _stated_charge(
    line: StatementLine, closed: ClosedMonth, months: Months, currency: str
) -> ExportedCharge:
    key, header = line.key, closed.header
    is_correction = key.service_month != header.month or line.corrects is not None
    is_untracked = key.origin is Origin.UNTRACKED
    tags = {
        "team": key.team,
        "feature": key.feature,
        "tenant": key.tenant,
        "cost_center": key.cost_center,
    }
    amount = line.amount_nanos * ATTOS_PER_NANO
    parts = (key.service_month, *(part or "" for part in key[1:]), line.corrects or "")
    return ExportedCharge(
        key=f"statement/{header.statement_id}/{'/'.join(map(str, parts))}",
        provider=key.provider,
        account=key.account,
        period=month_period(key.service_month),
        month=header.month,
        category=closed.category_of(line),
        billed=amount,
        listed=amount,
        currency=currency,
        source=CostSource.UNTRACKED if is_untracked else CostSource.STATEMENT,
        description=f"{key.provider} {key.origin.value}, {key.method.value.replace('_', ' ')}",
        is_correction=is_correction,
        model=key.model,
        usage_type=key.origin.value,
        invoice_ref=months.invoice_ref(header.month, key.provider, key.account),
        team=key.team,
        tags={name: value for name, value in tags.items() if value is not None},
        method=key.method.value,
        rule=key.rule,
    )


def _invoiced_charge(row: Any) -> ExportedCharge:
    billed = _attos(row["billed_amount"])
    listed = row["list_nanos"]
    return ExportedCharge(
        key=f"line/{row['id']}",
        provider=row["provider"],
        account=row["account"],
        period=Period(row["period_start"], row["period_end"]),
        month=row["billing_month"],
        category=ChargeCategory(row["category"]),
        billed=billed,
        listed=billed if listed is None else listed * ATTOS_PER_NANO,
        currency=row["currency"],
        source=CostSource.INVOICE,
        description=row["description"] or f"{row['provider']} {row['category']}",
        is_correction=row["is_correction"],
        project=row["project"],
        model=row["model"],
        usage_type=row["usage_type"],
        tags=row["tags"],
    )


def _attos(amount: str) -> int:
    """Give an exact amount in attos; bills have up to 40 decimals, so it is rounded half even."""
    scaled = EXACT.scaleb(Decimal(amount), ATTO_DIGITS)
    return int(EXACT.to_integral_value(scaled))


def _single(values: Iterable[str | None]) -> str | None:
    listed = list(values)
    return listed[0] if len(listed) == 1 else None
