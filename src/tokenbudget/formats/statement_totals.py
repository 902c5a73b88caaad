"""What a statement adds up to by team, cost centre or tenant, and of what it is made.

It owns the columns of these tables; it refuses to decide who bears what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.allocation import UNALLOCATED
from tokenbudget.domain.statements import UNTRACKED_OWNER, Origin, StatementLine
from tokenbudget.formats.display import DASH
from tokenbudget.formats.statement_words import (
    BORNE_DIRECTLY,
    DIMENSION_WORDS,
    Figure,
    bearer_of,
    bearer_text,
    figure,
)

MAX_BEARERS: Final = 1_000
PARTS: Final = ("usage", "untracked", "shared", "corrections")


@dataclass(frozen=True, slots=True)
class Split:
    """An amount and its parts, which add up to it.

    ``usage`` was metered (own capacity too), ``untracked`` was not, ``shared`` is tax, fees,
    credits and other pools, ``corrections`` are of earlier months.
    """

    usage: Figure
    untracked: Figure
    shared: Figure
    corrections: Figure
    total: Figure


@dataclass(frozen=True, slots=True)
class TotalLine:
    """What a bearer bears; ``cost_center`` is empty where the table is not by team."""

    name: str
    cost_center: str
    split: Split


@dataclass(frozen=True, slots=True)
class TotalTable:
    """Totals by one dimension, by name; ``hidden`` bearers are in ``rest``, not in lines."""

    dimension: str
    heading: str
    lines: tuple[TotalLine, ...]
    hidden: int
    rest: Split
    total: Split


def part_of(line: StatementLine) -> str:
    """Give which of ``PARTS`` the amount of a row belongs to."""
    if line.corrects is not None:
        return "corrections"
    if line.key.method not in BORNE_DIRECTLY:
        return "shared"
    if line.key.origin in (Origin.USAGE, Origin.UNBILLED):
        return "usage"
    return "untracked" if line.key.origin is Origin.UNTRACKED else "shared"


def split_of(lines: Iterable[StatementLine], currency: str) -> Split:
    """Give what rows add up to, in parts."""
    sums = dict.fromkeys(PARTS, 0)
    for line in lines:
        sums[part_of(line)] += line.amount_nanos
    parts = {name: _part(nanos, currency) for name, nanos in sums.items()}
    return Split(**parts, total=figure(sum(sums.values()), currency))


def _part(nanos: int, currency: str) -> Figure:
    """Give a part; nothing is a dash, so that what is there stands out."""
    return figure(nanos, currency) if nanos else Figure(0, DASH)


def compose_totals(lines: Sequence[StatementLine], dimension: str, currency: str) -> TotalTable:
    """Give the table of totals by team, cost centre or tenant; those without one come last."""
    bearers = group_by_bearer(lines, dimension)
    names = list(bearers)
    shown, hidden = names[:MAX_BEARERS], names[MAX_BEARERS:]
    return TotalTable(
        dimension=dimension,
        heading=DIMENSION_WORDS[dimension].capitalize(),
        lines=tuple(
            TotalLine(
                bearer_text(name, dimension),
                cost_centers_of(bearers[name]) if dimension == "team" else "",
                split_of(bearers[name], currency),
            )
            for name in shown
        ),
        hidden=len(hidden),
        rest=split_of((line for name in hidden for line in bearers[name]), currency),
        total=split_of(lines, currency),
    )


def group_by_bearer(
    lines: Iterable[StatementLine], dimension: str
) -> dict[str | None, list[StatementLine]]:
    """Give the rows of each bearer, by name; whom nobody is behind and the absent come last."""
    groups: dict[str | None, list[StatementLine]] = defaultdict(list)
    for line in lines:
        groups[bearer_of(line, dimension)].append(line)
    return {name: groups[name] for name in sorted(groups, key=_bearer_order)}


def _bearer_order(name: str | None) -> tuple[bool, bool, str, str]:
    text = name or ""
    return name is None, text in (UNTRACKED_OWNER, UNALLOCATED), text.casefold(), text


def cost_centers_of(lines: Iterable[StatementLine]) -> str:
    """Give the cost centres of rows by name: one, unless a correction goes to an earlier one."""
    return ", ".join(sorted({line.key.cost_center or "" for line in lines} - {""}))
