"""What calls may be made with: which models, by whom, and until when.

It owns what a policy demands, what is said where it is not met, and the ladder of models that stand
in for one another. It refuses to know prices and room (``holds.py``) and who owns what
(``owners.py``): what is known of a call is handed in.

All policies that match a call apply, none is more specific than another. A hard one denies, a soft
one warns, and what a shadow one would have said is told apart. What no policy decides is still
told: a retired or deprecated feature and a model at its sunset are warnings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tokenbudget.domain.budgets import HasDimensions, Mode
from tokenbudget.domain.holds import Notice
from tokenbudget.domain.owners import Lifecycle, Owner, OwnerKind, OwnerTree, tree_at
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.domain.tag_rules import is_like

MODEL_NOT_ALLOWED: Final = "model_not_allowed"
MODEL_SUNSET: Final = "model_sunset"
FEATURE_RETIRED: Final = "feature_retired"
FEATURE_DEPRECATED: Final = "feature_deprecated"
OWNER_MISSING: Final = "owner_missing"
SUNSET_NOTICE: Final = timedelta(days=30)
"""How long before its sunset a model is warned of."""


class Action(StrEnum):
    """What a policy does about a feature that is retired, or a model at its sunset."""

    DENY = "deny"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class ModelClass:
    """A named set of models: the patterns of their names, lower case."""

    name: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """A model that may stand in; ``provider`` None is the one that was asked for."""

    model: str
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy. Patterns are lower case; without allowed models and classes any model is allowed.

    A model is allowed that is like one of ``allowed_models`` or in one of ``allowed_classes``, and
    like none of ``denied_models``. ``min_output_tokens`` is the least that an answer is worth.
    """

    id: str
    mode: Mode
    selector: Mapping[str, frozenset[str]] = field(default_factory=dict)
    allowed_models: tuple[str, ...] = ()
    denied_models: tuple[str, ...] = ()
    allowed_classes: tuple[ModelClass, ...] = ()
    ladder: tuple[Rung, ...] = ()
    min_output_tokens: int = 1
    requires_owner: bool = False
    on_retired: Action = Action.WARN
    on_sunset: Action = Action.WARN

    def matches(self, dimensions: HasDimensions) -> bool:
        """Tell whether every condition of the selector holds."""
        return all(dimensions.value(name) in accepted for name, accepted in self.selector.items())

    def allows(self, names: Sequence[str]) -> bool:
        """Tell whether a model is allowed that is known by these names, lower case."""
        if _any_like(names, self.denied_models):
            return False
        if not (self.allowed_models or self.allowed_classes):
            return True
        return _any_like(names, self.allowed_models) or any(
            _any_like(names, each.patterns) for each in self.allowed_classes
        )


@dataclass(frozen=True, slots=True)
class KnownCall:
    """What policies ask about a call.

    ``names`` are all that its model is known by, lower case, the first as it was asked for.
    ``sunset`` is when its provider stops to serve it, ``owner`` who answers for the call; None is
    not known.
    """

    names: tuple[str, ...]
    team: str
    feature: str | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    owner: str | None = None
    sunset: datetime | None = None


@dataclass(slots=True)
class PolicyVerdict:
    """What denies a call, what to warn of, and what shadow policies would have denied."""

    denials: list[Notice] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    shadowed: list[Notice] = field(default_factory=list)

    def tell(self, mode: Mode, notice: Notice) -> None:
        """Take a notice as the mode of its policy says."""
        told = {Mode.HARD: self.denials, Mode.SOFT: self.warnings, Mode.SHADOW: self.shadowed}
        told[mode].append(notice)


class PolicyBook:
    """The policies in force, in their order, with the history of the owners they ask about.

    The only thing that changes inside is the tree of owners that was asked for last.
    """

    def __init__(self, policies: Sequence[Policy] = (), owners: Sequence[Owner] = ()) -> None:
        self.policies = tuple(policies)
        self._owners = tuple(owners)
        self._last: tuple[datetime, OwnerTree] | None = None

    def matching(self, dimensions: HasDimensions) -> tuple[Policy, ...]:
        """Give the policies that apply to these dimensions, in their order."""
        return tuple(policy for policy in self.policies if policy.matches(dimensions))

    def owners_at(self, instant: datetime) -> OwnerTree:
        """Give the owners in force at the instant; they change on quarter-hours only."""
        quarter = quarter_hour_at(instant)
        last = self._last
        if last is None or last[0] != quarter:
            last = self._last = quarter, tree_at(self._owners, quarter)
        return last[1]


def judge_call(policies: Sequence[Policy], call: KnownCall, now: datetime) -> PolicyVerdict:
    """Give what the policies say of the call, in their order, and what is told without any."""
    verdict = PolicyVerdict()
    for policy in policies:
        for notice in _faults(policy, call, now):
            verdict.tell(policy.mode, notice)
    told = {notice.code for notice in (*verdict.denials, *verdict.warnings)}
    verdict.warnings.extend(
        notice for notice in _lifecycle_notices(call, now) if notice.code not in told
    )
    return verdict


def ladder_of(policies: Sequence[Policy]) -> tuple[Rung, ...]:
    """Give the ladder of the first policy that has one; a shadow policy changes no answer."""
    return next(
        (policy.ladder for policy in policies if policy.ladder and policy.mode is not Mode.SHADOW),
        (),
    )


def least_output_of(policies: Sequence[Policy]) -> int:
    """Give the fewest output tokens that an answer is reduced to."""
    asked = [policy.min_output_tokens for policy in policies if policy.mode is not Mode.SHADOW]
    return max(asked, default=1)


def lifecycle_of(owners: OwnerTree, feature: str | None) -> Lifecycle:
    """Give where a feature stands; what nobody registered is in use."""
    known = owners.facts.get((OwnerKind.FEATURE, feature)) if feature is not None else None
    return known.lifecycle if known is not None else Lifecycle.ACTIVE


def _faults(policy: Policy, call: KnownCall, now: datetime) -> list[Notice]:
    """Give what the policy would deny the call for."""
    faults = []
    if not policy.allows(call.names):
        named = call.names[0] if call.names else "a call that names no model"
        faults.append(Notice(MODEL_NOT_ALLOWED, f"policy {policy.id} does not allow {named}"))
    if policy.requires_owner and call.owner is None:
        detail = f"policy {policy.id} demands an owner, and team {call.team!r} has none"
        if call.feature is not None:
            detail += f", nor has its feature {call.feature!r}"
        faults.append(Notice(OWNER_MISSING, detail))
    if policy.on_retired is Action.DENY and call.lifecycle is Lifecycle.RETIRED:
        detail = f"policy {policy.id} denies the retired feature {call.feature!r}"
        faults.append(Notice(FEATURE_RETIRED, detail))
    sunset = call.sunset
    if policy.on_sunset is Action.DENY and sunset is not None and sunset <= now:
        detail = f"policy {policy.id} denies a model at its sunset: {_sunset_of(call, sunset, now)}"
        faults.append(Notice(MODEL_SUNSET, detail))
    return faults


def _lifecycle_notices(call: KnownCall, now: datetime) -> list[Notice]:
    notices = []
    if call.lifecycle is Lifecycle.RETIRED:
        notices.append(Notice(FEATURE_RETIRED, f"feature {call.feature!r} is retired"))
    if call.lifecycle is Lifecycle.DEPRECATED:
        notices.append(Notice(FEATURE_DEPRECATED, f"feature {call.feature!r} is deprecated"))
    if call.sunset is not None and call.sunset - SUNSET_NOTICE <= now:
        notices.append(Notice(MODEL_SUNSET, _sunset_of(call, call.sunset, now)))
    return notices


def _sunset_of(call: KnownCall, sunset: datetime, now: datetime) -> str:
    tense = "is no longer served since" if sunset <= now else "will no longer be served from"
    return f"{call.names[0]} {tense} {format_instant(sunset)}"


def _any_like(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(is_like(name, pattern) for pattern in patterns for name in names)
