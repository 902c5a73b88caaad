"""How current the ledger is: the prices it knows and the usage it holds. Reads only."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, select

from tokenbudget.domain.rollups import QUARTER_HOUR_SECONDS
from tokenbudget.store.tables import PriceListRow, RollupRow, UsageRow


def find_latest_price_list(session: Session) -> PriceListRow | None:
    """Give the price list recorded last, or None before the first."""
    newest = (col(PriceListRow.recorded_at).desc(), col(PriceListRow.id).desc())
    return session.exec(select(PriceListRow).order_by(*newest).limit(1)).first()


def find_last_recorded_at(session: Session) -> datetime | None:
    """Give when the newest usage was written, or None in an empty ledger."""
    newest = col(UsageRow.id).desc()
    return session.exec(select(UsageRow.recorded_at).order_by(newest).limit(1)).first()


def find_first_usage_at(session: Session) -> datetime | None:
    """Give the quarter-hour in which the earliest usage happened, or None in an empty ledger."""
    by_quarter_hour = col(RollupRow.grain_seconds) == QUARTER_HOUR_SECONDS
    oldest = col(RollupRow.starts_at)
    return session.exec(
        select(RollupRow.starts_at).where(by_quarter_hour).order_by(oldest).limit(1)
    ).first()
