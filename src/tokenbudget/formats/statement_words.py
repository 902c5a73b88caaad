"""A statement's words as finance reads them: amounts, months, origins, methods, states.

It owns the wording; it refuses to add anything up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tokenbudget.domain.cents import MINOR_DIGITS, USUAL_DIGITS, cent_nanos
from tokenbudget.domain.money import divide_half_even
from tokenbudget.domain.statements import Method, Origin, StatementLine, StatementState
from tokenbudget.formats.display import MINUS, MONTHS, moment_text

NO_VALUE: Final = "(none)"
NO_COST_CENTER: Final = "(no cost centre)"
COMMAND_LINE: Final = "the command line"
DIMENSION_WORDS: Final = {"team": "team", "cost_center": "cost centre", "tenant": "tenant"}
STATE_WORDS: Final = {
    StatementState.DRAFT: "Draft",
    StatementState.CLOSED: "Closed",
    StatementState.PROPOSED: "Proposed",
    StatementState.SUPERSEDED: "Superseded",
    StatementState.WITHDRAWN: "Withdrawn",
}
STATE_MEANINGS: Final = {
    StatementState.DRAFT: "These figures may still change; they are not for posting.",
    StatementState.CLOSED: "",
    StatementState.PROPOSED: "A restatement that waits for approval; it is not in force.",
    StatementState.SUPERSEDED: "A later version has taken its place; it is no longer in force.",
    StatementState.WITHDRAWN: "Another proposal took its place; it never was in force.",
}
ORIGIN_WORDS: Final = {
    Origin.USAGE: "Usage",
    Origin.UNTRACKED: "Untracked",
    Origin.TAX: "Tax",
    Origin.CREDIT: "Credits",
    Origin.PURCHASE: "Fees and purchases",
    Origin.ADJUSTMENT: "Adjustments",
    Origin.UNUSED: "Unused commitment",
    Origin.UNBILLED: "Own capacity",
}
METHOD_WORDS: Final = {
    Method.DIRECT: "as metered",
    Method.SPREAD: "metered, scaled to the invoice within tolerance",
    Method.ACCEPTED: "metered, scaled to the invoice by an acceptance",
    Method.MAPPED: "invoiced, not metered; owner known by the provider’s key or project",
    Method.RESIDUAL: "invoiced, not metered; owner not known",
    Method.BY_DIRECT_COST: "shared by direct cost",
    Method.BY_TOKENS: "shared by tokens",
    Method.BY_REQUESTS: "shared by requests",
    Method.BY_METRIC: "shared by an imported metric",
    Method.EVENLY: "shared evenly",
    Method.FIXED: "shared by fixed percentages",
}
BORNE_DIRECTLY: Final = frozenset(
    {Method.DIRECT, Method.SPREAD, Method.ACCEPTED, Method.MAPPED, Method.RESIDUAL}
)
"""Methods by which nothing is shared among several bearers."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An amount and how it is shown."""

    nanos: int
    text: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The one bearer a document is about; the value None is those that have none."""

    dimension: str
    value: str | None

    @property
    def text(self) -> str:
        """Give ``Team growth``."""
        return f"{DIMENSION_WORDS[self.dimension].capitalize()} {value_of(self)}"

    def has(self, line: StatementLine) -> bool:
        """Tell whether a row is one of the bearer's."""
        return bearer_of(line, self.dimension) == self.value


def value_of(scope: Scope) -> str:
    """Give the name of a bearer, also where there is none."""
    return bearer_text(scope.value, scope.dimension)


def bearer_of(line: StatementLine, dimension: str) -> str | None:
    """Give the team, cost centre or tenant of a row."""
    names = {"team": line.key.team, "cost_center": line.key.cost_center, "tenant": line.key.tenant}
    return names[dimension]


def bearer_text(value: str | None, dimension: str) -> str:
    """Give the name, or words for there being none."""
    if value is None:
        return NO_COST_CENTER if dimension == "cost_center" else NO_VALUE
    return value


def figure(nanos: int, currency: str) -> Figure:
    """Give an amount with its text."""
    return Figure(nanos, amount_text(nanos, currency))


def amount_text(nanos: int, currency: str) -> str:
    """Give ``1,234.56`` with the decimals that the currency has, rounded half to even."""
    digits = MINOR_DIGITS.get(currency, USUAL_DIGITS)
    cents = divide_half_even(nanos, cent_nanos(currency))
    units, rest = divmod(abs(cents), 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f"{MINUS if cents < 0 else ''}{units:,}{fraction}"


def decimal_text(nanos: int, currency: str) -> str:
    """Give ``-1234.56``, for machines: a point, no thousands, the decimals of the currency."""
    return amount_text(nanos, currency).replace(",", "").replace(MINUS, "-")


def month_words(month: int) -> str:
    """Give ``October 2026``."""
    return f"{MONTHS[month % 100 - 1]} {month // 100}"


def instant_words(instant: datetime) -> str:
    """Give ``20 Nov 2026, 12:00 UTC``."""
    return f"{moment_text(instant.astimezone(UTC), 'UTC')} UTC"


def reason_words(line: StatementLine, acceptances: Mapping[str, str]) -> str:
    """Give how the amount of a row came about; ``acceptances`` has their reasons by name."""
    method, rule = line.key.method, line.key.rule
    words = METHOD_WORDS[method]
    if method is Method.ACCEPTED and rule is not None:
        reason = acceptances.get(rule)
        return f"{words} “{rule}”{f': {reason}' if reason else ''}"
    if rule is not None:
        return f"{words}, rule “{rule}”"
    return words
