"""Price books before and after a mistake was found, and what a re-rating is asked and told.

Of ``acme/plain`` a million input tokens cost one dollar and a million output tokens two, as in
``tests/builders.py``; in the fixed book input costs half a dollar more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.builders import DOUBLED_RATES, PLAIN_RATES, broken_rules, rows_of
from tests.conftest import FrozenClock
from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import Price
from tokenbudget.domain.rerating import Rerate, RerateScope
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.rerating import approve_rerate, propose_rerate
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, RollupRow

FIXED_RATES = {"input_tokens": 1_500_000, "output_tokens": 2_000_000}
FIXED_ON = day("2026-11-19")
WRONG = make_price(PLAIN_RATES, model="plain")
FIX = make_price(FIXED_RATES, model="plain", recorded_at=FIXED_ON)
CHANGE = make_price(DOUBLED_RATES, model="plain", valid_from=day("2026-11-10"))


def book_of(*rows: Price, version: str) -> PriceList:
    """Give a book in which ``plain`` has these rows, and ``dear`` is always twice as dear."""
    dear = make_model(make_price(DOUBLED_RATES, model="dear"), model="dear")
    return make_price_list(make_model(*rows, model="plain"), dear, version=version)


BOOK = book_of(WRONG, version="wrong")
FIXED_BOOK = book_of(WRONG, FIX, version="fixed")
CHANGED_BOOK = book_of(WRONG, CHANGE, version="changed")


def ledger_by(services: Services, price_list: PriceList) -> Ledger:
    """Give a ledger that rates by this book."""
    return make_ledger(replace(services, price_list=price_list))


def rerate(
    database: Database,
    price_list: PriceList,
    clock: FrozenClock,
    scope: RerateScope = RerateScope(),  # noqa: B008
) -> Rerate:
    """Propose and approve, and give what was applied."""
    proposed = propose_rerate(database, price_list, scope, now=clock())
    return approve_rerate(database, price_list, proposed.rerate_id, now=clock())


def spent_nanos(database: Database) -> int:
    """Give the effective cost of everything, having found every invariant to hold."""
    assert broken_rules(database) == []
    return sum(row["effective_nanos"] or 0 for row in rows_of(database, ChargeRow))


def rolled_up(database: Database, name: str) -> Mapping[int, int]:
    """Give the sum of a measure by price row id over the daily rollups, where it is not zero."""
    sums: dict[int, int] = {}
    for row in rows_of(database, RollupRow):
        if row["grain_seconds"] > 900:
            sums[row["price_row_id"]] = sums.get(row["price_row_id"], 0) + row[name]
    return {price_row_id: total for price_row_id, total in sums.items() if total}
