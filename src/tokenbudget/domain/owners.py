"""Who answers for spend, and since when.

It owns the dated tree of owners; it refuses to choose who bears a charge.

Each kind and name has a history: entries that follow one another in time, each from ``valid_from``
(included) until ``valid_to`` (excluded, None is open). A change never reaches back behind the
instant it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.rollups import quarter_hour_at

MAX_TREE_DEPTH: Final = 32


class OwnerKind(StrEnum):
    """What an owner entry describes."""

    TEAM = "team"
    FEATURE = "feature"
    TENANT = "tenant"
    COST_CENTER = "cost_center"


class Lifecycle(StrEnum):
    """Whether the thing is in use, on its way out or gone."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


class Outcome(StrEnum):
    """What applying one entry did to the history."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


OwnerKey = tuple[OwnerKind, str]


@dataclass(frozen=True, slots=True)
class OwnerFacts:
    """What is known about an owner while an entry is in force; None is not known.

    ``parent`` is a team: the one that builds the feature, looks after the tenant or stands above
    the team.
    """

    parent: str | None = None
    cost_center: str | None = None
    email: str | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE


@dataclass(frozen=True, slots=True)
class OwnerEntry:
    """What somebody says about an owner.

    Without ``valid_from`` a new name holds since ever, a change since now. ``valid_from`` lies on a
    quarter-hour, because rollups tell no finer times apart; else InvalidInput.
    """

    kind: OwnerKind
    name: str
    facts: OwnerFacts
    valid_from: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse an instant that no rollup begins at."""
        if self.valid_from is not None and quarter_hour_at(self.valid_from) != self.valid_from:
            raise InvalidInput(f"{self}: valid_from must lie on a quarter-hour", field="valid_from")

    def __str__(self) -> str:
        """Give how messages name the entry, such as ``owner team 'growth'``."""
        return f"owner {self.kind} {self.name!r}"

    @property
    def key(self) -> OwnerKey:
        """Give what identifies the history this entry belongs to."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Owner:
    """A stretch of an owner's history: what holds from ``valid_from`` until ``valid_to``."""

    kind: OwnerKind
    name: str
    facts: OwnerFacts
    valid_from: datetime
    valid_to: datetime | None = None

    @property
    def key(self) -> OwnerKey:
        """Give what identifies the history this stretch belongs to."""
        return self.kind, self.name

    def holds_at(self, instant: datetime) -> bool:
        """Tell whether these facts hold at the instant."""
        return self.valid_from <= instant and (self.valid_to is None or instant < self.valid_to)


@dataclass(frozen=True, slots=True, eq=False)
class OwnerTree:
    """The owners in force at one instant; equal only to itself, so that it can key a dictionary."""

    facts: Mapping[OwnerKey, OwnerFacts] = field(default_factory=dict)

    def owner_of(self, team: str | None, feature: str | None) -> str | None:
        """Give the e-mail of the feature's owner, else its team's, else the nearest above."""
        feature_facts = self._find(OwnerKind.FEATURE, feature)
        if feature_facts is not None and feature_facts.email is not None:
            return feature_facts.email
        return next((facts.email for facts in self._teams_from(team) if facts.email), None)

    def cost_center_of(self, team: str | None) -> str | None:
        """Give the cost centre of the team, or of the nearest team above that has one."""
        return next(
            (facts.cost_center for facts in self._teams_from(team) if facts.cost_center), None
        )

    def has_cycle_above(self, team: str) -> bool:
        """Tell whether the way up from the team has no end within ``MAX_TREE_DEPTH`` teams."""
        return len(self._teams_from(team)) >= MAX_TREE_DEPTH

    def _teams_from(self, team: str | None) -> list[OwnerFacts]:
        found: list[OwnerFacts] = []
        facts = self._find(OwnerKind.TEAM, team)
        while facts is not None and len(found) < MAX_TREE_DEPTH:
            found.append(facts)
            facts = self._find(OwnerKind.TEAM, facts.parent)
        return found

    def _find(self, kind: OwnerKind, name: str | None) -> OwnerFacts | None:
        return None if name is None else self.facts.get((kind, name))


def tree_at(owners: Iterable[Owner], instant: datetime) -> OwnerTree:
    """Give the owners in force at the instant."""
    return OwnerTree({owner.key: owner.facts for owner in owners if owner.holds_at(instant)})


def change_instants(owners: Iterable[Owner]) -> list[datetime]:
    """Give, in order, every instant at which an entry begins; each ends where the next begins."""
    return sorted({owner.valid_from for owner in owners})


def apply_entry(
    history: Sequence[Owner], entry: OwnerEntry, *, now: datetime
) -> tuple[Outcome, list[Owner]]:
    """Give what the entry does and the history of its name afterwards, both in order of time.

    The same facts are ``unchanged``. Other facts close what holds at ``valid_from`` and hold until
    the next entry; facts that begin at the very instant of an earlier entry replace it.
    """
    valid_from = entry.valid_from or (quarter_hour_at(now) if history else EPOCH)
    current = next((owner for owner in history if owner.holds_at(valid_from)), None)
    if current is not None and current.facts == entry.facts:
        return Outcome.UNCHANGED, list(history)
    added = Owner(entry.kind, entry.name, entry.facts, valid_from)
    kept = [owner for owner in history if owner.valid_from != valid_from]
    outcome = Outcome.CHANGED if history else Outcome.CREATED
    return outcome, _chained([*kept, added])


def require_sound(owners: Sequence[Owner], entries: Iterable[OwnerEntry]) -> None:
    """Raise InvalidInput when a parent is not a known team, or when a team is above itself."""
    teams = {owner.name for owner in owners if owner.kind is OwnerKind.TEAM}
    for entry in entries:
        parent = entry.facts.parent
        if parent is not None and parent not in teams:
            raise InvalidInput(f"{entry}: parent {parent!r} is not a known team", field="parent")
    team_owners = [owner for owner in owners if owner.kind is OwnerKind.TEAM]
    for instant in change_instants(team_owners):
        _require_no_cycle(tree_at(team_owners, instant))


def _require_no_cycle(tree: OwnerTree) -> None:
    for _, team in tree.facts:
        if tree.has_cycle_above(team):
            raise InvalidInput(
                f"owner team {team!r}: parent leads back to the team itself, or through more than"
                f" {MAX_TREE_DEPTH} teams",
                field="parent",
            )


def _chained(stretches: Iterable[Owner]) -> list[Owner]:
    ordered = sorted(stretches, key=lambda owner: owner.valid_from)
    closed = [replace(earlier, valid_to=later.valid_from) for earlier, later in pairwise(ordered)]
    return [*closed, ordered[-1]]
