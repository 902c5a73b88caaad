"""What was agreed on top of published prices: contracts, commitments, hosts and exchange rates.

It owns which contract applies and what units cost under it; it refuses to know published rows
(``price_lists.py`` folds agreements into its schedules) and to share fixed costs
(``commitments.py``). Of the contracts whose every condition holds, the most specific one applies:
the one with most conditions, an exact model counting for two. Ties go to the higher priority, then
to the later beginning, then to the id that sorts first. Contracts that ``stack`` come on top of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Final

from tokenbudget.domain.commitments import Commitment
from tokenbudget.domain.exchange import NO_EXCHANGE, FxTable
from tokenbudget.domain.patterns import answers_to, is_exact
from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.prices import IDENTITY_DIGITS, ProviderPrices, inherit_rates

CONTRACT_PREFIX: Final = "contract:"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a price is asked for; ``model_names`` are the name asked for and the model's own."""

    provider: str
    model_names: frozenset[str]
    account: str | None
    tier: str
    region: str | None


@dataclass(frozen=True, slots=True)
class Contract:
    """A discount or rates of one's own, for whatever fulfils every condition that is not None.

    ``model`` is a pattern in lower case. Either ``times`` multiplies the rates, only those of
    ``applies`` where that is not empty, or ``rates`` replaces them: exact picos for one unit, in
    the currency of the published row. ``stacks`` puts it on top of the contract that wins.
    ``contract_ref`` is a digest of all of it.
    """

    id: str
    provider: str | None = None
    model: str | None = None
    account: str | None = None
    tier: str | None = None
    region: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    times: Fraction = Fraction(1)
    applies: frozenset[str] = frozenset()
    rates: Mapping[str, Fraction] = field(default_factory=dict)
    stacks: bool = False
    priority: int = 0
    contract_ref: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what depends on the fields."""
        object.__setattr__(self, "contract_ref", _digest(self))

    @property
    def flag(self) -> str:
        """Give what a charge says of the contract."""
        return CONTRACT_PREFIX + self.id

    @property
    def specificity(self) -> int:
        """Give how many conditions there are, an exact model counting for two."""
        stated = [self.provider, self.model, self.account, self.tier, self.region]
        conditions = sum(condition is not None for condition in stated)
        return conditions + (self.model is not None and is_exact(self.model))

    def is_in_force(self, instant: datetime | None) -> bool:
        """Tell whether it holds then; None asks about the time before every dated agreement."""
        if instant is None:
            return self.valid_from is None
        if self.valid_from is not None and instant < self.valid_from:
            return False
        return self.valid_to is None or instant < self.valid_to

    def covers(self, scope: Scope) -> bool:
        """Tell whether every condition holds."""
        model = self.model
        return (
            self.provider in (None, scope.provider)
            and self.account in (None, scope.account)
            and self.tier in (None, scope.tier)
            and self.region in (None, scope.region)
            and (model is None or any(answers_to(name, model) for name in scope.model_names))
        )

    def reprice(self, rates: Mapping[str, Fraction]) -> dict[str, Fraction]:
        """Give a row's own rates as they are under the contract."""
        if self.rates:
            return {**rates, **self.rates}
        complete = inherit_rates(rates)
        reached = self.applies & complete.keys() if self.applies else rates.keys()
        return {**rates, **{unit: complete[unit] * self.times for unit in reached}}


@dataclass(frozen=True, slots=True)
class Agreements:
    """Everything agreed, with a version that changes when any of it does.

    ``commitments`` come in the order in which they are asked; ``hosted`` are the prices of models
    on hosts of one's own.
    """

    contracts: tuple[Contract, ...] = ()
    commitments: tuple[Commitment, ...] = ()
    hosted: tuple[ProviderPrices, ...] = ()
    exchange: FxTable = NO_EXCHANGE
    version: str = ""

    @property
    def accounts(self) -> frozenset[str]:
        """Give the accounts that contracts tell apart."""
        named = (contract.account for contract in self.contracts)
        return frozenset(account for account in named if account is not None)


NO_AGREEMENTS: Final = Agreements()


def contracts_in_force(
    contracts: Iterable[Contract], scope: Scope, instant: datetime | None
) -> tuple[Contract, ...]:
    """Give the contract that applies, then those that stack on it; empty means the list price."""
    found = [item for item in contracts if item.is_in_force(instant) and item.covers(scope)]
    found.sort(key=_precedence)
    winner = [contract for contract in found if not contract.stacks][:1]
    return (*winner, *(contract for contract in found if contract.stacks))


def agreed_rates(
    rates: Mapping[str, Fraction], contracts: Sequence[Contract]
) -> dict[str, Fraction]:
    """Give what units cost under the contracts, those without a rate taking their parent's."""
    own = dict(rates)
    for contract in contracts:
        own = contract.reprice(own)
    return inherit_rates(own)


def agreement_instants(contracts: Iterable[Contract]) -> set[datetime]:
    """Give the instants at which a contract begins or ends."""
    bounds = (bound for item in contracts for bound in (item.valid_from, item.valid_to))
    return {bound for bound in bounds if bound is not None}


def _precedence(contract: Contract) -> tuple[int, int, int, str]:
    begins = to_micros(contract.valid_from) if contract.valid_from else -1
    return -contract.specificity, -contract.priority, -begins, contract.id


def _digest(contract: Contract) -> str:
    parts = [
        str(getattr(contract, name))
        for name in (
            *("id", "provider", "model", "account", "tier", "region", "valid_from", "valid_to"),
            *("times", "stacks", "priority"),
        )
    ]
    parts.extend(sorted(contract.applies))
    parts.extend(f"{unit}={rate}" for unit, rate in sorted(contract.rates.items()))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:IDENTITY_DIGITS]
