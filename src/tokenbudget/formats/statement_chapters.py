"""One chapter a bearer: features and models, how each amount came about, earlier months.

It owns what rows are put together and how many are shown; it refuses totals over all bearers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from tokenbudget.domain.statements import StatementLine
from tokenbudget.formats.display import DASH, count_text
from tokenbudget.formats.statement_totals import (
    Split,
    cost_centers_of,
    group_by_bearer,
    part_of,
    split_of,
)
from tokenbudget.formats.statement_words import (
    ORIGIN_WORDS,
    Figure,
    bearer_text,
    figure,
    month_words,
    reason_words,
)

KeyT = TypeVar("KeyT", bound=Hashable)

MAX_CHAPTERS: Final = 1_000
MAX_ROWS: Final = 40
"""How many rows a table of a chapter shows; the others are one line, and all are in the sheets."""


@dataclass(frozen=True, slots=True)
class UseLine:
    """What a feature used of a model; ``metered`` is what the ledger had rated."""

    feature: str
    tenant: str
    model: str
    provider: str
    requests: str
    tokens: str
    metered: Figure
    amount: Figure


@dataclass(frozen=True, slots=True)
class ReasonLine:
    """An amount by where it comes from, and how it came to the bearer."""

    origin: str
    reason: str
    source: str
    amount: Figure


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """What is corrected of an earlier month; ``statement`` is the one it corrects."""

    month: str
    subject: str
    reason: str
    statement: str
    amount: Figure


@dataclass(frozen=True, slots=True)
class Part:
    """The lines of a table, the largest first; ``hidden`` ones add up to ``rest``."""

    lines: tuple[Any, ...]
    hidden: int
    rest: Figure
    total: Figure


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one bearer bears, and why. ``anchor`` tells chapters of a document apart."""

    anchor: str
    title: str
    about: str
    split: Split
    uses: Part
    reasons: Part
    corrections: Part


def compose_chapters(
    lines: Sequence[StatementLine], dimension: str, currency: str, acceptances: Mapping[str, str]
) -> tuple[Chapter, ...]:
    """Give a chapter for each team, cost centre or tenant, by name, at most ``MAX_CHAPTERS``."""
    groups = islice(group_by_bearer(lines, dimension).items(), MAX_CHAPTERS)
    return tuple(
        Chapter(
            anchor=f"{dimension}-{number}",
            title=bearer_text(name, dimension),
            about=_about(rows, dimension),
            split=split_of(rows, currency),
            uses=_uses(rows, currency),
            reasons=_reasons(rows, currency, acceptances),
            corrections=_corrections(rows, currency, acceptances),
        )
        for number, (name, rows) in enumerate(groups, start=1)
    )


def _about(lines: Iterable[StatementLine], dimension: str) -> str:
    if dimension == "team":
        centers = cost_centers_of(lines)
        return f"Cost centre {centers}" if centers else "No cost centre"
    teams = sorted({line.key.team for line in lines})
    shown = ", ".join(teams[:5])
    return f"Teams: {shown}{f' and {len(teams) - 5} more' if len(teams) > 5 else ''}"


def _uses(lines: Iterable[StatementLine], currency: str) -> Part:
    used = [line for line in lines if part_of(line) == "usage"]

    def show(key: tuple[str, str, str, str], rows: Sequence[StatementLine]) -> UseLine:
        feature, tenant, model, provider = key
        return UseLine(
            feature=feature or DASH,
            tenant=tenant or DASH,
            model=model or DASH,
            provider=provider,
            requests=count_text(sum(row.requests for row in rows)),
            tokens=count_text(sum(row.tokens for row in rows)),
            metered=figure(sum(row.metered_nanos or 0 for row in rows), currency),
            amount=_sum(rows, currency),
        )

    def key_of(line: StatementLine) -> tuple[str, str, str, str]:
        key = line.key
        return key.feature or "", key.tenant or "", key.model or "", key.provider

    return _part(_largest_first(used, key_of), show, currency)


def _reasons(lines: Iterable[StatementLine], currency: str, acceptances: Mapping[str, str]) -> Part:
    own = [line for line in lines if line.corrects is None]

    def key_of(line: StatementLine) -> tuple[str, str, str]:
        account = f"{line.key.provider} {line.key.account}".strip()
        return ORIGIN_WORDS[line.key.origin], reason_words(line, acceptances), account

    def show(key: tuple[str, str, str], rows: Sequence[StatementLine]) -> ReasonLine:
        return ReasonLine(*key, amount=_sum(rows, currency))

    return _part(_largest_first(own, key_of), show, currency)


def _corrections(
    lines: Iterable[StatementLine], currency: str, acceptances: Mapping[str, str]
) -> Part:
    corrected = [line for line in lines if line.corrects is not None]

    def key_of(line: StatementLine) -> tuple[str, str, str, str]:
        key = line.key
        names = [ORIGIN_WORDS[key.origin], key.feature or "", key.provider, key.model or ""]
        subject = ", ".join(name for name in names if name)
        reason = reason_words(line, acceptances)
        return month_words(key.service_month), subject, reason, line.corrects or ""

    def show(key: tuple[str, str, str, str], rows: Sequence[StatementLine]) -> CorrectionLine:
        return CorrectionLine(*key, amount=_sum(rows, currency))

    return _part(_largest_first(corrected, key_of), show, currency)


def _largest_first(
    lines: Iterable[StatementLine], key_of: Callable[[StatementLine], KeyT]
) -> list[tuple[KeyT, list[StatementLine]]]:
    groups: dict[KeyT, list[StatementLine]] = defaultdict(list)
    for line in lines:
        groups[key_of(line)].append(line)
    return sorted(groups.items(), key=lambda item: (-abs(_nanos(item[1])), item[0]))


def _part(
    groups: Sequence[tuple[KeyT, list[StatementLine]]],
    show: Callable[[KeyT, Sequence[StatementLine]], Any],
    currency: str,
) -> Part:
    hidden = groups[MAX_ROWS:]
    return Part(
        lines=tuple(show(key, rows) for key, rows in groups[:MAX_ROWS]),
        hidden=len(hidden),
        rest=_sum([row for _, rows in hidden for row in rows], currency),
        total=_sum([row for _, rows in groups for row in rows], currency),
    )


def _sum(lines: Iterable[StatementLine], currency: str) -> Figure:
    return figure(_nanos(lines), currency)


def _nanos(lines: Iterable[StatementLine]) -> int:
    return sum(line.amount_nanos for line in lines)
