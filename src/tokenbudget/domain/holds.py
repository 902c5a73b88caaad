"""Quota set aside for a call.

It owns what a check asks, what it is answered and how a hold may end.

check -> held --(usage names it)--> settled
          |--- release ----------> released
          '--- ttl and grace ----> expired --(late usage)--> settled_late

A hold for several requests settles by pieces: each usage that names it takes what it used out of
the hold, which stays held until it is released, expires or as many pieces have settled as were
asked for. What is then left is given back; it ends as settled if any piece was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Final

from tokenbudget.domain.budgets import Budget, Counter, Mode, Unit
from tokenbudget.domain.usage import Basis


class HoldState(StrEnum):
    """Where a hold stands; every state but ``held`` and ``expired`` is final."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    SETTLED_LATE = "settled_late"


class Outcome(StrEnum):
    """The three answers to a quota check."""

    ALLOW = "allow"
    REDUCE = "reduce"
    DENY = "deny"


SETTLED_FROM: Final = {
    HoldState.HELD: HoldState.SETTLED,
    HoldState.EXPIRED: HoldState.SETTLED_LATE,
}


GRANT_UNITS: Final = {Unit.MONEY: 0, Unit.TOKENS: 1, Unit.REQUESTS: 2}
"""The number that stands for a unit in a stored grant, which is its place in a remainder."""

MAX_DEMAND_NANOS: Final = 10**18
"""The most a check for several requests may ask for: a billion of the ledger currency."""


@dataclass(frozen=True, slots=True)
class TextCount:
    """What a vocabulary, the ``method``, counted in the text of a call; nothing is scaled yet."""

    tokens: int
    method: str


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """One quota check as asked; ``estimate_nanos`` overrides rating.

    Tokens and estimate are those of one request, of which there are ``requests``. Tokens are None
    when unsaid. ``text_count`` is how the input tokens were counted, None when the
    caller told them or when not all of the input could be counted.
    """

    tags: Mapping[str, str]
    provider: str
    model: str
    input_tokens: int | None = None
    text_count: TextCount | None = None
    max_output_tokens: int | None = None
    service_tier: str | None = None
    estimate_nanos: int | None = None
    ttl: timedelta | None = None
    idempotency_key: str | None = None
    request_digest: str = ""
    dry_run: bool = False
    requests: int = 1
    operation_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call may use at most; ``nanos`` is None when no price is known."""

    nanos: int | None
    tokens: int
    basis: Basis
    requests: int = 1

    def quantity(self, unit: Unit) -> int:
        """Give the demand in a budget's unit; an unpriced demand asks for no money."""
        if unit is Unit.MONEY:
            return self.nanos or 0
        return self.tokens if unit is Unit.TOKENS else self.requests

    def times(self, requests: int) -> Demand:
        """Give what so many requests may use that are each like this single one."""
        if requests == 1:
            return self
        nanos = None if self.nanos is None else self.nanos * requests
        return Demand(nanos, self.tokens * requests, self.basis, self.requests * requests)


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or a reason: a stable code and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The budget that has least room, as all its limit applies to stands with this answer.

    Of a window that rolls, ``resets_at`` is the end of today, when its oldest day falls out.
    ``carry`` and ``raised`` are what the headroom has besides the limit.
    """

    budget: Budget
    settled: int
    held: int
    headroom: int
    resets_at: datetime
    carry: int = 0
    raised: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a check; ``hold_id`` is None when nothing is held (denied, or a dry run).

    ``provider`` is that of the model where it is another than was asked for, else None.
    """

    outcome: Outcome
    demand: Demand
    max_output_tokens: int | None
    model: str | None
    hold_id: str | None = None
    expires_at: datetime | None = None
    binding: Binding | None = None
    warnings: tuple[Notice, ...] = ()
    reasons: tuple[Notice, ...] = ()
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A budget with the locked counter that a check would draw on."""

    budget: Budget
    counter: Counter

    def room(self) -> int:
        """Give what a check may still take: headroom and overdraft."""
        return self.counter.headroom(self.budget.limit) + self.budget.overdraft


@dataclass(slots=True)
class Remainder:
    """What a hold that settles by pieces still holds, and what its pieces came to.

    ``left`` has a quantity for each of GRANT_UNITS; every counter granted against in one unit
    has the same left, since each was granted the same and each piece takes the same of them.
    ``settled_nanos`` follows corrections of pieces, ``left`` does not: it never rises.
    """

    left: list[int]
    pieces: int = 0
    settled_nanos: int = 0

    def take(self, used: Sequence[int]) -> list[int]:
        """Take what a piece used, as far as it is there, and give what was taken, by unit."""
        taken = [
            min(left, max(0, quantity)) for left, quantity in zip(self.left, used, strict=True)
        ]
        self.left = [left - part for left, part in zip(self.left, taken, strict=True)]
        return taken

    def give_back(self) -> list[int]:
        """Give all that is left, by unit, and leave nothing."""
        left, self.left = self.left, [0] * len(self.left)
        return left


@dataclass(slots=True)
class Verdict:
    """What the budgets say of a demand: who refuses, what to warn of, and which budget binds."""

    refusing: list[Account] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    binding: Account | None = None


def overage(settled_nanos: int, estimate_nanos: int | None) -> int:
    """Give what was settled above the hold, in nanos."""
    return max(0, settled_nanos - (estimate_nanos or 0))


def settled_state(state: str) -> HoldState | None:
    """Give the state a usage brings a hold into, or None when the hold already ended for good."""
    return SETTLED_FROM.get(HoldState(state))


def judge(demand: Demand, accounts: Sequence[Account]) -> Verdict:
    """Give what these budgets say of the demand. Nothing moves.

    Every hard budget must have room for the whole demand; a soft one only warns; a shadow one is
    silent. The binding budget is the refusing one with least room, else the one with least room
    left.
    """
    verdict = Verdict()
    ranked: list[tuple[tuple[int, str], Account]] = []
    refusing: list[tuple[tuple[int, str], Account]] = []
    for account in accounts:
        budget, room = account.budget, account.room()
        is_short = demand.quantity(budget.unit) > room
        if is_short and budget.mode is Mode.HARD:
            verdict.refusing.append(account)
            refusing.append((_rank(budget, room), account))
        elif budget.mode is not Mode.SHADOW:
            ranked.append((_rank(budget, room), account))
            if is_short:
                verdict.warnings.append(_exceeded_notice(budget))
    if refusing or ranked:
        verdict.binding = min(refusing or ranked, key=itemgetter(0))[1]
    return verdict


def output_room(accounts: Sequence[Account], input_tokens: int) -> tuple[int | None, int | None]:
    """Give the least money (nanos, input included) and the output tokens that hard budgets leave.

    None where no hard budget counts that unit.
    """
    hard = [account for account in accounts if account.budget.mode is Mode.HARD]
    money = [account.room() for account in hard if account.budget.unit is Unit.MONEY]
    tokens = [account.room() for account in hard if account.budget.unit is Unit.TOKENS]
    return min(money, default=None), min(tokens) - input_tokens if tokens else None


def affordable_requests(one: Demand, accounts: Sequence[Account]) -> int | None:
    """Give how many requests like this single one every hard budget has room for.

    None where no hard budget is drawn on by such a request.
    """
    fitting = [
        max(0, account.room() // quantity)
        for account in accounts
        if account.budget.mode is Mode.HARD and (quantity := one.quantity(account.budget.unit)) > 0
    ]
    return min(fitting, default=None)


def grant(demand: Demand, accounts: Sequence[Account]) -> list[list[int]]:
    """Set the demand aside in every counter and give the grants.

    As [counter id, quantity, number of the unit in GRANT_UNITS].
    """
    grants = []
    for account in accounts:
        unit = account.budget.unit
        quantity = demand.quantity(unit)
        account.counter.held += quantity
        grants.append([account.counter.id, quantity, GRANT_UNITS[unit]])
    return grants


def binding_of(account: Account) -> Binding:
    """Give the facts of the binding budget as they stand now."""
    counter = account.counter
    return Binding(
        budget=account.budget,
        settled=counter.all_settled,
        held=counter.all_held,
        headroom=counter.headroom(account.budget.limit),
        resets_at=counter.period.end,
        carry=counter.carry,
        raised=counter.raised,
    )


def exhausted_notice(account: Account) -> Notice:
    """Give the reason for a denial by this budget."""
    if account.budget.window.is_rate:
        detail = f"budget {account.budget.id} has no room for this call in this minute"
        return Notice("rate_exceeded", detail)
    return Notice("budget_exhausted", f"budget {account.budget.id} has no room for this call")


def _exceeded_notice(budget: Budget) -> Notice:
    return Notice("budget_exceeded", f"budget {budget.id} is soft and would be exceeded")


def _rank(budget: Budget, room: int) -> tuple[int, str]:
    # Budgets of different units compare by the share of the limit that is left, in millionths.
    limit = budget.limit + budget.overdraft or 1
    return room * 1_000_000 // limit, budget.id
