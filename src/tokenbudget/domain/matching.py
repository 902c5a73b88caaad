"""How finely two sides of a bill meet: it owns the ladder of levels and what is merged on it.

It refuses bills and rollups themselves (``reconciliation.py``). Everything starts where it says
most: usage and lines of one account, model and day. Groups that agree stay there. Those that do
not are looked at again one level up, beside the others of the same parent:

* **What has no other side meets who lacks it.** Usage that no line invoices and money that no usage
  stands for, of one model and day, are one group: the account is only a name. A line of a longer
  time meets the unbilled days of its model. Where a provider's lines name no model at all, they
  meet all of its unbilled usage.
* **Errors that cancel out are none.** All groups that disagree, to either side, are one group if
  they then agree: a call at midnight, a model under two names. Over-counting of a model is never
  made good by another model.

Nothing else is merged, so that groups that all err to one side stay as they are. What a commitment
costs and the lines that pay it are one group of the month from the start, and never merged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.domain.variances import (
    ZERO,
    Verdict,
    add_exactly,
    exact_amount,
    judge,
    subtract_exactly,
)


class MatchLevel(StrEnum):
    """How finely two sides met, the finest first."""

    ACCOUNT = "account"
    MODEL_DAY = "model_day"
    MODEL_MONTH = "model_month"
    PROVIDER_MONTH = "provider_month"


RANKS: Final = {level: rank for rank, level in enumerate(MatchLevel)}
DISAGREEING: Final = frozenset({Verdict.UNTRACKED, Verdict.OVER_COUNTED, Verdict.MISSING_BILL})

Parent = tuple[str, str | None, Period | None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a group is about; ``account`` None is any, ``description`` tells lines without a model.

    ``category`` is usage for whatever is compared; the others stand for no usage. ``commitment`` is
    the id of the one whose fixed cost it is, None for usage that costs by itself.
    """

    provider: str
    period: Period
    level: MatchLevel
    model: str | None = None
    account: str | None = None
    description: str | None = None
    category: ChargeCategory = ChargeCategory.USAGE
    commitment: str | None = None

    @property
    def is_compared(self) -> bool:
        """Tell whether usage stands for it."""
        return self.category is ChargeCategory.USAGE

    @property
    def meets_others(self) -> bool:
        """Tell whether it may be looked at again beside others of the same parent."""
        return self.is_compared and self.commitment is None

    @property
    def order(self) -> tuple[Period, str, bool, str, str, str, str, str, int]:
        """Give the sort key: time, provider, models before the rest, name, account."""
        return (
            self.period,
            self.provider,
            self.model is None,
            self.model or "",
            self.description or "",
            self.account or "",
            self.category.value,
            self.commitment or "",
            RANKS[self.level],
        )


@dataclass(slots=True, eq=False)
class Group:
    """Both sides of one subject; ``merged`` is the group that it has become part of."""

    subject: Subject
    is_open: bool = False
    is_metered: bool = False
    metered_nanos: int = 0
    invoiced: Decimal | None = None
    unpriced_requests: int = 0
    merged: Group | None = None

    @property
    def metered(self) -> Decimal | None:
        """Give what was metered, None where nothing was."""
        return exact_amount(self.metered_nanos) if self.is_metered else None

    @property
    def variance(self) -> Decimal:
        """Give what was invoiced less what was metered."""
        return subtract_exactly(self.invoiced or ZERO, self.metered or ZERO)

    @property
    def order(self) -> tuple[object, ...]:
        """Give a sort key under which equal groups alone are equal."""
        absent = (0, ZERO)
        metered, invoiced = self.metered, self.invoiced
        return (
            self.subject.order,
            absent if metered is None else (1, metered),
            absent if invoiced is None else (1, invoiced),
        )

    @property
    def root(self) -> Group:
        """Give the group that this one ended in."""
        return self if self.merged is None else self.merged.root

    def add_invoiced(self, amount: Decimal) -> None:
        """Add to what was invoiced."""
        self.invoiced = add_exactly(self.invoiced or ZERO, amount)

    def verdict(self, tolerance_basis_points: int) -> Verdict:
        """Give what the variance means."""
        if self.is_open:
            return Verdict.OPEN
        return judge(
            metered=self.metered,
            invoiced=self.invoiced,
            is_unpriced=self.unpriced_requests > 0,
            tolerance_basis_points=tolerance_basis_points,
        )


def merge_groups(
    groups: Iterable[Group], *, month: Period, tolerance_basis_points: int
) -> list[Group]:
    """Give the groups that stay, new ones of coarser levels among them.

    What is given back has every amount once. The order of the groups does not matter.
    """
    kept = list(groups)
    ladder = _Ladder(month, tolerance_basis_points, _without_models(kept))
    waiting = [(group, verdict) for group in kept if (verdict := ladder.complaint(group))]
    for level in (MatchLevel.MODEL_DAY, MatchLevel.MODEL_MONTH, MatchLevel.PROVIDER_MONTH):
        families: dict[Parent, list[tuple[Group, Verdict]]] = defaultdict(list)
        for group, verdict in waiting:
            if RANKS[group.subject.level] <= RANKS[level]:
                families[_parent(group.subject, level)].append((group, verdict))
        fresh = [new for family in families.values() for new in ladder.climb(level, family)]
        kept.extend(fresh)
        waiting.extend((group, verdict) for group in fresh if (verdict := ladder.complaint(group)))
        waiting = [(group, verdict) for group, verdict in waiting if group.merged is None]
    return [group for group in kept if group.merged is None]


@dataclass(frozen=True, slots=True)
class _Ladder:
    month: Period
    tolerance_basis_points: int
    unnamed: Set[str]

    def complaint(self, group: Group) -> Verdict | None:
        """Give the verdict on a group that may be merged, None for one that stays."""
        if not group.subject.meets_others:
            return None
        verdict = group.verdict(self.tolerance_basis_points)
        return verdict if verdict in DISAGREEING else None

    def climb(self, level: MatchLevel, family: Sequence[tuple[Group, Verdict]]) -> list[Group]:
        """Give the new groups of one parent, at most two."""
        met = self._meet(level, family)
        rest = [(group, verdict) for group, verdict in family if group.merged is None]
        if met is not None and (verdict := self.complaint(met)):
            rest.append((met, verdict))
        cancelled = self._cancel(level, rest)
        return [group for group in (met, cancelled) if group is not None]

    def _meet(self, level: MatchLevel, family: Sequence[tuple[Group, Verdict]]) -> Group | None:
        missing = [group for group, verdict in family if verdict is Verdict.MISSING_BILL]
        takers = [
            group
            for group, verdict in family
            if verdict is Verdict.UNTRACKED and self._takes(level, group.subject)
        ]
        if not missing or not takers:
            return None
        return _keep(self._sum(level, [*missing, *takers]), [*missing, *takers])

    def _takes(self, level: MatchLevel, subject: Subject) -> bool:
        if level is MatchLevel.MODEL_DAY:
            return True
        is_as_coarse = subject.level is level
        return is_as_coarse and (subject.model is not None or subject.provider in self.unnamed)

    def _cancel(self, level: MatchLevel, family: Sequence[tuple[Group, Verdict]]) -> Group | None:
        is_last = level is MatchLevel.PROVIDER_MONTH
        groups = [
            group for group, verdict in family if not (is_last and verdict is Verdict.OVER_COUNTED)
        ]
        signs = {group.variance > ZERO for group in groups}
        if len(signs) < 2:
            return None
        merged = self._sum(level, groups)
        is_settled = merged.verdict(self.tolerance_basis_points) is Verdict.MATCHED
        return _keep(merged, groups) if is_settled else None

    def _sum(self, level: MatchLevel, groups: Sequence[Group]) -> Group:
        first = groups[0].subject
        is_day = level is MatchLevel.MODEL_DAY
        merged = Group(
            Subject(
                provider=first.provider,
                period=first.period if is_day else self.month,
                level=level,
                model=None if level is MatchLevel.PROVIDER_MONTH else first.model,
            )
        )
        for group in groups:
            merged.is_metered = merged.is_metered or group.is_metered
            merged.metered_nanos += group.metered_nanos
            merged.unpriced_requests += group.unpriced_requests
            if group.invoiced is not None:
                merged.add_invoiced(group.invoiced)
        return merged


def _without_models(groups: Iterable[Group]) -> set[str]:
    """Give the providers whose lines of usage name no model."""
    lines = [
        group.subject
        for group in groups
        if group.invoiced is not None and group.subject.meets_others
    ]
    named = {subject.provider for subject in lines if subject.model is not None}
    return {subject.provider for subject in lines} - named


def _parent(subject: Subject, level: MatchLevel) -> Parent:
    if level is MatchLevel.PROVIDER_MONTH:
        return subject.provider, None, None
    day = subject.period if level is MatchLevel.MODEL_DAY else None
    return subject.provider, subject.model, day


def _keep(merged: Group, parts: Iterable[Group]) -> Group:
    for part in parts:
        part.merged = merged
    return merged
