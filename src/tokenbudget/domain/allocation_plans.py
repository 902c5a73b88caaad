"""What becomes of each compared row of a month: borne as metered, scaled, untracked, or refused.

It owns that decision, the account whose invoice carries it, and where untracked money stands. It
refuses to divide a row among its bearers (``invoice_allocation.py``) and to share pools
(``cost_pools.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from tokenbudget.domain.allocation_rules import AllocationRules
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.cents import share
from tokenbudget.domain.money import decimal_to_nanos, format_nanos
from tokenbudget.domain.months import format_month
from tokenbudget.domain.reconciliation import (
    ZERO,
    MeteredCost,
    ReconciliationRow,
    Verdict,
    add_exactly,
)
from tokenbudget.domain.statements import (
    UNTRACKED_OWNER,
    AllocatedCost,
    Bearer,
    Method,
    Origin,
    Refusal,
)

OVER_COUNTED: Final = "over_counted"
MISSING_BILL: Final = "missing_bill"
BILLED_AFTER_ALL: Final = "billed_after_all"
NO_ACCOUNT: Final = ""

AccountKey = tuple[str, str]
"""A provider and an account it invoices."""


@dataclass(frozen=True, slots=True)
class BilledMonth:
    """What was metered and invoiced for a month, compared; all in one currency.

    ``metered_rows`` has for each metered cost the index of its row, ``line_rows`` the same for each
    line, None where no usage stands for the line.
    """

    month: int
    currency: str
    metered: Sequence[MeteredCost]
    lines: Sequence[BilledCost]
    rows: Sequence[ReconciliationRow]
    metered_rows: Sequence[int]
    line_rows: Sequence[int | None]


class Whereabouts(NamedTuple):
    """What a bill says of who used something: the finest of ``refs`` comes first."""

    provider: str
    model: str | None
    refs: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class AllocationTerms:
    """The rules of a version and what they ask about.

    ``owner_of`` gives who bears a call made there, None when nobody is known. ``cost_center_of``
    gives the cost centre of a team. ``outcomes`` has the imported metrics that rules name, in
    billionths by bearer.
    """

    rules: AllocationRules
    version: int
    owner_of: Callable[[Whereabouts], Bearer | None]
    cost_center_of: Callable[[str], str | None]
    outcomes: Mapping[str, Mapping[Bearer, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeteredRefs:
    """What was metered under each project, account or key (``nanos``, by row and ref).

    ``named`` are the (provider, ref) that any usage of the month names.
    """

    named: frozenset[tuple[str, str]]
    nanos: Mapping[tuple[int, str], int]


class RowShare(NamedTuple):
    """What the metered usage of a row bears of the invoice of one account.

    ``provider`` is whose invoice it is: a commitment may be paid to another than its usage's.
    """

    row: int
    provider: str
    account: str
    nanos: int
    origin: Origin
    method: Method
    rule: str | None


@dataclass(slots=True)
class RowPlans:
    """What becomes of the rows: shares for who metered, costs of others, money off, refusals.

    ``credits`` are lines of usage that take money off where nothing was metered.
    """

    shares: list[RowShare] = field(default_factory=list)
    untracked: list[AllocatedCost] = field(default_factory=list)
    credits: list[BilledCost] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class _Place(NamedTuple):
    """Where lines of a row stand, as finely as they say."""

    provider: str
    account: str
    model: str | None
    refs: tuple[str, ...]


class _Refused(NamedTuple):
    """What is refused together; names are empty where there are none."""

    code: str
    provider: str
    model: str
    account: str
    commitment: str


@dataclass(slots=True)
class _RefusedSums:
    """How much is refused together."""

    nanos: int = 0
    rows: int = 0
    unpriced_requests: int = 0

    def add(self, row: ReconciliationRow) -> None:
        self.nanos += decimal_to_nanos(row.variance)
        self.rows += 1
        self.unpriced_requests += row.unpriced_requests


def plan_rows(month: BilledMonth, refs: MeteredRefs, terms: AllocationTerms) -> RowPlans:
    """Give what becomes of every row that lines or usage stand in, in the order of rows."""
    return _Planner(month, refs, terms).plan()


def metered_refs(month: BilledMonth) -> MeteredRefs:
    """Give what was metered under each ref; usage that names none is left out."""
    nanos: dict[tuple[int, str], int] = defaultdict(int)
    for cost, row in zip(month.metered, month.metered_rows, strict=True):
        if cost.account is not None:
            nanos[row, cost.account] += cost.effective_nanos
    return MeteredRefs(frozenset((month.rows[row].provider, ref) for row, ref in nanos), nanos)


def invoiced_accounts(lines: Sequence[BilledCost]) -> dict[AccountKey, Decimal]:
    """Give the exact sum of the lines of each provider and account."""
    sums: dict[AccountKey, Decimal] = {}
    for line in lines:
        key = line.provider, line.account
        sums[key] = add_exactly(sums.get(key, ZERO), line.amount)
    return sums


class _Planner:
    """Goes through the rows of one month."""

    def __init__(self, month: BilledMonth, refs: MeteredRefs, terms: AllocationTerms) -> None:
        self.month = month
        self.refs = refs
        self.terms = terms
        self.plans = RowPlans()
        self.lines: dict[int, list[BilledCost]] = defaultdict(list)
        for line, row in zip(month.lines, month.line_rows, strict=True):
            if row is not None:
                self.lines[row].append(line)
        self.accounts: dict[str, set[str]] = defaultdict(set)
        for line in month.lines:
            self.accounts[line.provider].add(line.account)
        self.refused: dict[_Refused, _RefusedSums] = defaultdict(_RefusedSums)

    def plan(self) -> RowPlans:
        for index in sorted(self.lines.keys() | set(self.month.metered_rows)):
            row = self.month.rows[index]
            lines = self.lines.get(index)
            if lines is None:
                self._without_lines(index, row)
            else:
                self._with_lines(index, row, lines)
        self.plans.refusals = self._refusals()
        return self.plans

    def _without_lines(self, index: int, row: ReconciliationRow) -> None:
        """Decide on usage that no line invoices."""
        is_billed = row.provider in self.accounts
        is_unbilled = self.terms.rules.is_unbilled(row.provider)
        if is_unbilled and not is_billed:
            nanos = _nanos_of(row)
            self.plans.shares.append(
                RowShare(
                    index, row.provider, NO_ACCOUNT, nanos, Origin.UNBILLED, Method.DIRECT, None
                )
            )
            return
        method, rule = Method.DIRECT, None
        if row.verdict is Verdict.MISSING_BILL:
            code = BILLED_AFTER_ALL if is_unbilled else MISSING_BILL
            method, rule = Method.ACCEPTED, self._acceptance(row, code)
        account = self._only_account(row.provider)
        self.plans.shares.append(
            RowShare(index, row.provider, account, 0, Origin.USAGE, method, rule)
        )

    def _with_lines(self, index: int, row: ReconciliationRow, lines: list[BilledCost]) -> None:
        """Decide on a row that lines invoice, and keep its usage even where it bears nothing."""
        metered = _nanos_of(row)
        invoiced = row.invoiced or ZERO
        places = self._places(row, lines)
        method, rule = Method.DIRECT, None
        if not metered and invoiced < ZERO:
            self.plans.credits.extend(lines)
            places = dict.fromkeys(places, 0)
        elif not metered or (row.verdict is Verdict.UNTRACKED and invoiced > ZERO):
            places = self._take_untracked(index, row, places)
        elif row.verdict is Verdict.OVER_COUNTED:
            method, rule = Method.ACCEPTED, self._acceptance(row, OVER_COUNTED)
        elif invoiced != (row.metered or ZERO):
            method = Method.SPREAD
        if row.metered is None:
            return
        by_invoice: dict[AccountKey, int] = defaultdict(int)
        for place, nanos in places.items():
            by_invoice[place.provider, place.account] += nanos
        self.plans.shares.extend(
            RowShare(index, *invoice, nanos, Origin.USAGE, method, rule)
            for invoice, nanos in sorted(by_invoice.items())
        )

    def _places(self, row: ReconciliationRow, lines: Sequence[BilledCost]) -> dict[_Place, int]:
        """Give the nanos that stand at each place, in their order."""
        sums: dict[_Place, Decimal] = {}
        for line in lines:
            refs = tuple(ref for ref in (line.api_key, line.project, line.account) if ref)
            place = _Place(line.provider, line.account, row.model or line.model, refs)
            sums[place] = add_exactly(sums.get(place, ZERO), line.amount)
        ordered = sorted(sums, key=lambda place: (*place[:2], place.model or "", place.refs))
        return {place: decimal_to_nanos(sums[place]) for place in ordered}

    def _take_untracked(
        self, index: int, row: ReconciliationRow, places: Mapping[_Place, int]
    ) -> dict[_Place, int]:
        """Give what is left at each place once what nobody metered is taken off it."""
        left = dict(places)
        if row.metered is None:
            for place, nanos in places.items():
                self._leave_untracked(row, place, nanos)
            return dict.fromkeys(places, 0)
        untracked = sum(places.values()) - _nanos_of(row)
        if untracked <= 0:
            return left
        by_ref: dict[str, list[_Place]] = defaultdict(list)
        for place in places:
            by_ref[self._metered_ref(row.provider, place)].append(place)
        refs = sorted(by_ref)
        excesses = [
            max(0, sum(places[at] for at in by_ref[ref]) - self.refs.nanos.get((index, ref), 0))
            for ref in refs
        ]
        for ref, nanos in zip(refs, share(untracked, excesses), strict=True):
            billed = [max(0, places[place]) for place in by_ref[ref]]
            for place, part in zip(by_ref[ref], share(nanos, billed), strict=True):
                left[place] -= part
                self._leave_untracked(row, place, part)
        return left

    def _metered_ref(self, provider: str, place: _Place) -> str:
        """Give the finest ref of a place that usage names, else its finest one."""
        named = (ref for ref in place.refs if (provider, ref) in self.refs.named)
        return next(named, place.refs[0] if place.refs else NO_ACCOUNT)

    def _leave_untracked(self, row: ReconciliationRow, place: _Place, nanos: int) -> None:
        """Put an amount on whoever is known to use the place."""
        if not nanos:
            return
        owner = self.terms.owner_of(
            Whereabouts(place.provider, place.model, place.refs, row.period.start)
        )
        cost = AllocatedCost(
            bearer=owner or Bearer(UNTRACKED_OWNER),
            provider=place.provider,
            account=place.account,
            model=place.model,
            origin=Origin.UNTRACKED,
            method=Method.RESIDUAL if owner is None else Method.MAPPED,
            amount_nanos=nanos,
        )
        self.plans.untracked.append(cost)

    def _only_account(self, provider: str) -> str:
        accounts = self.accounts.get(provider, set())
        return next(iter(accounts)) if len(accounts) == 1 else NO_ACCOUNT

    def _acceptance(self, row: ReconciliationRow, code: str) -> str | None:
        """Give the name of the acceptance of a row that was metered too high, else refuse it."""
        facts = {
            "provider": row.provider,
            "model": row.model or "",
            "account": row.account or NO_ACCOUNT,
        }
        acceptance = self.terms.rules.acceptance_of(facts, self.month.month)
        if acceptance is None or code == BILLED_AFTER_ALL:
            refused = _Refused(code, **facts, commitment=row.commitment or "")
            if code == MISSING_BILL and not self.accounts.get(row.provider):
                # Without any bill there is one thing to say of a provider, unless a rule is due.
                refused = refused._replace(model="", account=NO_ACCOUNT)
            self.refused[refused].add(row)
            return None
        return acceptance.name

    def _refusals(self) -> list[Refusal]:
        return [
            Refusal(refused.code, self._detail(refused, sums), sums.nanos)
            for refused, sums in sorted(self.refused.items())
        ]

    def _detail(self, refused: _Refused, sums: _RefusedSums) -> str:
        month = self.month.month
        amount = f"{format_nanos(abs(sums.nanos))} {self.month.currency}"
        if sums.unpriced_requests:
            amount += f" and {sums.unpriced_requests} without a price"
        period = f"{format_month(month)} ({sums.rows} row{'s'[: sums.rows > 1]})"
        detail = _sentence(refused, amount, period)
        if not refused.commitment:
            return detail
        rules = self.terms.rules.commitment_rules(refused.commitment, month)
        return f"{detail}; {_remedy(refused, [rule.name for rule in rules])}"


def _sentence(refused: _Refused, amount: str, period: str) -> str:
    names = (refused.provider, refused.model, refused.account)
    about = f"commitment {refused.commitment}" if refused.commitment else ""
    subject = " ".join(name for name in (*names, about) if name)
    if refused.code == OVER_COUNTED:
        return f"{subject}: {amount} more metered than invoiced in {period}"
    if refused.code == MISSING_BILL:
        return f"{subject}: {amount} metered and not invoiced in {period}"
    return (
        f"{subject}: a rule says the provider sends no bill, and one is in force; it leaves out "
        f"{amount} metered in {period}"
    )


def _remedy(refused: _Refused, rules: Sequence[str]) -> str:
    """Give what the [[commitment]] rules have to do with a refusal of a commitment."""
    if not rules:
        return "no [[commitment]] rule names the lines that pay it"
    named = f"[[commitment]] rule{'s'[: len(rules) > 1]} {', '.join(rules)}"
    if refused.code == OVER_COUNTED:
        return f"the lines that pay it are those that match the {named}"
    return f"no line matches the {named}"


def _nanos_of(row: ReconciliationRow) -> int:
    return decimal_to_nanos(row.metered or ZERO)
