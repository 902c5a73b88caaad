"""Which attributes become which tags.

It owns the places where emitters put business facts and the default mapping. It refuses to decide
who may tag: a key's pinned tags beat all of these later.

A rule names an attribute and a tag; of the rules of one tag the first whose attribute is there
wins. What a caller gave its tracing library as metadata is found under its own name: the metadata
of Vercel, Langfuse, OpenInference, Traceloop and OpenRouter is unfolded before the rules are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.otlp.layouts import Layouts, Names
from tokenbudget.formats.otlp.shapes import Attributes, AttributeValue
from tokenbudget.formats.otlp.values import MAX_TEXT_CHARACTERS, object_of, text_of

Tags: TypeAlias = Mapping[str, str]

DEFAULT_TAG_RULES: Final = (
    "team=team",
    "team.id=team",
    "team.name=team",
    "feature=feature",
    "feature.name=feature",
    "ai.telemetry.functionId=feature",
    "tenant=tenant",
    "tenant.id=tenant",
    "tenant_id=tenant",
    "tenantId=tenant",
    "customer.id=tenant",
    "request_type=request_type",
    "request.type=request_type",
    "deployment.environment.name=environment",
    "deployment.environment=environment",
    "langfuse.environment=environment",
    "environment=environment",
    "prompt_version=prompt_version",
    "langfuse.observation.prompt.version=prompt_version",
    "cost_center=cost_center",
    "cost.center=cost_center",
    "user.id=user",
    "user_id=user",
    "userId=user",
    "enduser.id=user",
    "user.account_uuid=user",
    "user.email=user",
    "session.id=session_id",
    "session_id=session_id",
    "sessionId=session_id",
    "gen_ai.conversation.id=conversation_id",
    "conversation.id=conversation_id",
    "service.name=service",
    "service.namespace=service_namespace",
    "k8s.namespace.name=k8s_namespace",
)
"""Attribute and tag of each rule, as the setting spells them."""

METADATA_PREFIXES: Final = (
    "ai.telemetry.metadata.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "traceloop.association.properties.",
    "trace.metadata.",
    "metadata.",
)
METADATA_OBJECTS: Final = ("metadata", "langfuse.trace.metadata", "trace.metadata")
LABEL_LISTS: Final = ("tag.tags", "langfuse.trace.tags", "trace.tags")
METADATA_HOLDERS: Final = frozenset((*METADATA_OBJECTS, *LABEL_LISTS))
MAX_METADATA: Final = 64


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which of some names have a rule, and whether any may hold a caller's metadata."""

    ruled: Names
    has_metadata: bool


@dataclass(frozen=True, slots=True)
class TagRules:
    """Which tag an attribute becomes, and its rank among those that become the same."""

    places: Mapping[str, tuple[tuple[str, int], ...]]
    layouts: Layouts[_Layout] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Begin without any layout."""
        object.__setattr__(self, "layouts", Layouts(self._layout))

    def tags_of(self, attributes: Attributes) -> dict[str, str]:
        """Give the tags that these attributes say; what is no text is left out."""
        layout = self.layouts.of(attributes)
        tags = self._found(attributes, layout.ruled) if layout.ruled else {}
        if not layout.has_metadata:
            return tags
        unfolded = unfold_metadata(attributes)
        return {**self._found(unfolded, unfolded), **tags}

    def _found(self, attributes: Attributes, names: Iterable[str]) -> dict[str, str]:
        tags: dict[str, str] = {}
        ranks: dict[str, int] = {}
        for name in names:
            places = self.places.get(name)
            text = None if places is None else text_of(attributes[name])
            for tag, rank in places or ():
                if text is not None and (tag not in ranks or rank < ranks[tag]):
                    ranks[tag] = rank
                    tags[tag] = text
        return tags

    def _layout(self, names: Names) -> _Layout:
        return _Layout(
            tuple(name for name in names if name in self.places),
            any(name in METADATA_HOLDERS or name.startswith(METADATA_PREFIXES) for name in names),
        )


def parse_tag_rules(rules: Iterable[str]) -> TagRules:
    """Give the rules of ``attribute=tag`` texts, in order; raises InvalidInput naming a bad one."""
    places: dict[str, list[tuple[str, int]]] = {}
    for rank, rule in enumerate(rules):
        attribute, separator, tag = (part.strip() for part in rule.rpartition("="))
        if not (attribute and separator and tag) or len(tag) > MAX_TEXT_CHARACTERS:
            raise InvalidInput(f"tag rule {rule!r} is not attribute=tag", rule=rule)
        places.setdefault(attribute, []).append((tag, rank))
    return TagRules({attribute: tuple(each) for attribute, each in places.items()})


def unfold_metadata(attributes: Attributes) -> dict[str, AttributeValue]:
    """Give a caller's own metadata under its own names, from wherever its library put it."""
    unfolded: dict[str, AttributeValue] = {}
    for name, value in attributes.items():
        if name.startswith(METADATA_PREFIXES):
            prefix = next(each for each in METADATA_PREFIXES if name.startswith(each))
            unfolded.setdefault(name.removeprefix(prefix), value)
    for name in METADATA_OBJECTS:
        if name in attributes:
            _add_object(unfolded, attributes[name])
    for name in LABEL_LISTS:
        if name in attributes:
            _add_labels(unfolded, attributes[name])
    return unfolded


def _add_object(unfolded: dict[str, AttributeValue], value: AttributeValue) -> None:
    for name, inner in list((object_of(value) or {}).items())[:MAX_METADATA]:
        if isinstance(inner, str | int):
            unfolded.setdefault(name, inner)


def _add_labels(unfolded: dict[str, AttributeValue], value: AttributeValue) -> None:
    """Add labels such as ``team:support``; a label without a colon names nothing."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return
    for label in value[:MAX_METADATA]:
        if isinstance(label, str):
            name, separator, text = label.partition(":")
            if separator:
                unfolded.setdefault(name.strip(), text)
