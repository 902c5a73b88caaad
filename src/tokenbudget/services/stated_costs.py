"""What was invoiced, by whatever the rows of closed statements tell.

It refuses rollups, drafts and proposals, and to order or page rows (``costs.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

from tokenbudget.domain.costs import AS_INVOICED, CostQuery, CostRow, Group
from tokenbudget.domain.months import month_at, month_period, shift_month
from tokenbudget.domain.owners import OwnerTree
from tokenbudget.services.stating import tree_of_month
from tokenbudget.store.db import Database
from tokenbudget.store.owners import list_owner_history
from tokenbudget.store.statements import sum_stated_lines

READ_DIMENSIONS: Final = ("team", "feature", "tenant", "cost_center", "provider", "model")
UNREAD_OF_OWNER: Final = ("team", "feature")

Reader = Callable[[sa.Row[Any]], str | None]


def read_stated_costs(database: Database, query: CostQuery) -> list[CostRow]:
    """Give one row a group, and a month where the question asks for months, in no order.

    The owner is that of the end of the month it was used in.
    """
    with database.reading() as session:
        history = list_owner_history(session) if "owner" in query.dimensions else []
        sums = list(
            sum_stated_lines(
                session,
                first=month_at(query.period.start),
                last=shift_month(month_at(query.period.end), -1),
                by_statement=query.view == AS_INVOICED,
                dimensions=_dimensions_read(query),
            )
        )
    tree_of = lru_cache(maxsize=None)(lambda month: tree_of_month(month, history))
    readers = {name: _reader(name, tree_of) for name in query.dimensions}
    folded: dict[tuple[datetime | None, Group], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in sums:
        if _is_admitted(row, query, readers):
            start = month_period(row.month).start if query.granularity == "month" else None
            group = tuple(readers[name](row) for name in query.group_by)
            measures = folded[start, group]
            for place, name in enumerate(("amount_nanos", "metered_nanos", "requests", "tokens")):
                measures[place] += getattr(row, name)
    return [
        CostRow(
            group,
            start,
            billed_nanos=billed,
            effective_nanos=metered,
            requests=requests,
            undivided_tokens=tokens,
        )
        for (start, group), (billed, metered, requests, tokens) in folded.items()
    ]


def _dimensions_read(query: CostQuery) -> list[str]:
    wanted = set(query.dimensions)
    if "owner" in wanted:
        wanted.update(UNREAD_OF_OWNER)
    return [name for name in READ_DIMENSIONS if name in wanted]


def _reader(name: str, tree_of: Callable[[int], OwnerTree]) -> Reader:
    if name == "owner":
        return lambda row: tree_of(row.service_month).owner_of(row.team, row.feature)
    return lambda row: getattr(row, name)


def _is_admitted(row: sa.Row[Any], query: CostQuery, readers: Mapping[str, Reader]) -> bool:
    return all(each.admits(readers[each.dimension](row)) for each in query.filters)
