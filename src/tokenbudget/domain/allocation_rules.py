"""Rules by which a month's invoices are divided.

It owns what a rule says and when it is in force; it refuses to divide (``invoice_allocation.py``).
Months are year * 100 + month; a rule holds from ``valid_from`` (included) to ``valid_to``
(excluded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.reconciliation import TOLERANCE_BASIS_POINTS, CommitmentOf
from tokenbudget.domain.statements import Bearer
from tokenbudget.domain.tag_rules import Condition

TEAM: Final = "team"
FEATURE: Final = "feature"
TENANT: Final = "tenant"
COST_CENTER: Final = "cost_center"
BEARER_NAMES: Final = (TEAM, FEATURE, TENANT, COST_CENTER)
LINE_NAMES: Final = ("provider", "category", "account", "description")
USAGE_NAMES: Final = ("provider", "model", "account")

Conditions = tuple[Condition, ...]


class Driver(StrEnum):
    """By what a pool is shared; a metric is an imported outcome, named beside it."""

    DIRECT_COST = "direct_cost"
    TOKENS = "tokens"
    REQUESTS = "requests"
    EVEN = "even"
    FIXED = "fixed"
    METRIC = "metric"


class Scope(StrEnum):
    """Whose usage the driver looks at first; without any, it looks one step further."""

    ACCOUNT = "account"
    PROVIDER = "provider"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class PoolRule:
    """What is shared, by what, and among whom.

    ``bearer`` None makes it a pool of lines that ``match``; else what such bearers bear directly is
    shared. ``among`` has filters of which one must hold (none: everybody), ``exclude`` filters of
    which none may. ``by`` names the parts of a bearer that shares go to. ``shares`` are the weights
    of teams for ``Driver.FIXED``.
    """

    name: str
    match: Conditions = ()
    bearer: Conditions | None = None
    driver: Driver = Driver.DIRECT_COST
    metric: str | None = None
    by: tuple[str, ...] = (TEAM,)
    over: Scope = Scope.ACCOUNT
    among: tuple[Conditions, ...] = ()
    exclude: tuple[Conditions, ...] = ()
    shares: tuple[tuple[str, int], ...] = ()
    valid_from: int | None = None
    valid_to: int | None = None

    def is_in_force(self, month: int) -> bool:
        """Tell whether the rule holds for the month."""
        return _is_within(month, self.valid_from, self.valid_to)

    def admits(self, facts: Mapping[str, str]) -> bool:
        """Tell whether a bearer with these facts takes part."""
        is_among = not self.among or any(hold(each, facts) for each in self.among)
        return is_among and not any(hold(each, facts) for each in self.exclude)

    def grain_of(self, bearer: Bearer) -> Bearer:
        """Give the bearer that shares go to, without the parts that the rule does not tell."""
        return Bearer(
            bearer.team,
            bearer.feature if FEATURE in self.by else None,
            bearer.tenant if TENANT in self.by else None,
        )


@dataclass(frozen=True, slots=True)
class CommitmentRule:
    """Lines that ``match`` pay what the commitment with this id costs, whatever their category."""

    name: str
    commitment: str
    match: Conditions
    valid_from: int | None = None
    valid_to: int | None = None

    def is_in_force(self, month: int) -> bool:
        """Tell whether the rule holds for the month."""
        return _is_within(month, self.valid_from, self.valid_to)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Somebody accepts that more was metered than invoiced, and that it is scaled to the invoice.

    ``month`` None accepts it in every month.
    """

    name: str
    conditions: Conditions
    reason: str
    by: str
    month: int | None = None

    def accepts(self, facts: Mapping[str, str], month: int) -> bool:
        """Tell whether usage with these facts is accepted in the month."""
        return self.month in (None, month) and hold(self.conditions, facts)


@dataclass(frozen=True, slots=True)
class AllocationRules:
    """All rules of one version, each list in its order: the first one that holds decides.

    ``unbilled`` are conditions on the provider, of which one must hold.
    """

    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS
    pools: tuple[PoolRule, ...] = ()
    acceptances: tuple[Acceptance, ...] = ()
    unbilled: Conditions = ()
    commitments: tuple[CommitmentRule, ...] = ()

    def commitment_rules(self, commitment: str, month: int) -> list[CommitmentRule]:
        """Give the rules in force in the month that tell which lines pay a commitment."""
        return [
            rule
            for rule in self.commitments
            if rule.commitment == commitment and rule.is_in_force(month)
        ]

    def is_unbilled(self, provider: str) -> bool:
        """Tell whether the provider is said never to send a bill."""
        return any(condition.holds(provider) for condition in self.unbilled)

    def acceptance_of(self, facts: Mapping[str, str], month: int) -> Acceptance | None:
        """Give the first acceptance of usage with these facts, None when nobody accepts it."""
        return next((each for each in self.acceptances if each.accepts(facts, month)), None)

    def line_rule(self, facts: Mapping[str, str], month: int) -> PoolRule | None:
        """Give the first pool that a line with these facts belongs to, None for the default one."""
        pools = (rule for rule in self.pools if rule.bearer is None and rule.is_in_force(month))
        return next((rule for rule in pools if hold(rule.match, facts)), None)

    def bearer_rule(self, facts: Mapping[str, str], month: int) -> PoolRule | None:
        """Give the first pool that takes over what a bearer bears, None when none does."""
        return next(
            (
                rule
                for rule in self.pools
                if rule.bearer is not None and rule.is_in_force(month) and hold(rule.bearer, facts)
            ),
            None,
        )


def bearer_facts(bearer: Bearer, cost_center: str | None) -> dict[str, str]:
    """Give what conditions on a bearer ask for, without what it has not."""
    facts = {
        TEAM: bearer.team,
        FEATURE: bearer.feature,
        TENANT: bearer.tenant,
        COST_CENTER: cost_center,
    }
    return {name: value for name, value in facts.items() if value is not None}


def bearer_order(bearer: Bearer) -> tuple[object, ...]:
    """Give the sort key: by team, feature and tenant, those without one first."""
    return (
        bearer.team,
        (bearer.feature is not None, bearer.feature or ""),
        (bearer.tenant is not None, bearer.tenant or ""),
    )


def hold(conditions: Conditions, facts: Mapping[str, str]) -> bool:
    """Tell whether all conditions hold; those on a description are in lower case, as facts are."""
    return all(condition.holds(facts.get(condition.name)) for condition in conditions)


def commitment_finder(rules: Sequence[CommitmentRule], month: int) -> CommitmentOf:
    """Give what tells the commitment that a line pays: that of the first rule that holds for it."""
    in_force = [rule for rule in rules if rule.is_in_force(month)]
    known: dict[tuple[tuple[str, str], ...], str | None] = {}

    def find(line: BilledCost) -> str | None:
        facts = {
            "provider": line.provider,
            "account": line.account,
            "category": line.category.value,
            "description": (line.description or "").lower(),
        }
        key = tuple(facts.items())
        if key not in known:
            matching = (rule.commitment for rule in in_force if hold(rule.match, facts))
            known[key] = next(matching, None)
        return known[key]

    return find if in_force else lambda _line: None


def _is_within(month: int, valid_from: int | None, valid_to: int | None) -> bool:
    starts = valid_from is None or valid_from <= month
    return starts and (valid_to is None or month < valid_to)
