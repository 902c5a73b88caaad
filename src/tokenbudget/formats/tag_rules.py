"""Mappings and tag rules as ``tags/rules.toml`` and the API spell them: one model, the same words.

TOML has ``[[mapping]]`` and ``[[rule]]`` tables, JSON ``{"mapping": [...], "rule": [...]}``. It
owns the shape of one entry and what a condition means; it refuses to resolve anything.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from tokenbudget.domain.allocation import API_KEY, CALL_DIMENSIONS, fact_name
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import format_instant, parse_instant
from tokenbudget.domain.tag_rules import GLOB_MARK, Condition, TagRule
from tokenbudget.formats.wire import plain_fault, require_no_nul

MAX_ENTRIES: Final = 20_000
MAX_VALUES: Final = 1_000
LENGTH_OF_DATE: Final = len("2026-11-01")
BOUNDS: Final = ("valid_from", "valid_to")
FACTS_OF_THE_CALL: Final = (*CALL_DIMENSIONS, API_KEY)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Accepted = Name | Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_VALUES)]
Tags = Annotated[dict[Name, Name], msgspec.Meta(min_length=1, max_length=64)]


class MappingShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a mapping; values are matched exactly."""

    match: Annotated[dict[Name, Accepted], msgspec.Meta(min_length=1, max_length=64)]
    tags: Tags
    valid_from: Any = None
    valid_to: Any = None


class Unlike(msgspec.Struct, forbid_unknown_fields=True):
    """What a value must not be."""

    unlike: Accepted = msgspec.field(name="not")


class RuleShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a rule; an empty ``when`` holds for everything."""

    name: Name
    when: Annotated[dict[Name, Accepted | Unlike], msgspec.Meta(max_length=64)]
    set: Tags
    valid_from: Any = None
    valid_to: Any = None


ShapeT = TypeVar("ShapeT", MappingShape, RuleShape)


@dataclass(frozen=True, slots=True)
class TagRulesDraft:
    """Mappings and rules as written, each list in its order; ``content`` is their wire form."""

    mappings: tuple[TagRule, ...]
    rules: tuple[TagRule, ...]
    content: Mapping[str, Any]


def parse_tag_rules_toml(text: str, *, file_name: str) -> TagRulesDraft:
    """Give the rules of a TOML file; raises InvalidInput naming file, entry and rule."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    return parse_tag_rules(document, where=file_name)


def parse_tag_rules(document: Mapping[str, Any], *, where: str = "tag rules") -> TagRulesDraft:
    """Give the rules of a decoded document; raises InvalidInput naming the entry and the rule."""
    unknown = sorted(set(document) - {"mapping", "rule"})
    if unknown:
        raise InvalidInput(f"{where}: {unknown[0]!r} is not known; there are 'mapping' and 'rule'")
    mappings = [
        (_shape(entry, MappingShape, at), at) for entry, at in _entries(document, "mapping", where)
    ]
    rules = [(_shape(entry, RuleShape, at), at) for entry, at in _entries(document, "rule", where)]
    _require_distinct_names([shape.name for shape, _ in rules], where)
    return TagRulesDraft(
        tuple(_mapping_of(shape, at) for shape, at in mappings),
        tuple(_rule_of(shape, at) for shape, at in rules),
        {
            "mapping": [_describe_mapping(shape) for shape, _ in mappings],
            "rule": [_describe_rule(shape) for shape, _ in rules],
        },
    )


def require_known_tags(draft: TagRulesDraft, unrolled_tags: Collection[str]) -> None:
    """Raise InvalidInput when a rule names a tag that is kept on usage but is no dimension."""
    for rule in (*draft.mappings, *draft.rules):
        named = {condition.name for condition in rule.conditions} | set(rule.tags)
        unrolled = sorted(named & set(unrolled_tags))
        if unrolled:
            raise InvalidInput(
                f"{rule.name}: {unrolled[0]!r} cannot be ruled by, because "
                "TOKENBUDGET_UNROLLED_TAGS names it"
            )


def _entries(document: Mapping[str, Any], name: str, where: str) -> list[tuple[object, str]]:
    entries = document.get(name, [])
    if not isinstance(entries, list):
        raise InvalidInput(f"{where}: {name!r} must be a list of tables")
    if len(entries) > MAX_ENTRIES:
        raise InvalidInput(f"{where}: more than {MAX_ENTRIES} entries of {name!r}")
    return [(entry, f"{where}: {name} {number}") for number, entry in enumerate(entries, start=1)]


def _shape(entry: object, shape: type[ShapeT], where: str) -> ShapeT:
    try:
        converted = msgspec.convert(entry, shape)
        require_no_nul(converted)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, 'entry')}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", **error.facts) from None
    start, end = (_instant(getattr(converted, name), name, where) for name in BOUNDS)
    if start is not None and end is not None and start >= end:
        raise InvalidInput(f"{where}: valid_to must be after valid_from", field="valid_to")
    converted.valid_from, converted.valid_to = start, end
    return converted


def _mapping_of(shape: MappingShape, where: str) -> TagRule:
    conditions = tuple(
        _exact(name, accepted, where) for name, accepted in sorted(shape.match.items())
    )
    tags = _given(shape.tags, where)
    return TagRule(where, conditions, tags, shape.valid_from, shape.valid_to)


def _exact(name: str, accepted: str | list[str], where: str) -> Condition:
    condition = _condition(name, accepted, is_negated=False)
    if condition.globs:
        raise InvalidInput(
            f"{where}: match.{name} is exact, {condition.globs[0]!r} belongs in a rule",
            field="match",
        )
    return condition


def _rule_of(shape: RuleShape, where: str) -> TagRule:
    conditions = tuple(
        _condition(name, wanted.unlike, is_negated=True)
        if isinstance(wanted, Unlike)
        else _condition(name, wanted, is_negated=False)
        for name, wanted in sorted(shape.when.items())
    )
    tags = _given(shape.set, f"{where} ({shape.name})")
    return TagRule(shape.name, conditions, tags, shape.valid_from, shape.valid_to)


def _condition(name: str, accepted: str | list[str], *, is_negated: bool) -> Condition:
    texts = [accepted] if isinstance(accepted, str) else accepted
    return Condition(
        fact_name(name),
        frozenset(text for text in texts if GLOB_MARK not in text),
        tuple(text for text in texts if GLOB_MARK in text),
        is_negated,
    )


def _given(tags: Mapping[str, str], where: str) -> dict[str, str]:
    named = {name.removeprefix("tag:"): value for name, value in tags.items()}
    facts = sorted(set(named) & set(FACTS_OF_THE_CALL))
    if facts:
        raise InvalidInput(f"{where}: {facts[0]!r} is a fact of the call and cannot be set")
    return {name: named[name] for name in sorted(named)}


def _describe_mapping(shape: MappingShape) -> dict[str, Any]:
    return {"match": shape.match, "tags": shape.tags, **_bounds(shape)}


def _describe_rule(shape: RuleShape) -> dict[str, Any]:
    when = {
        name: {"not": wanted.unlike} if isinstance(wanted, Unlike) else wanted
        for name, wanted in shape.when.items()
    }
    return {"name": shape.name, "when": when, "set": shape.set, **_bounds(shape)}


def _bounds(shape: MappingShape | RuleShape) -> dict[str, str | None]:
    instants = {name: getattr(shape, name) for name in BOUNDS}
    return {
        name: None if instant is None else format_instant(instant)
        for name, instant in instants.items()
    }


def _instant(value: object, field: str, where: str) -> datetime | None:
    if value is None:
        return None
    text = value.isoformat() if isinstance(value, date) else value
    if not isinstance(text, str):
        raise InvalidInput(f"{where}: {field} must be a date or an RFC 3339 time", field=field)
    # A bare date stands for its midnight in UTC.
    is_date = len(text) == LENGTH_OF_DATE
    try:
        return parse_instant(f"{text}T00:00:00Z" if is_date else text, field=field)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.detail}", **error.facts) from None


def _require_distinct_names(names: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        earlier = seen.setdefault(name, number)
        if earlier != number:
            raise InvalidInput(f"{where}: rule {number} has the name {name!r} of rule {earlier}")
