"""Which account of the general ledger an amount goes to, as ``gl.toml`` says.

It owns the shape of the file and the accounts that are used without one; it refuses to post.

    suspense = "9999"                       # where what no entry tells goes
    [[expense]]                             # the first entry that holds decides
    account = "6510"
    origin = ["usage", "untracked"]         # optional, as in statements
    provider = "openai*"                    # optional, * stands for any text
    [[liability]]                           # the other side of providers' invoices
    account = "2110"
    provider = "openai"
    [[internal]]                            # the other side of what no invoice carries
    account = "6590"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.statements import Origin
from tokenbudget.domain.tag_rules import GLOB_MARK, Condition
from tokenbudget.formats.wire import plain_fault

MAX_ENTRIES: Final = 1_000
KINDS: Final = ("expense", "liability", "internal")
USUAL_SUSPENSE: Final = "suspense"

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Words = Word | Annotated[list[Word], msgspec.Meta(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class AccountRule:
    """An account and what it is for; without conditions it is for everything of its kind."""

    kind: str
    account: str
    origin: Condition | None = None
    provider: Condition | None = None

    def holds(self, kind: str, origin: Origin | None, provider: str) -> bool:
        """Tell whether the account is for an amount of this kind; liabilities have no origin."""
        is_of_origin = self.origin is None or origin is None or self.origin.holds(origin.value)
        is_of_provider = self.provider is None or self.provider.holds(provider)
        return self.kind == kind and is_of_origin and is_of_provider


@dataclass(frozen=True, slots=True)
class GlAccounts:
    """All accounts, in order, and the one for what none of them is for."""

    rules: tuple[AccountRule, ...]
    suspense: str = USUAL_SUSPENSE

    def find(self, kind: str, origin: Origin | None, provider: str) -> str | None:
        """Give the account of the first rule that holds, None when none does."""
        rules = (rule for rule in self.rules if rule.holds(kind, origin, provider))
        return next((rule.account for rule in rules), None)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    account: Word
    origin: Words | None = None
    provider: Words | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    suspense: Word = USUAL_SUSPENSE
    expense: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    liability: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    internal: Annotated[list[Any], msgspec.Meta(max_length=MAX_ENTRIES)] = []


def _usual(kind: str, account: str, origin: Origin | None = None) -> AccountRule:
    condition = None if origin is None else Condition("origin", frozenset({origin.value}))
    return AccountRule(kind, account, condition)


USUAL_ACCOUNTS: Final = GlAccounts(
    (
        _usual("expense", "llm-usage", Origin.USAGE),
        _usual("expense", "llm-untracked", Origin.UNTRACKED),
        _usual("expense", "llm-tax", Origin.TAX),
        _usual("expense", "llm-credits", Origin.CREDIT),
        _usual("expense", "llm-fees", Origin.PURCHASE),
        _usual("expense", "llm-adjustments", Origin.ADJUSTMENT),
        _usual("expense", "llm-unused-commitments", Origin.UNUSED),
        _usual("expense", "llm-own-capacity", Origin.UNBILLED),
        _usual("liability", "accrued-liabilities"),
        _usual("internal", "own-capacity-recovered"),
    )
)
"""What is used without a file: names that say what is behind them."""


def parse_gl_toml(text: str, *, file_name: str) -> GlAccounts:
    """Give the accounts of a TOML file; raises InvalidInput naming file, entry and what is wrong.

    What is of no use is refused too: an origin for the other side, which has none.
    """
    try:
        document: Mapping[str, Any] = tomllib.loads(text)
        shape = msgspec.convert(document, _Document)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{file_name}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{file_name}: {plain_fault(error, 'document')}") from None
    rules = [
        _rule(kind, entry, f"{file_name}: {kind} {number}")
        for kind in KINDS
        for number, entry in enumerate(getattr(shape, kind), start=1)
    ]
    return GlAccounts(tuple(rules), shape.suspense)


def _rule(kind: str, entry: object, where: str) -> AccountRule:
    try:
        shape = msgspec.convert(entry, _Entry)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{where}: {plain_fault(error, 'entry')}") from None
    origins = _texts(shape.origin)
    if origins and kind != "expense":
        raise InvalidInput(f"{where}: only an expense has an origin", field="origin")
    for origin in origins:
        if origin not in [each.value for each in Origin]:
            known = ", ".join(each.value for each in Origin)
            raise InvalidInput(f"{where}: origin {origin!r} is not one of {known}", field="origin")
    return AccountRule(
        kind, shape.account, _condition("origin", origins), _condition("provider", shape.provider)
    )


def _texts(words: str | list[str] | None) -> list[str]:
    if words is None:
        return []
    return [words] if isinstance(words, str) else words


def _condition(name: str, words: str | Sequence[str] | None) -> Condition | None:
    texts = [words] if isinstance(words, str) else list(words or ())
    if not texts:
        return None
    return Condition(
        name,
        frozenset(text for text in texts if GLOB_MARK not in text),
        tuple(text for text in texts if GLOB_MARK in text),
    )
