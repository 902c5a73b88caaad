"""A month's statement: who bears what of which invoice, and why.

It owns the words of a statement, their order and the digest of its rows; it refuses to decide who
bears a cost and what corrects an earlier month (``corrections.py``). Amounts are integer nanos of
the ledger currency.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from tokenbudget.domain.allocation import UNALLOCATED
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.months import format_month

UNTRACKED_OWNER: Final = "Untracked"


class Origin(StrEnum):
    """Where a stated amount comes from.

    USAGE was metered, UNTRACKED was invoiced and not metered, TAX, CREDIT, PURCHASE (fees,
    subscriptions, commitments) and ADJUSTMENT are lines that no usage stands for, UNUSED is the
    part of a commitment nobody used, UNBILLED is metered usage that no invoice ever carries
    (models one hosts oneself).
    """

    USAGE = "usage"
    UNTRACKED = "untracked"
    TAX = "tax"
    CREDIT = "credit"
    PURCHASE = "purchase"
    ADJUSTMENT = "adjustment"
    UNUSED = "unused"
    UNBILLED = "unbilled"


class Method(StrEnum):
    """How an amount came to its bearer.

    DIRECT is what was metered, as metered. SPREAD is what was metered, scaled to the invoice within
    tolerance; ACCEPTED the same where somebody accepted that more was metered than invoiced. MAPPED
    followed the provider's key or project to an owner. RESIDUAL fell to the owner *Untracked*. The
    others say by what a pool was shared.
    """

    DIRECT = "direct"
    SPREAD = "spread"
    ACCEPTED = "accepted"
    MAPPED = "mapped"
    RESIDUAL = "residual"
    BY_DIRECT_COST = "by_direct_cost"
    BY_TOKENS = "by_tokens"
    BY_REQUESTS = "by_requests"
    BY_METRIC = "by_metric"
    EVENLY = "evenly"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who bears a cost. The team ``unallocated`` is a bearer like any other."""

    team: str
    feature: str | None = None
    tenant: str | None = None

    @property
    def order(self) -> tuple[str, str, str]:
        """Give the sort key."""
        return self.team, self.feature or "", self.tenant or ""


NOBODY: Final = Bearer(UNALLOCATED)


@dataclass(frozen=True, slots=True)
class AllocatedCost:
    """What a bearer bears of the invoice of a provider's account, for one reason.

    ``rule`` is the name of the pool or acceptance behind it. ``metered_nanos`` is what the ledger
    had rated, None where no usage stands behind the amount.
    """

    bearer: Bearer
    provider: str
    account: str
    model: str | None
    origin: Origin
    method: Method
    amount_nanos: int
    rule: str | None = None
    metered_nanos: int | None = None
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Invoice:
    """What an account of a provider was invoiced for a month, in whole cents of the ledger.

    ``is_billed`` is False for what no invoice ever carries (``Origin.UNBILLED``).
    """

    provider: str
    account: str
    amount_nanos: int
    is_billed: bool = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a month cannot be closed: a code, what it is about, and by how much."""

    code: str
    detail: str
    amount_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class MonthAllocation:
    """All that was invoiced for a month, divided: by account, the costs add up to the invoices.

    ``month`` is year * 100 + month. With ``refusals`` the costs are a draft and may not be closed.
    """

    month: int
    currency: str
    rules_version: int
    costs: tuple[AllocatedCost, ...]
    invoices: tuple[Invoice, ...]
    refusals: tuple[Refusal, ...] = ()


class StatementState(StrEnum):
    """Where a version of a statement stands.

    A DRAFT is worked out again until its grace is over. CLOSED is in force for good, or until a
    restatement takes its place and it is SUPERSEDED. A PROPOSED restatement waits for approval;
    WITHDRAWN is one that another took the place of before that.
    """

    DRAFT = "draft"
    CLOSED = "closed"
    PROPOSED = "proposed"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class LineKey(NamedTuple):
    """What tells the rows of a statement apart."""

    service_month: int
    team: str
    feature: str | None
    tenant: str | None
    cost_center: str | None
    provider: str
    account: str
    model: str | None
    origin: Origin
    method: Method
    rule: str | None


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One row of a statement: what a bearer bears of an invoice of ``service_month``, and why.

    ``corrects`` is the id of the statement of that month when the row corrects it. Amounts are
    whole cents; ``metered_nanos`` is what the ledger had rated, None where no usage stands behind
    the row.
    """

    key: LineKey
    amount_nanos: int
    metered_nanos: int | None = None
    requests: int = 0
    tokens: int = 0
    corrects: str | None = None

    @property
    def order(self) -> tuple[Any, ...]:
        """Give the sort key: own rows before corrections, later months first, then by name."""
        names = ["" if value is None else value for value in self.key[1:]]
        return self.corrects is not None, -self.key.service_month, names, self.corrects or ""


@dataclass(frozen=True, slots=True)
class StatedInvoice:
    """What a statement carries of the invoices of a month's account: all, or a change of them."""

    service_month: int
    invoice: Invoice


@dataclass(frozen=True, slots=True)
class StatementHeader:
    """One version of a month's statement, without its rows.

    ``known_at`` is the instant up to which everything known went into it. ``notes`` say what keeps
    a draft from being closed. ``digest`` is None while the rows may change.
    """

    statement_id: str
    month: int
    version: int
    state: StatementState
    currency: str
    known_at: datetime
    recorded_at: datetime
    recorded_by: str | None
    grace_ends_at: datetime | None
    closed_at: datetime | None
    approved_by: str | None
    reason: str | None
    rules_version: int
    total_nanos: int
    invoices: tuple[StatedInvoice, ...]
    notes: tuple[Refusal, ...]
    digest: str | None

    @property
    def name(self) -> str:
        """Give how messages name it, such as ``2026-09 version 2``."""
        return f"{format_month(self.month)} version {self.version}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with all its rows, in their order."""

    header: StatementHeader
    lines: tuple[StatementLine, ...]

    def totals_by(self, dimension: str) -> tuple[StatedTotal, ...]:
        """Give what the rows add up to by one of ``LINE_DIMENSIONS``, by name, absent first."""
        return total_lines(self.lines, dimension)


@dataclass(frozen=True, slots=True)
class StatedTotal:
    """What rows with one value of a dimension add up to; None is the absent value."""

    value: str | None
    amount_nanos: int
    metered_nanos: int
    requests: int
    tokens: int


LINE_DIMENSIONS: Final = (
    "service_month",
    "team",
    "feature",
    "tenant",
    "cost_center",
    "provider",
    "account",
    "model",
    "origin",
    "method",
    "rule",
)
DIGEST_FORMAT: Final = "tokenbudget-statement-1"


def total_lines(
    lines: Iterable[StatementLine],
    dimension: str,
    value_of: Callable[[LineKey], str | None] | None = None,
) -> tuple[StatedTotal, ...]:
    """Give what rows add up to by a dimension, by value with the absent first.

    ``value_of`` gives the value of a row where it is another than the one stated. Raises
    InvalidInput for a dimension that rows do not have.
    """
    read = value_of or value_reader(dimension)
    sums: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for line in lines:
        total = sums[read(line.key)]
        total[0] += line.amount_nanos
        total[1] += line.metered_nanos or 0
        total[2] += line.requests
        total[3] += line.tokens
    ordered = sorted(sums, key=lambda value: (value is not None, value or ""))
    return tuple(StatedTotal(value, *sums[value]) for value in ordered)


def value_reader(dimension: str) -> Callable[[LineKey], str | None]:
    """Give the function that reads a dimension of a row as text, None where it is absent.

    Raises InvalidInput for a dimension that rows do not have.
    """
    if dimension not in LINE_DIMENSIONS:
        raise InvalidInput(
            f"by {dimension!r} is not one of {', '.join(LINE_DIMENSIONS)}", field="by"
        )
    if dimension == "service_month":
        return lambda key: format_month(key.service_month)
    place = LINE_DIMENSIONS.index(dimension)

    def read(key: LineKey) -> str | None:
        value = key[place]
        return None if value is None else str(value)

    return read


def digest_lines(lines: Iterable[StatementLine], *, month: int, version: int, currency: str) -> str:
    """Give the SHA-256 of the rows in hexadecimal, whatever their order.

    It is taken of lines of UTF-8, each a JSON array without spaces and with a newline behind it:
    first ``["tokenbudget-statement-1",month,version,currency]`` (the month as ``2026-09``), then
    the array of each row, as ``canonical_row`` gives it, sorted by its bytes.
    """
    header = _json_line([DIGEST_FORMAT, format_month(month), version, currency])
    rows = sorted(_json_line(canonical_row(line)) for line in lines)
    digest = hashlib.sha256(header)
    for row in rows:
        digest.update(row)
    return digest.hexdigest()


def canonical_row(line: StatementLine) -> Sequence[str | int | None]:
    """Give the cells that are digested, in order.

    ``service_month`` (``2026-09``), team, feature, tenant, cost_center, provider, account, model,
    origin, method, rule, corrects, requests, tokens, metered and amount. Money is a decimal string
    with nine decimals, None is null.
    """
    metered = None if line.metered_nanos is None else format_nanos(line.metered_nanos)
    return (
        format_month(line.key.service_month),
        *line.key[1:],
        line.corrects,
        line.requests,
        line.tokens,
        metered,
        format_nanos(line.amount_nanos),
    )


def _json_line(cells: Sequence[str | int | None]) -> bytes:
    return json.dumps(list(cells), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
