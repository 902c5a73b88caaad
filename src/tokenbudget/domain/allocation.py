"""Which owner bears a usage. It owns the order in which tags are resolved.

It refuses to guess a team.

Each dimension is taken from the first step that knows it: pinned by the API key, given by the
caller, the owners registry (a feature's team). What nobody knows of the team is ``unallocated``,
which is an owner like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

UNALLOCATED: Final = "unallocated"
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
class DimensionSet:
    """One combination of resolved dimensions; ``tags`` holds what is no dimension of its own.

    ``resolved_by`` tells the step that gave each tag: ``pinned``, ``caller``, ``registry`` or
    ``unallocated``.
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
    *,
    pinned: Mapping[str, str],
    feature_teams: Mapping[str, str],
    unrolled: Collection[str],
) -> DimensionSet:
    """Give the dimension set of a call.

    ``feature_teams`` is the registry's team of each feature; ``unrolled`` names the tags that have
    too many values to be dimensions.
    """
    tags = {**given, **pinned}
    resolved_by = {name: "pinned" if name in pinned else "caller" for name in sorted(tags)}
    if "team" not in tags:
        registered = feature_teams.get(tags.get("feature", ""))
        tags["team"] = registered or UNALLOCATED
        resolved_by["team"] = "registry" if registered else UNALLOCATED
    others = {name: tags[name] for name in sorted(tags) if name not in TAG_DIMENSIONS}
    return DimensionSet(
        team=tags["team"],
        feature=tags.get("feature"),
        tenant=tags.get("tenant"),
        request_type=tags.get("request_type"),
        environment=tags.get("environment"),
        prompt_version=tags.get("prompt_version"),
        **call._asdict(),
        tags={name: value for name, value in others.items() if name not in unrolled},
        resolved_by={name: step for name, step in resolved_by.items() if name not in unrolled},
    )


def kept_tags(
    given: Mapping[str, str], *, pinned: Mapping[str, str], unrolled: Collection[str]
) -> dict[str, str]:
    """Give the tags that stay on the usage row alone, since they have too many values."""
    return {name: value for name, value in {**given, **pinned}.items() if name in unrolled}
