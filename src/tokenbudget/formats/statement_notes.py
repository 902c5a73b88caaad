"""What a reader of a statement must know besides its figures.

It owns the wording of notes: refusals, acceptances, conversions, usage without a price. It refuses
to look any of it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.statements import Method, StatementHeader, StatementLine
from tokenbudget.formats.display import counted_text
from tokenbudget.formats.panels import UnpricedLine
from tokenbudget.formats.statement_words import amount_text

RATE_DIGITS: Final = 8
MAX_NOTES: Final = 50


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence and what it is about."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class NoteFacts:
    """What notes are made of; without ``is_whole`` those about all of the ledger are left out."""

    header: StatementHeader
    lines: tuple[StatementLine, ...]
    acceptances: Mapping[str, str]
    conversions: tuple[Conversion, ...]
    unpriced: tuple[UnpricedLine, ...]
    is_whole: bool


Notes = tuple[Note, ...]


def compose_notes(facts: NoteFacts) -> Notes:
    """Give the notes in order; after ``MAX_NOTES`` one says how many more there are."""
    notes = [*_acceptances(facts)]
    if facts.is_whole:
        notes = [*_refusals(facts.header), *notes]
        notes += [*_conversions(facts.conversions), *_unpriced(facts.unpriced)]
    hidden = len(notes) - MAX_NOTES
    if hidden > 0:
        notes = [*notes[:MAX_NOTES], Note("More", f"{counted_text(hidden, 'note')} not shown")]
    return tuple(notes)


def _refusals(header: StatementHeader) -> Iterable[Note]:
    for refusal in header.notes:
        nanos = refusal.amount_nanos
        amount = "" if nanos is None else f" ({amount_text(nanos, header.currency)})"
        yield Note("Open", f"{refusal.detail}{amount}")


def _acceptances(facts: NoteFacts) -> Iterable[Note]:
    used: dict[str, int] = {}
    for line in facts.lines:
        if line.key.method is Method.ACCEPTED and line.key.rule is not None:
            gap = (line.metered_nanos or 0) - line.amount_nanos
            used[line.key.rule] = used.get(line.key.rule, 0) + gap
    for name in sorted(used):
        reason = facts.acceptances.get(name, "the reason is no longer kept")
        gap_text = amount_text(used[name], facts.header.currency)
        yield Note("Accepted", f"“{name}”: {gap_text} more metered than invoiced. Reason: {reason}")


def _conversions(conversions: Iterable[Conversion]) -> Iterable[Note]:
    for each in conversions:
        source = f" ({each.source})" if each.source else ""
        rate = rate_text(each.ratio)
        yield Note(
            "Converted",
            f"1 {each.currency} = {rate} {each.into}, quote of {each.day.isoformat()}{source}",
        )


def _unpriced(lines: Iterable[UnpricedLine]) -> Iterable[Note]:
    for each in lines:
        requests = counted_text(each.requests, "request")
        yield Note(
            "No price", f"{each.provider} {each.model}: {requests} of the month, rated at none"
        )


def rate_text(ratio: Fraction) -> str:
    """Give a rate of exchange with up to eight decimals, rounded half to even."""
    scaled = round(ratio * 10**RATE_DIGITS)
    text = f"{Decimal(scaled).scaleb(-RATE_DIGITS):f}"
    return text.rstrip("0").rstrip(".")
