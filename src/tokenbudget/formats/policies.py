"""Policies as ``policies.toml`` and the API spell them: one model, the same words.

TOML has ``[[policy]]`` tables and one ``[classes]`` table, JSON ``{"classes": {...}, "policy":
[...]}``. It owns the shape of a policy and what its patterns and rungs mean; it refuses to judge.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec

from tokenbudget.domain.budgets import Mode
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.policies import Action, ModelClass, Policy, Rung
from tokenbudget.domain.tag_rules import GLOB_MARK
from tokenbudget.domain.usage import MAX_QUANTITY
from tokenbudget.formats.budgets import ID_PATTERN, describe_selector, parse_selector
from tokenbudget.formats.wire import plain_fault, require_no_nul

MAX_POLICIES: Final = 1_000
MAX_CLASSES: Final = 100
MAX_RUNGS: Final = 10
MAX_PATTERNS: Final = 1_000
UNASKED: Final = ("account", "operation", "region", "status")
"""What a check does not say, so that a selector by it would never hold."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=ID_PATTERN)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Patterns = Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_PATTERNS)]


class PolicyShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a policy; only the id is required."""

    id: Id
    mode: Literal["hard", "soft", "shadow"] = "soft"
    selector: dict[str, str | list[str]] = {}
    allowed_models: Patterns | None = None
    allowed_classes: Patterns | None = None
    denied_models: Patterns | None = None
    ladder: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_RUNGS)] | None = None
    min_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_QUANTITY)] = 1
    require_owner: bool = False
    on_retired: Literal["deny", "warn"] = "warn"
    on_sunset: Literal["deny", "warn"] = "warn"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    classes: Annotated[dict[Name, list[Name]], msgspec.Meta(max_length=MAX_CLASSES)] = {}
    policy: Annotated[list[Any], msgspec.Meta(max_length=MAX_POLICIES)] = []


@dataclass(frozen=True, slots=True)
class PoliciesDraft:
    """Policies as written, in their order; ``content`` is the wire form of all of it."""

    policies: tuple[Policy, ...] = ()
    content: Mapping[str, Any] = field(default_factory=lambda: {"classes": {}, "policy": []})


def parse_policies_toml(text: str, *, file_name: str) -> PoliciesDraft:
    """Give the policies of a TOML file; raises InvalidInput naming file, policy and rule."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    return parse_policies(document, where=file_name)


def parse_policies(document: Mapping[str, Any], *, where: str = "policies") -> PoliciesDraft:
    """Give the policies of a decoded document; raises InvalidInput naming policy and rule."""
    try:
        shape = msgspec.convert(document, _Document)
        require_no_nul(shape)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, 'document')}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", **error.facts) from None
    classes = {
        name: _class_of(name, patterns, f"{where}: class {name!r}")
        for name, patterns in shape.classes.items()
    }
    policies: dict[str, Policy] = {}
    for number, entry in enumerate(shape.policy, start=1):
        policy = _policy_of(entry, classes, f"{where}: policy {number}")
        if policy.id in policies:
            raise InvalidInput(f"{where}: policy {number}: id {policy.id!r} is used twice")
        policies[policy.id] = policy
    content = {
        "classes": {name: list(classes[name].patterns) for name in sorted(classes)},
        "policy": [describe_policy(policy) for policy in policies.values()],
    }
    return PoliciesDraft(tuple(policies.values()), content)


def require_asked_tags(draft: PoliciesDraft, unrolled_tags: Collection[str]) -> None:
    """Raise InvalidInput when a policy selects by a tag that is kept on usage but is no dimension.

    Such tags are not looked at when it is decided where a call counts.
    """
    for policy in draft.policies:
        unrolled = sorted(set(policy.selector) & set(unrolled_tags))
        if unrolled:
            raise InvalidInput(
                f"policy {policy.id!r}: {unrolled[0]!r} cannot be selected by, because "
                "TOKENBUDGET_UNROLLED_TAGS names it"
            )


def describe_policy(policy: Policy) -> dict[str, Any]:
    """Give the wire form of a policy; what it leaves out is None."""
    return {
        "id": policy.id,
        "mode": policy.mode.value,
        "selector": describe_selector(policy.selector),
        "allowed_models": list(policy.allowed_models) or None,
        "allowed_classes": [each.name for each in policy.allowed_classes] or None,
        "denied_models": list(policy.denied_models) or None,
        "ladder": [format_rung(rung) for rung in policy.ladder] or None,
        "min_output_tokens": policy.min_output_tokens,
        "require_owner": policy.requires_owner,
        "on_retired": policy.on_retired.value,
        "on_sunset": policy.on_sunset.value,
    }


def format_rung(rung: Rung) -> str:
    """Give a rung as it is written: the model, behind its provider if that is named."""
    return rung.model if rung.provider is None else f"{rung.provider}/{rung.model}"


def _policy_of(entry: object, classes: Mapping[str, ModelClass], where: str) -> Policy:
    try:
        shape = msgspec.convert(entry, PolicyShape)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, 'policy')}") from None
    place = f"{where} ({shape.id})"
    return Policy(
        id=shape.id,
        mode=Mode(shape.mode),
        selector=_selector_of(shape, place),
        allowed_models=_patterns_of(shape.allowed_models, f"{place}: allowed_models"),
        denied_models=_patterns_of(shape.denied_models, f"{place}: denied_models"),
        allowed_classes=_classes_of(shape.allowed_classes or (), classes, place),
        ladder=_ladder_of(shape.ladder or (), place),
        min_output_tokens=shape.min_output_tokens,
        requires_owner=shape.require_owner,
        on_retired=Action(shape.on_retired),
        on_sunset=Action(shape.on_sunset),
    )


def _class_of(name: str, patterns: Sequence[str], where: str) -> ModelClass:
    if not 1 <= len(patterns) <= MAX_PATTERNS:
        raise InvalidInput(f"{where} needs 1 to {MAX_PATTERNS} patterns, not {len(patterns)}")
    return ModelClass(name, _patterns_of(patterns, where))


def _selector_of(shape: PolicyShape, where: str) -> dict[str, frozenset[str]]:
    try:
        selector = parse_selector(shape.selector)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", field="selector") from None
    unasked = sorted(set(selector).intersection(UNASKED))
    if unasked:
        raise InvalidInput(
            f"{where}: selector {unasked[0]!r} never holds: a check does not say it",
            field="selector",
        )
    return selector


def _patterns_of(patterns: Sequence[str] | None, where: str) -> tuple[str, ...]:
    for pattern in patterns or ():
        if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
            # A decision waits for it: matching takes time that grows with the name only.
            raise InvalidInput(
                f"{where}: {pattern!r} is a regular expression; only {GLOB_MARK!r} stands for any"
                " text"
            )
    return tuple(pattern.lower() for pattern in patterns or ())


def _classes_of(
    names: Sequence[str], classes: Mapping[str, ModelClass], where: str
) -> tuple[ModelClass, ...]:
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise InvalidInput(
            f"{where}: allowed_classes: {unknown[0]!r} is not in [classes]", field="allowed_classes"
        )
    return tuple(classes[name] for name in names)


def _ladder_of(texts: Sequence[str], where: str) -> tuple[Rung, ...]:
    rungs = tuple(_rung_of(text, where) for text in texts)
    if len(set(rungs)) != len(rungs):
        raise InvalidInput(f"{where}: ladder names a model twice", field="ladder")
    return rungs


def _rung_of(text: str, where: str) -> Rung:
    provider, slash, model = text.partition("/")
    if not slash:
        provider, model = "", text
    if GLOB_MARK in text or not model or (slash and not provider):
        raise InvalidInput(
            f"{where}: ladder: {text!r} must be a model or provider/model", field="ladder"
        )
    return Rung(model, provider or None)
