"""True-up: what providers say was used beside what was metered, and how far estimates were off.

It owns which usage is compared; it refuses the comparison itself (``domain/true_up.py``), money
(``reconciliation.py``) and every write. What meters tell is left out: providers tell it too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.true_up import (
    EstimatedCall,
    EstimateFactor,
    Spelling,
    TrueUpRow,
    compare_usage,
    factors_of,
)
from tokenbudget.domain.usage import ESTIMATED_PREFIX, INPUT_ONLY, VOID
from tokenbudget.formats.bills.meters import METER_SOURCES
from tokenbudget.services.reconciliation import book_names, canonical_names
from tokenbudget.store import true_up as store
from tokenbudget.store.db import Database
from tokenbudget.tokens import family_of

MAX_TELLINGS: Final = 200_000
"""Most further tellings that are looked at for estimates, the latest ones."""


@dataclass(frozen=True, slots=True)
class TrueUp:
    """The rows of a period in order, and the factors of the families that were estimated."""

    rows: tuple[TrueUpRow, ...]
    factors: tuple[EstimateFactor, ...]


def true_up(
    database: Database, *, period: Period, price_list: PriceList, provider: str | None = None
) -> TrueUp:
    """Give both sides of the UTC days that begin in the period; ``provider`` leaves others out.

    Factors are those of all calls of the period of which one witness estimated the input and a
    further one measured it.
    """
    spelling = Spelling(book_names(price_list), canonical_names(price_list, period))
    with database.reading() as session:
        rows = compare_usage(
            store.iterate_metered_usage(session, period),
            store.iterate_provider_usage(session, period, without=METER_SOURCES),
            spelling,
        )
        tellings = store.list_tellings(session, period, limit=MAX_TELLINGS)
    if provider is not None:
        wanted = spelling.provider(provider)
        rows = [row for row in rows if row.key.provider == wanted]
    calls = _estimated_calls(tellings)
    return TrueUp(tuple(rows), tuple(factors_of(calls, lambda model: family_of(model).name)))


def _estimated_calls(tellings: Sequence[store.Telling]) -> list[EstimatedCall]:
    """Give the calls with both; of several estimates and measurements the last best one speaks."""
    by_call: dict[int, list[store.Telling]] = defaultdict(list)
    for telling in tellings:
        by_call[telling.call_id].append(telling)
    calls = []
    for told in by_call.values():
        estimated = [each for each in told if _is_estimate(each)]
        measured = [each for each in told if _is_measurement(each)]
        if estimated and measured:
            best = max(measured, key=lambda each: (each.witness, each.usage_id))
            calls.append(
                EstimatedCall(best.model, estimated[-1].input_tokens or 0, best.input_tokens or 0)
            )
    return calls


def _is_estimate(telling: store.Telling) -> bool:
    said = (telling.flags or "").split(",")
    # What a hold said of the input of an unknown call is no estimate of a text.
    return INPUT_ONLY not in said and any(flag.startswith(ESTIMATED_PREFIX) for flag in said)


def _is_measurement(telling: store.Telling) -> bool:
    said = telling.flags or ""
    is_sure = ESTIMATED_PREFIX not in said and VOID not in said.split(",")
    return is_sure and telling.input_tokens is not None
