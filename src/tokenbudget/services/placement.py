"""Where usage counts.

Its resolved dimensions, the id they are stored under and the budgets that match them.

Resolving is pure but not free, so each worker remembers what it resolved. The memory is bounded,
belongs to one rulebook, and is dropped when a transaction fails, because ids given out in it were
rolled back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from sqlmodel import Session

from tokenbudget.domain.allocation import (
    TAG_DIMENSIONS,
    CallFacts,
    DimensionSet,
    allocate,
    find_missing_tag,
    kept_tags,
)
from tokenbudget.domain.allocation import Caller as Caller
from tokenbudget.domain.budgets import BudgetMatch
from tokenbudget.services.counting import Aim
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.screening import Gate
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.ledger import (
    digest_of,
    intern_dimension_sets,
    intern_price_list,
    intern_price_rows,
    intern_sources,
)
from tokenbudget.store.rollups import find_dimension_sets

MAX_REMEMBERED = 50_000

CallKey: TypeAlias = tuple[str, CallFacts, frozenset[tuple[str, str]], int]


@dataclass(slots=True)
class Placement:
    """The dimensions of some usage; ``dimension_set_id`` is 0 until they are stored."""

    dimensions: DimensionSet
    matches: tuple[BudgetMatch, ...]
    dimension_set_id: int = 0
    aim: Aim | None = None
    gate: Gate | None = None


@dataclass(slots=True)
class Memory:
    """What one worker remembers of ids and resolutions."""

    unrolled_tags: Collection[str]
    rules_number: int = -1
    placements: dict[CallKey, Placement] = field(default_factory=dict)
    placements_by_id: dict[int, Placement] = field(default_factory=dict)
    source_ids: dict[str, int] = field(default_factory=dict)
    price_row_ids: dict[str, int] = field(default_factory=dict)
    price_list_ids: dict[str, int] = field(default_factory=dict)
    counter_ids: dict[CounterKey, int] = field(default_factory=dict)
    frozen_ids: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Roll up every dimension, whatever the settings say."""
        self.unrolled_tags = frozenset(self.unrolled_tags) - frozenset(TAG_DIMENSIONS)

    def forget(self) -> None:
        """Drop everything: the transaction that gave out some of these ids was rolled back."""
        self.placements.clear()
        self.placements_by_id.clear()
        self.source_ids.clear()
        self.price_row_ids.clear()
        self.price_list_ids.clear()
        self.counter_ids.clear()
        self.frozen_ids.clear()

    def follow(self, rules: Rulebook) -> None:
        """Drop what belonged to other rules, and everything when there is too much of it."""
        if self.rules_number != rules.number:
            self.rules_number = rules.number
            self.placements.clear()
            self.placements_by_id.clear()
        growing: tuple[Sized, ...] = (
            self.placements,
            self.placements_by_id,
            self.source_ids,
            self.counter_ids,
            self.frozen_ids,
        )
        if any(len(known) > MAX_REMEMBERED for known in growing):
            self.forget()

    def place(
        self,
        call: CallFacts,
        tags: Mapping[str, str],
        caller: Caller,
        rules: Rulebook,
        at: datetime,
    ) -> Placement:
        """Give where a call of an instant with these tags counts.

        Tags that are not rolled up do not matter, and an instant only as far as rules are dated.
        """
        unrolled = self.unrolled_tags
        rolled = frozenset([tag for tag in tags.items() if tag[0] not in unrolled])
        key = (caller.key_id, call, rolled, rules.tag_rules.epoch_at(at))
        placement = self.placements.get(key)
        if placement is None:
            dimensions = allocate(
                call,
                tags,
                at,
                caller=caller,
                rules=rules.tag_rules,
                unrolled=unrolled,
            )
            placement = Placement(dimensions, rules.index.match(dimensions))
            self.placements[key] = placement
        return placement

    def refusal(self, placement: Placement, tags: Mapping[str, str], caller: Caller) -> str | None:
        """Give why the caller's key refuses a call placed there, None when it does not."""
        if not caller.rejects_missing:
            return None
        missing = find_missing_tag(placement.dimensions, caller, {**tags, **caller.pinned_tags})
        if not missing:
            return None
        return f"the API key requires the tag {missing!r}, and nothing gives it"

    def kept_tags(self, tags: Mapping[str, str], caller: Caller) -> dict[str, str]:
        """Give the tags that stay on the usage of this call alone."""
        return kept_tags(tags, pinned=caller.pinned_tags, unrolled=self.unrolled_tags)

    def recall(self, session: Session, dimension_set_ids: Collection[int], rules: Rulebook) -> None:
        """Make sure that the placements stored under these ids are in ``placements_by_id``."""
        missing = [row_id for row_id in dimension_set_ids if row_id not in self.placements_by_id]
        for row_id, dimensions in find_dimension_sets(session, missing).items():
            matches = rules.index.match(dimensions)
            self.placements_by_id[row_id] = Placement(dimensions, matches, row_id)

    def store_placements(self, session: Session, placements: Iterable[Placement]) -> None:
        """Store the dimension sets that have no id yet and note the ids."""
        new = {id(item): item for item in placements if item.dimension_set_id == 0}
        if not new:
            return
        ids = intern_dimension_sets(session, [item.dimensions for item in new.values()])
        for item in new.values():
            item.dimension_set_id = ids[digest_of(item.dimensions)]

    def store_sources(self, session: Session, names: Collection[str]) -> None:
        """Store the sources that have no id yet and note the ids."""
        missing = {name for name in names if name not in self.source_ids}
        if missing:
            self.source_ids.update(intern_sources(session, missing))

    def price_list_id(self, session: Session, version: str, *, now: datetime) -> int:
        """Give the id of the price list of this version."""
        if version not in self.price_list_ids:
            self.price_list_ids[version] = intern_price_list(session, version, now=now)
        return self.price_list_ids[version]

    def store_price_rows(self, session: Session, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the price rows (by digest) that have no id yet and note the ids."""
        missing = [row for digest, row in rows.items() if digest not in self.price_row_ids]
        if missing:
            self.price_row_ids.update(intern_price_rows(session, missing))
