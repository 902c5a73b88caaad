"""What a statement's document shows, worked out of its rows: one context for every format.

It owns what is grouped, in which order, and what is cut; it refuses layout (``reports/``). Amounts
keep their nanos, so that what is shown and what a spreadsheet adds up are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.months import format_month
from tokenbudget.domain.statements import Statement, StatementHeader, StatementLine, StatementState
from tokenbudget.formats.panels import UnpricedLine
from tokenbudget.formats.statement_chapters import Chapter, compose_chapters
from tokenbudget.formats.statement_notes import NoteFacts, Notes, compose_notes
from tokenbudget.formats.statement_totals import (
    Split,
    TotalTable,
    compose_totals,
    split_of,
)
from tokenbudget.formats.statement_words import (
    COMMAND_LINE,
    DIMENSION_WORDS,
    ORIGIN_WORDS,
    STATE_MEANINGS,
    STATE_WORDS,
    Figure,
    Scope,
    bearer_of,
    figure,
    instant_words,
    month_words,
)

MAX_DIFFERENCES: Final = 200

Place = tuple[int, str, str]
"""A month, a provider and an account of it."""


@dataclass(frozen=True, slots=True)
class CarriedLine:
    """A row in one view of the month only, and the name of the statement that carries it.

    ``sign`` is 1 for what was used in the month and is stated later, -1 for what is stated in the
    month and was used earlier.
    """

    carrier: str
    line: StatementLine
    sign: int


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """What a document is made of.

    ``acceptances`` are the reasons of acceptances by name. ``scope`` None is all of the statement,
    ``by`` is what its chapters are cut by. ``supersedes`` is the version it took the place of.
    """

    statement: Statement
    differences: tuple[CarriedLine, ...] = ()
    supersedes: int | None = None
    acceptances: Mapping[str, str] | None = None
    conversions: tuple[Conversion, ...] = ()
    unpriced: tuple[UnpricedLine, ...] = ()
    scope: Scope | None = None
    by: str = "team"


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the heading: what it is, and its value."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """An account's invoice of a month beside what the rows allocate of it."""

    month: str
    provider: str
    account: str
    invoiced: Figure
    allocated: Figure
    gap: Figure
    is_billed: bool


@dataclass(frozen=True, slots=True)
class InvoiceTable:
    """All invoices; ``is_tied`` says that each is allocated to the cent."""

    lines: tuple[InvoiceLine, ...]
    invoiced: Figure
    allocated: Figure
    gap: Figure
    is_tied: bool


@dataclass(frozen=True, slots=True)
class DifferenceLine:
    """A row between the two views; ``amount`` is by how much it makes as incurred more."""

    carrier: str
    month: str
    bearer: str
    origin: str
    provider: str
    model: str
    amount: Figure


@dataclass(frozen=True, slots=True)
class TwoViews:
    """The month as invoiced and as incurred; ``hidden`` rows are in ``rest``, not in lines."""

    as_invoiced: Figure
    as_incurred: Figure
    between: Figure
    lines: tuple[DifferenceLine, ...]
    hidden: int
    rest: Figure


@dataclass(frozen=True, slots=True)
class StatementReport:
    """All a document shows. ``notice`` is empty for a statement in force; ``mark`` likewise.

    ``unchaptered`` bearers have no chapter, since there are too many.
    """

    month: str
    name: str
    version: int
    currency: str
    about: str
    scope: str
    state: str
    mark: str
    notice: str
    by: str
    total: Figure
    split: Split
    facts: tuple[Fact, ...]
    invoices: InvoiceTable
    totals: tuple[TotalTable, ...]
    views: TwoViews
    chapters: tuple[Chapter, ...]
    unchaptered: int
    notes: Notes


def compose_statement(facts: StatementFacts) -> StatementReport:
    """Give what the document shows of the statement, or of the bearer it is about."""
    header = facts.statement.header
    lines = lines_in_scope(facts)
    scope = facts.scope
    reasons = facts.acceptances or {}
    chapters = compose_chapters(lines, facts.by, header.currency, reasons)
    bearers = {bearer_of(line, facts.by) for line in lines}
    dimensions = [name for name in DIMENSION_WORDS if scope is None or name != scope.dimension]
    return StatementReport(
        month=month_words(header.month),
        name=format_month(header.month),
        version=header.version,
        currency=header.currency,
        about=_about(header, facts.supersedes),
        scope="" if scope is None else scope.text,
        state=STATE_WORDS[header.state],
        mark="" if header.state is StatementState.CLOSED else STATE_WORDS[header.state].upper(),
        notice=STATE_MEANINGS[header.state],
        by=DIMENSION_WORDS[facts.by],
        total=figure(sum(line.amount_nanos for line in lines), header.currency),
        split=split_of(lines, header.currency),
        facts=_heading(header, facts.supersedes),
        invoices=_invoices(header, lines, is_whole=scope is None),
        totals=tuple(compose_totals(lines, name, header.currency) for name in dimensions),
        views=_views(facts, lines),
        chapters=chapters,
        unchaptered=len(bearers) - len(chapters),
        notes=compose_notes(
            NoteFacts(header, lines, reasons, facts.conversions, facts.unpriced, scope is None)
        ),
    )


def lines_in_scope(facts: StatementFacts) -> tuple[StatementLine, ...]:
    """Give the rows that the document is about, in order."""
    lines, scope = facts.statement.lines, facts.scope
    return lines if scope is None else tuple(line for line in lines if scope.has(line))


def differences_in_scope(facts: StatementFacts) -> tuple[CarriedLine, ...]:
    """Give the rows between the two views that the document is about, in order."""
    scope = facts.scope
    return tuple(each for each in facts.differences if scope is None or scope.has(each.line))


def _about(header: StatementHeader, supersedes: int | None) -> str:
    if supersedes is None:
        return f"Version {header.version}"
    is_done = header.state in (StatementState.CLOSED, StatementState.SUPERSEDED)
    verb = "supersedes" if is_done else "is to supersede"
    return f"Version {header.version}, {verb} version {supersedes}"


def _heading(header: StatementHeader, supersedes: int | None) -> tuple[Fact, ...]:
    known = [
        ("Statement", header.statement_id),
        ("State", STATE_WORDS[header.state]),
        ("Version", _about(header, supersedes).removeprefix("Version ")),
        ("Currency", header.currency),
        ("Known up to", instant_words(header.known_at)),
        ("Stated by", header.recorded_by or COMMAND_LINE),
    ]
    if header.closed_at is None and header.grace_ends_at is not None:
        known.append(("Closes after", instant_words(header.grace_ends_at)))
    if header.closed_at is not None:
        known.append(("Closed", instant_words(header.closed_at)))
    if header.approved_by is not None:
        known.append(("Approved by", header.approved_by))
    if header.reason is not None:
        known.append(("Reason", header.reason))
    known.append(("Allocation rules", f"version {header.rules_version}"))
    known.append(("Digest (SHA-256)", header.digest or "none before it is closed"))
    return tuple(Fact(*each) for each in known)


def _invoices(
    header: StatementHeader, lines: tuple[StatementLine, ...], *, is_whole: bool
) -> InvoiceTable:
    """Give the tie of invoices and rows; of one bearer only its own part, without the invoices."""
    allocated: dict[Place, int] = {}
    for line in lines:
        place = (line.key.service_month, line.key.provider, line.key.account)
        allocated[place] = allocated.get(place, 0) + line.amount_nanos
    invoiced: dict[Place, int] = {} if is_whole else allocated
    for stated in header.invoices if is_whole else ():
        place = (stated.service_month, stated.invoice.provider, stated.invoice.account)
        invoiced[place] = invoiced.get(place, 0) + stated.invoice.amount_nanos
    own = {
        (stated.service_month, stated.invoice.provider, stated.invoice.account)
        for stated in header.invoices
        if not stated.invoice.is_billed
    }
    places = sorted(allocated.keys() | invoiced.keys(), key=lambda each: (-each[0], each[1:]))
    table = tuple(
        _invoice_line(
            place, (invoiced.get(place, 0), allocated.get(place, 0)), place not in own, header
        )
        for place in places
    )
    sums = sum(invoiced.values()), sum(allocated.values())
    return InvoiceTable(
        lines=table,
        invoiced=figure(sums[0], header.currency),
        allocated=figure(sums[1], header.currency),
        gap=figure(sums[0] - sums[1], header.currency),
        is_tied=all(line.gap.nanos == 0 for line in table),
    )


def _invoice_line(
    place: Place,
    sides: tuple[int, int],
    is_billed: bool,
    header: StatementHeader,
) -> InvoiceLine:
    month, provider, account = place
    invoiced, allocated = sides
    return InvoiceLine(
        month=f"{month_words(month)}{'' if month == header.month else ' (change)'}",
        provider=provider,
        account=account,
        invoiced=figure(invoiced, header.currency),
        allocated=figure(allocated, header.currency),
        gap=figure(invoiced - allocated, header.currency),
        is_billed=is_billed,
    )


def _views(facts: StatementFacts, lines: tuple[StatementLine, ...]) -> TwoViews:
    currency = facts.statement.header.currency
    between = differences_in_scope(facts)
    shown = between[:MAX_DIFFERENCES]
    as_invoiced = sum(line.amount_nanos for line in lines)
    change = sum(each.sign * each.line.amount_nanos for each in between)
    rest = sum(each.sign * each.line.amount_nanos for each in between[MAX_DIFFERENCES:])
    return TwoViews(
        as_invoiced=figure(as_invoiced, currency),
        as_incurred=figure(as_invoiced + change, currency),
        between=figure(change, currency),
        lines=tuple(_difference_line(each, currency) for each in shown),
        hidden=len(between) - len(shown),
        rest=figure(rest, currency),
    )


def _difference_line(each: CarriedLine, currency: str) -> DifferenceLine:
    key = each.line.key
    return DifferenceLine(
        carrier=each.carrier,
        month=month_words(key.service_month),
        bearer=key.team,
        origin=ORIGIN_WORDS[key.origin],
        provider=key.provider,
        model=key.model or "",
        amount=figure(each.sign * each.line.amount_nanos, currency),
    )
