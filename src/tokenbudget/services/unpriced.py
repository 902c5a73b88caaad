"""What was used and could not be priced: listed, never counted as free."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbudget.domain.periods import Period
from tokenbudget.domain.rollups import cover
from tokenbudget.store.db import Database
from tokenbudget.store.unpriced import sum_unpriced


@dataclass(frozen=True, slots=True)
class UnpricedUsage:
    """The usage of one model that has no price."""

    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int


def list_unpriced(database: Database, *, period: Period) -> list[UnpricedUsage]:
    """Give the models with unpriced usage in the period, most requests first.

    Bounds lie on quarter-hours.
    """
    with database.reading() as session:
        sums = sum_unpriced(session, cover([period]))
    listed = [UnpricedUsage(*names, *figures) for names, figures in sums.items()]
    return sorted(listed, key=lambda item: (-item.requests, item.provider, item.model))
