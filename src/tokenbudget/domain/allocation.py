"""Which owner bears a usage. It owns the order in which tags are resolved.

It refuses to guess a team.

Each tag is taken from the first step that knows it, and remembers which that was:

    pinned       by the API key
    gateway      asserted by a caller whose key is trusted as a gateway
    caller       given by any other caller
    mapping      of an identity: provider and account, a key, a service account
    rule         virtual tags, in their order
    registry     a feature's team
    unallocated  what nobody knows of the team, which is an owner like any other

What a call was recorded with stays, as the first three steps say; the others may answer otherwise
later, and ``allocate_again`` asks them. The registry comes after the rules since it is the standing
answer for a whole feature: a rule can take part of a feature out of it, and a feature that a rule
gives finds its team.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from tokenbudget.domain.tag_rules import TagRules

PINNED: Final = "pinned"
GATEWAY: Final = "gateway"
CALLER: Final = "caller"
MAPPING: Final = "mapping"
RULE: Final = "rule"
REGISTRY: Final = "registry"
UNALLOCATED: Final = "unallocated"
STEPS: Final = (PINNED, GATEWAY, CALLER, MAPPING, RULE, REGISTRY, UNALLOCATED)
DERIVED_STEPS: Final = frozenset({MAPPING, RULE, REGISTRY, UNALLOCATED})
"""The steps that answer by rules of ours, which may change."""

API_KEY: Final = "api_key"
TAG_DIMENSIONS: Final = (
    "team",
    "feature",
    "tenant",
    "request_type",
    "environment",
    "prompt_version",
)
CALL_DIMENSIONS: Final = (
    "provider",
    "model",
    "operation",
    "service_tier",
    "region",
    "account",
    "status",
)
DIMENSIONS: Final = (*TAG_DIMENSIONS, *CALL_DIMENSIONS)


class CallFacts(NamedTuple):
    """What a call itself says about where it counts."""

    provider: str
    model: str
    operation: str | None = None
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    status: str = "ok"
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """What the API key says of its caller; the empty one is a command on this machine.

    ``required_tags`` are refused when nothing gives them, if ``rejects_missing``; else usage
    without them counts all the same.
    """

    key_id: str = ""
    pinned_tags: Mapping[str, str] = field(default_factory=dict)
    is_gateway: bool = False
    required_tags: tuple[str, ...] = ()
    rejects_missing: bool = False


NOBODY: Final = Caller()
NO_RULES: Final = TagRules()


@dataclass(frozen=True, slots=True)
class DimensionSet:
    """One combination of resolved dimensions; ``tags`` holds what is no dimension of its own.

    ``resolved_by`` tells the step that gave each tag. ``api_key`` is the id of the key the usage
    came by, None without one.
    """

    team: str
    provider: str
    model: str
    feature: str | None = None
    tenant: str | None = None
    request_type: str | None = None
    environment: str | None = None
    operation: str | None = None
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    prompt_version: str | None = None
    status: str = "ok"
    is_retry: bool = False
    api_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    resolved_by: Mapping[str, str] = field(default_factory=dict)

    def value(self, dimension: str) -> str | None:
        """Give the value of a dimension, of ``tag:<name>`` or of a bare tag name.

        None when it has none.
        """
        if dimension in DIMENSIONS:
            value: str | None = getattr(self, dimension)
            return value
        return self.tags.get(dimension.removeprefix("tag:"))


def allocate(
    call: CallFacts,
    given: Mapping[str, str],
    at: datetime,
    *,
    caller: Caller = NOBODY,
    rules: TagRules = NO_RULES,
    unrolled: Collection[str] = (),
) -> DimensionSet:
    """Give the dimension set of a call used at an instant.

    ``unrolled`` names the tags that have too many values to be dimensions.
    """
    tags = {**given, **caller.pinned_tags}
    said = GATEWAY if caller.is_gateway else CALLER
    resolved_by = {name: PINNED if name in caller.pinned_tags else said for name in tags}
    known = {name: value for name, value in tags.items() if name not in unrolled}
    steps = {name: resolved_by[name] for name in known}
    return _resolve(_Known(call, caller.key_id or None, known, steps), rules, at)


def allocate_again(dimensions: DimensionSet, at: datetime, *, rules: TagRules) -> DimensionSet:
    """Give where usage of an instant that counts under these dimensions would count by the rules.

    Only what a derived step gave may change.
    """
    call = CallFacts(**{name: getattr(dimensions, name) for name in CallFacts._fields})
    named = {name: dimensions.value(name) for name in TAG_DIMENSIONS}
    tags = {name: value for name, value in named.items() if value is not None}
    tags.update(dimensions.tags)
    steps = {name: dimensions.resolved_by.get(name, CALLER) for name in tags}
    kept = {name: value for name, value in tags.items() if steps[name] not in DERIVED_STEPS}
    known = _Known(call, dimensions.api_key, kept, {name: steps[name] for name in kept})
    return _resolve(known, rules, at)


def find_missing_tag(dimensions: DimensionSet, caller: Caller, given: Mapping[str, str]) -> str:
    """Give the first tag that the caller's key demands and that nothing gave, "" for none.

    ``given`` are the caller's own tags, among them those that are no dimensions. Being unallocated
    is having no team.
    """
    for name in caller.required_tags:
        is_given = name in given or dimensions.value(name) is not None
        if not is_given or dimensions.resolved_by.get(name) == UNALLOCATED:
            return name
    return ""


def kept_tags(
    given: Mapping[str, str], *, pinned: Mapping[str, str], unrolled: Collection[str]
) -> dict[str, str]:
    """Give the tags that stay on the usage row alone, since they have too many values."""
    tags = {**given, **pinned} if pinned else given
    return {name: value for name, value in tags.items() if name in unrolled}


def fact_name(name: str) -> str:
    """Give the name under which rules know a dimension, a tag or ``tag:<name>``.

    A tag that is called like a fact of the call keeps its prefix.
    """
    bare = name.removeprefix("tag:")
    return f"tag:{bare}" if name != bare and bare in (*CALL_DIMENSIONS, API_KEY) else bare


class _Known(NamedTuple):
    """What is known of a call before any rule of ours is asked."""

    call: CallFacts
    api_key: str | None
    tags: Mapping[str, str]
    steps: Mapping[str, str]

    def facts(self) -> dict[str, str]:
        """Give the values that conditions ask for, by name."""
        facts = {name: getattr(self.call, name) for name in CALL_DIMENSIONS}
        facts[API_KEY] = self.api_key
        known = {name: value for name, value in facts.items() if value is not None}
        known.update((fact_name(f"tag:{name}"), value) for name, value in self.tags.items())
        return known


def _resolve(known: _Known, rules: TagRules, at: datetime) -> DimensionSet:
    tags, steps = dict(known.tags), dict(known.steps)
    if rules is not NO_RULES:
        facts = known.facts()
        for step, listed in ((MAPPING, rules.mappings), (RULE, rules.rules)):
            given = listed.give(facts, at) if listed.rules else {}
            facts.update(given)
            tags.update(given)
            steps.update(dict.fromkeys(given, step))
    if "team" not in tags:
        registered = rules.team_of(tags.get("feature"), at)
        tags["team"] = registered or UNALLOCATED
        steps["team"] = REGISTRY if registered else UNALLOCATED
    return DimensionSet(
        team=tags["team"],
        feature=tags.get("feature"),
        tenant=tags.get("tenant"),
        request_type=tags.get("request_type"),
        environment=tags.get("environment"),
        prompt_version=tags.get("prompt_version"),
        **known.call._asdict(),
        api_key=known.api_key,
        tags={name: tags[name] for name in sorted(tags) if name not in TAG_DIMENSIONS},
        resolved_by={name: steps[name] for name in sorted(steps)},
    )
