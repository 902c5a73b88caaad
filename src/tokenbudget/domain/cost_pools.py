"""What is shared, not used: lines without usage, unused commitments, what bearers hand on.

It owns which amounts are a pool and the weights of those who share it; it refuses to split amounts.
Weights are always taken from what usage costs directly, never from what pools add to it, so that
the order of pools does not matter. Whoever a pool takes everything from takes part in none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import attrgetter
from typing import Final, NamedTuple

from tokenbudget.domain.allocation_plans import AccountKey, AllocationTerms
from tokenbudget.domain.allocation_rules import (
    Driver,
    PoolRule,
    Scope,
    bearer_facts,
    bearer_order,
)
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.money import decimal_to_nanos
from tokenbudget.domain.reconciliation import ZERO, add_exactly
from tokenbudget.domain.statements import NOBODY, AllocatedCost, Bearer, Method, Origin

DIRECT_ORIGINS: Final = frozenset({Origin.USAGE, Origin.UNTRACKED, Origin.UNBILLED})
"""What a bearer bears for usage, known or not, before anything is shared."""

ORIGIN_OF: Final = {
    ChargeCategory.TAX: Origin.TAX,
    ChargeCategory.CREDIT: Origin.CREDIT,
    ChargeCategory.PURCHASE: Origin.PURCHASE,
    ChargeCategory.ADJUSTMENT: Origin.ADJUSTMENT,
    # Usage that takes money off where nothing was metered is a credit by another name.
    ChargeCategory.USAGE: Origin.CREDIT,
}
METHOD_OF: Final = {
    Driver.DIRECT_COST: Method.BY_DIRECT_COST,
    Driver.TOKENS: Method.BY_TOKENS,
    Driver.REQUESTS: Method.BY_REQUESTS,
    Driver.EVEN: Method.EVENLY,
    Driver.FIXED: Method.FIXED,
    Driver.METRIC: Method.BY_METRIC,
}
DEFAULT_RULE: Final = PoolRule("")
"""How a pool is shared that no rule names."""

ScopeKey = tuple[str | None, str | None]
"""A provider and account whose usage is looked at; None stands for any."""

EVERYTHING: Final = (None, None)


@dataclass(frozen=True, slots=True)
class CostPool:
    """An amount of one invoice to share; ``rule`` None means as a pool without a rule is."""

    provider: str
    account: str
    model: str | None
    origin: Origin
    rule: PoolRule | None
    nanos: int


@dataclass(frozen=True, slots=True)
class PoolShares:
    """Who shares a pool, in order, with weights of at least zero and by what method."""

    method: Method
    bearers: tuple[Bearer, ...]
    weights: tuple[int, ...]


class _PoolKey(NamedTuple):
    provider: str
    account: str
    model: str | None
    origin: Origin
    rule: PoolRule | None


class Measures(NamedTuple):
    """What drivers weigh a bearer by: nanos of direct cost, tokens and requests."""

    cost: int
    tokens: int
    requests: int


NOTHING: Final = Measures(0, 0, 0)
MEASURE_OF: Final[Mapping[Driver, Callable[[Measures], int]]] = {
    Driver.DIRECT_COST: attrgetter("cost"),
    Driver.TOKENS: attrgetter("tokens"),
    Driver.REQUESTS: attrgetter("requests"),
    Driver.EVEN: lambda _: 1,
}


class PoolBook:
    """Adds up the pools of a month by what tells them apart."""

    def __init__(self, terms: AllocationTerms, *, month: int) -> None:
        """Begin without any pool."""
        self.terms = terms
        self.month = month
        self._nanos: dict[_PoolKey, int] = defaultdict(int)
        self._billed: dict[_PoolKey, Decimal] = {}
        self._facts: dict[Bearer, dict[str, str]] = {}
        self._bearer_rules: dict[Bearer, PoolRule | None] = {}
        self._line_rules: dict[tuple[tuple[str, str], ...], PoolRule | None] = {}

    def facts_of(self, bearer: Bearer) -> Mapping[str, str]:
        """Give what rules ask of a bearer."""
        if bearer not in self._facts:
            cost_center = self.terms.cost_center_of(bearer.team)
            self._facts[bearer] = bearer_facts(bearer, cost_center)
        return self._facts[bearer]

    def bearer_rule(self, bearer: Bearer) -> PoolRule | None:
        """Give the pool that takes over all that a bearer bears directly, None for none."""
        if bearer not in self._bearer_rules:
            facts = self.facts_of(bearer)
            self._bearer_rules[bearer] = self.terms.rules.bearer_rule(facts, self.month)
        return self._bearer_rules[bearer]

    def take(self, cost: AllocatedCost) -> AllocatedCost:
        """Give what is left of a direct cost, having put its amount into the pool that takes it.

        The cost stays with amount zero, since its requests and tokens do.
        """
        if cost.origin is Origin.UNUSED:
            self.add_unused(cost.provider, cost.account, cost.model, cost.amount_nanos)
            return replace(cost, amount_nanos=0)
        rule = self.bearer_rule(cost.bearer)
        if rule is None:
            return cost
        pool = CostPool(
            cost.provider, cost.account, cost.model, cost.origin, rule, cost.amount_nanos
        )
        self.add_usage(pool)
        return replace(cost, amount_nanos=0)

    def add_usage(self, part: CostPool) -> None:
        """Add what a rule takes over from bearers."""
        key = _PoolKey(part.provider, part.account, part.model, part.origin, part.rule)
        self._nanos[key] += part.nanos

    def add_unused(self, provider: str, account: str, model: str | None, nanos: int) -> None:
        """Add what nobody used of a commitment."""
        rule = self._line_rule(provider, account, Origin.UNUSED)
        self._nanos[_PoolKey(provider, account, model, Origin.UNUSED, rule)] += nanos

    def add_line(self, line: BilledCost) -> None:
        """Add a line that no usage stands for."""
        origin = ORIGIN_OF[line.category]
        rule = self._line_rule(line.provider, line.account, origin, line.description)
        key = _PoolKey(line.provider, line.account, None, origin, rule)
        self._billed[key] = add_exactly(self._billed.get(key, ZERO), line.amount)

    def pools(self) -> tuple[CostPool, ...]:
        """Give the pools that hold anything, in the order of their keys."""
        sums = dict(self._nanos)
        for key, amount in self._billed.items():
            sums[key] = sums.get(key, 0) + decimal_to_nanos(amount)
        ordered = sorted(sums, key=_pool_order)
        return tuple(CostPool(*key, sums[key]) for key in ordered if sums[key])

    def _line_rule(
        self, provider: str, account: str, origin: Origin, description: str | None = None
    ) -> PoolRule | None:
        facts = {"provider": provider, "account": account, "category": origin.value}
        if description is not None:
            facts["description"] = description.lower()
        key = tuple(facts.items())
        if key not in self._line_rules:
            self._line_rules[key] = self.terms.rules.line_rule(facts, self.month)
        return self._line_rules[key]


class Weigher:
    """Finds who shares a pool and with what weight."""

    def __init__(
        self, measures: Mapping[AccountKey, Mapping[Bearer, Measures]], book: PoolBook
    ) -> None:
        """Take what each bearer used directly of each account; ``book`` knows their rules."""
        self._book = book
        self._measures = _measures_of_scopes(measures)
        self._known: dict[tuple[PoolRule, ScopeKey], dict[Bearer, int]] = {}
        self._shares: dict[tuple[PoolRule, str, str], PoolShares] = {}

    def shares_of(self, pool: CostPool) -> PoolShares:
        """Give who shares the pool.

        Where no weight is above zero, everybody who takes part bears the same, and where nobody
        does, it stays with ``unallocated``.
        """
        key = pool.rule or DEFAULT_RULE, pool.provider, pool.account
        if key not in self._shares:
            self._shares[key] = self._share(*key)
        return self._shares[key]

    def _share(self, rule: PoolRule, provider: str, account: str) -> PoolShares:
        if rule.driver is Driver.FIXED:
            return _shares(Method.FIXED, {Bearer(team): weight for team, weight in rule.shares})
        scopes = _scopes(provider, account, rule.over)
        for scope in scopes:
            weights = self._weights(rule, scope)
            if any(weights.values()):
                return _shares(METHOD_OF[rule.driver], weights)
        evenly = replace(rule, driver=Driver.EVEN)
        for scope in scopes:
            if weights := self._weights(evenly, scope):
                return _shares(Method.EVENLY, weights)
        return _shares(Method.EVENLY, {NOBODY: 1})

    def _weights(self, rule: PoolRule, scope: ScopeKey) -> dict[Bearer, int]:
        key = rule, scope
        if key not in self._known:
            self._known[key] = self._weigh(rule, scope)
        return self._known[key]

    def _weigh(self, rule: PoolRule, scope: ScopeKey) -> dict[Bearer, int]:
        """Give the weights by the rule's grain, none of them below zero."""
        weights: dict[Bearer, int] = defaultdict(int)
        for bearer, weight in self._weights_of_all(rule, scope):
            if self._book.bearer_rule(bearer) is None and rule.admits(self._book.facts_of(bearer)):
                grain = rule.grain_of(bearer)
                weights[grain] = 1 if rule.driver is Driver.EVEN else weights[grain] + weight
        return {bearer: max(0, weight) for bearer, weight in weights.items()}

    def _weights_of_all(self, rule: PoolRule, scope: ScopeKey) -> Iterable[tuple[Bearer, int]]:
        if rule.driver is Driver.METRIC:
            return self._book.terms.outcomes.get(rule.metric or "", {}).items()
        measure = MEASURE_OF[rule.driver]
        measures = self._measures.get(scope, {})
        return ((bearer, measure(each)) for bearer, each in measures.items())


def measure_direct(direct: Iterable[AllocatedCost]) -> dict[AccountKey, dict[Bearer, Measures]]:
    """Give what each bearer used directly of each account."""
    measures: dict[AccountKey, dict[Bearer, Measures]] = defaultdict(dict)
    for cost in direct:
        if cost.origin in DIRECT_ORIGINS:
            of_account = measures[cost.provider, cost.account]
            used = cost.amount_nanos, cost.tokens, cost.requests
            of_account[cost.bearer] = _added(of_account.get(cost.bearer, NOTHING), used)
    return measures


def _measures_of_scopes(
    measures: Mapping[AccountKey, Mapping[Bearer, Measures]],
) -> dict[ScopeKey, dict[Bearer, Measures]]:
    """Give what each bearer used of every account, every provider and all of them."""
    scopes: dict[ScopeKey, dict[Bearer, Measures]] = defaultdict(dict)
    for (provider, account), bearers in measures.items():
        for bearer, used in bearers.items():
            for scope in ((provider, account), (provider, None), EVERYTHING):
                scopes[scope][bearer] = _added(scopes[scope].get(bearer, NOTHING), used)
    return scopes


def _added(first: Measures, second: tuple[int, int, int]) -> Measures:
    return Measures(first[0] + second[0], first[1] + second[1], first[2] + second[2])


def _scopes(provider: str, account: str, first: Scope) -> Sequence[ScopeKey]:
    scopes: dict[Scope, ScopeKey] = {
        Scope.ACCOUNT: (provider, account),
        Scope.PROVIDER: (provider, None),
        Scope.ALL: EVERYTHING,
    }
    return list(scopes.values())[list(scopes).index(first) :]


def _shares(method: Method, weights: Mapping[Bearer, int]) -> PoolShares:
    bearers = tuple(sorted((each for each in weights if weights[each]), key=bearer_order))
    return PoolShares(method, bearers, tuple(weights[bearer] for bearer in bearers))


def _pool_order(key: _PoolKey) -> tuple[str, ...]:
    rule = "" if key.rule is None else key.rule.name
    return key.provider, key.account, key.model or "", key.origin.value, rule
