"""Whose traffic it is likely to be that nobody reported: it owns the guess and its reason.

It refuses to resolve tags itself (``allocation.py``). A guess allocates nothing; it says whom to
ask.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from tokenbudget.domain.allocation import UNALLOCATED, CallFacts, allocate
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.reconciliation import MeteredCost
from tokenbudget.domain.tag_rules import TagRules

SEPARATORS: Final = "-_./:"
MIN_PREFIX_SEPARATORS: Final = 2
"""``proj-growth-`` says something, ``proj-`` and ``sk_`` say nothing."""


class Ref(NamedTuple):
    """The names that a provider bills or reports under."""

    provider: str
    account: str = ""
    project: str | None = None
    api_key: str | None = None

    @property
    def name(self) -> str | None:
        """Give the finest of the names, None when there is none."""
        return self.api_key or self.project or self.account or None

    @property
    def order(self) -> tuple[str, str, str, str]:
        """Give the sort key."""
        return self.provider, self.account, self.project or "", self.api_key or ""


class OwnerReason(StrEnum):
    """Why somebody is likely to own traffic, the surest first.

    MAPPING, RULE and REGISTRY: that step of resolving tags says so. SAME_NAME, PROJECT and PREFIX:
    the team reported the most under that very name, under other names of the project, or under
    names that begin alike.
    """

    MAPPING = "mapping"
    RULE = "rule"
    REGISTRY = "registry"
    SAME_NAME = "same_name"
    PROJECT = "project"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class LikelyOwner:
    """A team and why it is thought of."""

    team: str
    reason: OwnerReason


@dataclass(slots=True)
class Neighbours:
    """Which teams reported how much under which names of a provider."""

    by_name: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    by_project: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    by_prefix: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    @classmethod
    def build(cls, metered: Iterable[MeteredCost], lines: Iterable[BilledCost]) -> Neighbours:
        """Give what usage and bills of the same time tell."""
        by_name: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for cost in metered:
            if cost.account is not None and cost.bearer.team != UNALLOCATED:
                by_name[cost.provider, cost.account][cost.bearer.team] += cost.effective_nanos
        by_project: dict[tuple[str, str], set[str]] = defaultdict(set)
        for line in lines:
            if line.project is not None:
                by_project[line.provider, line.project].add(line.api_key or line.project)
        by_prefix: dict[tuple[str, str], set[str]] = defaultdict(set)
        for provider, name in by_name:
            prefix = prefix_of(name)
            if prefix is not None:
                by_prefix[provider, prefix].add(name)
        return cls(dict(by_name), dict(by_project), dict(by_prefix))

    def guess(self, ref: Ref) -> LikelyOwner | None:
        """Give the team that reported the most nearby, None where nobody did."""
        name = ref.name
        if name is None:
            return None
        prefix = prefix_of(name)
        near = (
            (OwnerReason.SAME_NAME, {name}),
            (OwnerReason.PROJECT, self._of_project(ref)),
            (OwnerReason.PREFIX, self.by_prefix.get((ref.provider, prefix or ""), set())),
        )
        for reason, names in near:
            team = self._most(ref.provider, names)
            if team is not None:
                return LikelyOwner(team, reason)
        return None

    def _of_project(self, ref: Ref) -> set[str]:
        if ref.project is None:
            return set()
        return {ref.project, *self.by_project.get((ref.provider, ref.project), ())}

    def _most(self, provider: str, names: Iterable[str]) -> str | None:
        sums: Counter[str] = Counter()
        for name in names:
            sums.update(self.by_name.get((provider, name), {}))
        # The earlier name in the alphabet wins a tie, whatever came first.
        return max(sorted(sums), key=lambda team: sums[team], default=None)


def ref_of(line: BilledCost) -> Ref:
    """Give the names that a line is billed under."""
    return Ref(line.provider, line.account, line.project, line.api_key)


def prefix_of(name: str) -> str | None:
    """Give what comes before the last part of a name of at least three parts, else None."""
    ends = [place for place, letter in enumerate(name) if letter in SEPARATORS]
    return name[: ends[-1] + 1] if len(ends) >= MIN_PREFIX_SEPARATORS else None


def map_ref(ref: Ref, model: str | None, at: datetime, rules: TagRules) -> LikelyOwner | None:
    """Give the team of a call made under one of the names, the finest first that has a team.

    Only what rules of ours say counts; None where they say nothing.
    """
    for name in (ref.api_key, ref.project, ref.account):
        if not name:
            continue
        dimensions = allocate(
            CallFacts(ref.provider, model or "", account=name), {}, at, rules=rules
        )
        step = dimensions.resolved_by["team"]
        if step != UNALLOCATED:
            return LikelyOwner(dimensions.team, OwnerReason(step))
    return None
