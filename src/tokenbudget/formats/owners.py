"""The owners registry as files and the API spell it: one model, the same words in both.

TOML has ``[[owner]]`` tables, JSON ``{"owner": [...]}``. It owns the shape of one entry; it refuses
to decide what an entry means next to others.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import Lifecycle, Owner, OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import format_instant, parse_instant

MAX_ENTRIES: Final = 10_000
LENGTH_OF_DATE: Final = len("2026-11-01")

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Email = Annotated[str, msgspec.Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]


class OwnerShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of one entry; only kind and name are required."""

    kind: Literal["team", "feature", "tenant", "cost_center"]
    name: Text
    parent: Text | None = None
    cost_center: Text | None = None
    email: Email | None = None
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    valid_from: Any = None


def parse_owners_toml(text: str, *, file_name: str) -> list[OwnerEntry]:
    """Give the entries of a TOML file; raises InvalidInput naming file, entry and rule."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    return parse_owners(document, where=file_name)


def parse_owners(document: object, *, where: str = "owners") -> list[OwnerEntry]:
    """Give the entries of a decoded ``{"owner": [...]}``.

    Raises InvalidInput naming the entry and the rule.
    """
    entries = document.get("owner", []) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(entries, list) or set(document) - {"owner"}:
        raise InvalidInput(
            f"{where}: must hold a list named 'owner' and nothing else", field="owner"
        )
    if len(entries) > MAX_ENTRIES:
        raise InvalidInput(f"{where}: more than {MAX_ENTRIES} owners", field="owner")
    parsed = [
        _parse_entry(entry, where=f"{where}: owner {number}")
        for number, entry in enumerate(entries, start=1)
    ]
    _require_distinct(parsed, where=where)
    return parsed


def describe_owner(owner: Owner) -> dict[str, Any]:
    """Give the wire form of one stretch of an owner's history; what is not known is None."""
    return {
        "kind": owner.kind.value,
        "name": owner.name,
        "parent": owner.facts.parent,
        "cost_center": owner.facts.cost_center,
        "email": owner.facts.email,
        "lifecycle": owner.facts.lifecycle.value,
        "valid_from": format_instant(owner.valid_from),
        "valid_to": format_instant(owner.valid_to) if owner.valid_to else None,
    }


def _parse_entry(entry: object, *, where: str) -> OwnerEntry:
    try:
        shape = msgspec.convert(entry, OwnerShape)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {_plain(str(error))}", field="owner") from None
    try:
        return _entry_of(shape)
    except InvalidInput as error:
        raise InvalidInput(
            f"{where} ({shape.kind} {shape.name!r}): {error.detail}", **error.facts
        ) from None


def _entry_of(shape: OwnerShape) -> OwnerEntry:
    kind = OwnerKind(shape.kind)
    if kind is OwnerKind.COST_CENTER and (shape.parent or shape.cost_center):
        raise InvalidInput("a cost_center has neither parent nor cost_center", field="parent")
    facts = OwnerFacts(shape.parent, shape.cost_center, shape.email, Lifecycle(shape.lifecycle))
    return OwnerEntry(kind, shape.name, facts, _valid_from(shape.valid_from))


def _valid_from(value: object) -> datetime | None:
    if value is None:
        return None
    text = value.isoformat() if isinstance(value, date) else value
    if not isinstance(text, str):
        raise InvalidInput("valid_from must be a date or an RFC 3339 time", field="valid_from")
    # A bare date stands for its midnight in UTC.
    is_date = len(text) == LENGTH_OF_DATE
    return parse_instant(f"{text}T00:00:00Z" if is_date else text, field="valid_from")


def _require_distinct(entries: Sequence[OwnerEntry], *, where: str) -> None:
    seen: dict[object, int] = {}
    for number, entry in enumerate(entries, start=1):
        earlier = seen.setdefault((entry.key, entry.valid_from), number)
        if earlier != number:
            raise InvalidInput(
                f"{where}: owner {number} ({entry.kind} {entry.name!r}) says the same name and"
                f" valid_from as owner {earlier}",
                field="name",
            )


def _plain(message: str) -> str:
    return message.replace("`$.", "`").replace("`$", "`owner")
