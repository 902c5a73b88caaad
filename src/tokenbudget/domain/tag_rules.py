"""Virtual tags: what may be told of a call's owner from who made it and from its other tags.

It owns mappings (of an identity), rules (ordered conditions), the registry's dated teams of
features, and finding what applies among thousands. It refuses to know the steps before and after
its own (``allocation.py``) and to store anything.

Mappings and rules are of one kind, an ordered list: every entry in force at the instant whose
conditions hold gives the tags that nobody has given before, so the first one to name a tag wins. A
later entry sees what earlier ones gave. Dates are of use, not of recording.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final

from tokenbudget.domain.owners import Owner, OwnerKind
from tokenbudget.domain.periods import EPOCH

GLOB_MARK: Final = "*"

Stretch = tuple[datetime | None, datetime | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """What one value of a call must be: among ``values`` or like one of ``globs``.

    In a glob ``*`` stands for any text, the empty one too. A negated condition also holds where
    there is no value at all.
    """

    name: str
    values: frozenset[str] = frozenset()
    globs: tuple[str, ...] = ()
    is_negated: bool = False

    def holds(self, value: str | None) -> bool:
        """Tell whether the value, None where there is none, meets the condition."""
        is_found = value is not None and (
            value in self.values or any(is_like(value, glob) for glob in self.globs)
        )
        return is_found is not self.is_negated

    @property
    def is_exact(self) -> bool:
        """Tell whether the condition only holds for the values it names."""
        return not (self.globs or self.is_negated)


@dataclass(frozen=True, slots=True)
class TagRule:
    """Tags that are given where all conditions hold, for use from ``valid_from`` to ``valid_to``.

    Its start is included, its end excluded, None leaves it open.
    """

    name: str
    conditions: tuple[Condition, ...]
    tags: Mapping[str, str]
    valid_from: datetime | None = None
    valid_to: datetime | None = None

    def applies(self, known: Mapping[str, str], instant: datetime) -> bool:
        """Tell whether the rule is in force at the instant and holds for what is known."""
        return _holds_at((self.valid_from, self.valid_to), instant) and all(
            condition.holds(known.get(condition.name)) for condition in self.conditions
        )


@dataclass(frozen=True, slots=True)
class RuleList:
    """An ordered list of rules, filed so that few of them are looked at.

    ``filed`` has the places of rules under a value that each of them demands; ``unfiled`` are the
    places of those that demand no value by name.
    """

    rules: tuple[TagRule, ...] = ()
    filed: Mapping[tuple[str, str], Sequence[int]] = field(default_factory=dict)
    unfiled: tuple[int, ...] = ()

    @classmethod
    def build(cls, rules: Iterable[TagRule]) -> RuleList:
        """Give the list, each rule filed under the rarest values that it demands."""
        ordered = tuple(rules)
        demands = [_demands(rule) for rule in ordered]
        uses = Counter(pair for demand in demands for pairs in demand for pair in pairs)
        filed: dict[tuple[str, str], list[int]] = {}
        unfiled: list[int] = []
        for place, demand in enumerate(demands):
            if not demand:
                unfiled.append(place)
                continue
            for pair in min(
                demand, key=lambda pairs: max((uses[pair] for pair in pairs), default=0)
            ):
                filed.setdefault(pair, []).append(place)
        return cls(ordered, filed, tuple(unfiled))

    def give(self, known: Mapping[str, str], instant: datetime) -> dict[str, str]:
        """Give the tags that the rules add to what is known; nothing known is overwritten."""
        seen = dict(known)
        given: dict[str, str] = {}
        waiting = list(self.unfiled)
        for pair in known.items():
            waiting.extend(self.filed.get(pair, ()))
        heapify(waiting)
        while waiting:
            place = heappop(waiting)
            rule = self.rules[place]
            if not rule.applies(seen, instant):
                continue
            fresh = {name: value for name, value in rule.tags.items() if name not in seen}
            seen.update(fresh)
            given.update(fresh)
            asking = (each for pair in fresh.items() for each in self.filed.get(pair, ()))
            for later in asking:
                if later > place:
                    heappush(waiting, later)
        return given


@dataclass(frozen=True, slots=True)
class FeatureTeam:
    """The team that the registry names for a feature, from ``valid_from`` until ``valid_to``."""

    team: str
    valid_from: datetime
    valid_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class TagRules:
    """Everything that may give a tag which neither the key nor the caller gave.

    ``turns`` are the instants, in order, at which what is in force changes; between two of them the
    same call is always resolved alike.
    """

    mappings: RuleList = field(default_factory=RuleList)
    rules: RuleList = field(default_factory=RuleList)
    feature_teams: Mapping[str, Sequence[FeatureTeam]] = field(default_factory=dict)
    turns: tuple[datetime, ...] = ()

    @classmethod
    def build(
        cls, mappings: Iterable[TagRule], rules: Iterable[TagRule], owners: Iterable[Owner] = ()
    ) -> TagRules:
        """Give the rules of both lists and of the owners' history."""
        teams = _feature_teams(owners)
        listed = RuleList.build(mappings), RuleList.build(rules)
        stretches = [
            *((rule.valid_from, rule.valid_to) for each in listed for rule in each.rules),
            *((each.valid_from, each.valid_to) for known in teams.values() for each in known),
        ]
        turns = {instant for stretch in stretches for instant in stretch if instant is not None}
        return cls(*listed, teams, tuple(sorted(turns)))

    def epoch_at(self, instant: datetime) -> int:
        """Give the number of the stretch between two turns that holds the instant."""
        return bisect_right(self.turns, instant) if self.turns else 0

    def instant_in(self, epoch: int) -> datetime:
        """Give an instant of the stretch with this number; usage began no earlier than 1970."""
        return self.turns[epoch - 1] if epoch else EPOCH

    def team_of(self, feature: str | None, instant: datetime) -> str | None:
        """Give the team that the registry names for a feature at the instant, None for none."""
        known = self.feature_teams.get(feature, ()) if feature is not None else ()
        return next(
            (each.team for each in known if _holds_at((each.valid_from, each.valid_to), instant)),
            None,
        )


def is_like(text: str, glob: str) -> bool:
    """Tell whether a text is like a glob, in time that grows with both lengths only."""
    first, *others = glob.split(GLOB_MARK)
    if not others:
        return text == glob
    *middle, last = others
    place, end = len(first), len(text) - len(last)
    if place > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:
        found = text.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True


def _demands(rule: TagRule) -> list[list[tuple[str, str]]]:
    return [
        [(condition.name, value) for value in sorted(condition.values)]
        for condition in rule.conditions
        if condition.is_exact
    ]


def _feature_teams(owners: Iterable[Owner]) -> dict[str, list[FeatureTeam]]:
    teams: dict[str, list[FeatureTeam]] = {}
    for owner in owners:
        if owner.kind is OwnerKind.FEATURE and owner.facts.parent:
            stretch = FeatureTeam(owner.facts.parent, owner.valid_from, owner.valid_to)
            teams.setdefault(owner.name, []).append(stretch)
    return teams


def _holds_at(stretch: Stretch, instant: datetime) -> bool:
    start, end = stretch
    return (start is None or start <= instant) and (end is None or instant < end)
