"""Reconciling a period of the ledger with the bills in force: one snapshot, read and never written.

It owns which rows are compared; it refuses the comparison itself (``domain/reconciliation.py``).
"""

from __future__ import annotations

from datetime import datetime

from tokenbudget.domain import reconciliation as domain
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.reconciliation import (
    TOLERANCE_BASIS_POINTS,
    CanonicalModel,
    Reconciliation,
)
from tokenbudget.store import bills as store
from tokenbudget.store.db import Database


def reconcile(
    database: Database,
    *,
    period: Period,
    currency: str,
    canonical_model: CanonicalModel,
    tolerance_basis_points: int = TOLERANCE_BASIS_POINTS,
) -> Reconciliation:
    """Give what was metered beside what was invoiced for the UTC days that begin in the period.

    A bill line belongs to the period in which the time it is billed for begins. Metered is
    effective cost from the daily rollups; ``currency`` is the ledger's, other currencies are listed
    apart.
    """
    with database.reading() as session:
        return domain.reconcile(
            store.iterate_daily_metered(session, period=period),
            store.iterate_lines_in_force(session, period=period),
            period=period,
            currency=currency,
            canonical_model=canonical_model,
            tolerance_basis_points=tolerance_basis_points,
        )


def canonical_names(price_list: PriceList, *, at: datetime) -> CanonicalModel:
    """Give the function that names a model as the price list does at that time.

    A model without a price then keeps the name it was given.
    """

    def canonical_model(provider: str, model: str) -> str:
        match = price_list.find(provider, model, occurred_at=at)
        return model if match is None else match.model.model

    return canonical_model
