"""What each page is given, one frozen dataclass a page.

It owns the shape of a page's facts; it refuses markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tokenbudget.domain.breakdowns import Breakdown, DailySpend
from tokenbudget.formats.charts import Sparkline, StackedChart
from tokenbudget.formats.panels import BudgetPanel, PriceListVersion, Tile, UnpricedLine


@dataclass(frozen=True, slots=True)
class RangeLink:
    """A link to the page over another number of days; the current one is not followed."""

    label: str
    href: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class AlertLine:
    """An alert as shown: when it was raised, on what, and how far use had come then."""

    raised_at: datetime
    budget: str
    threshold: str
    measured: str
    limit: str


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """The page at ``/``.

    ``trends`` has one line for each line of ``teams``. ``before`` in any line is as many days
    earlier; ``notices`` are sentences about the days shown; ``compares_from`` is when the ledger
    begins, if that is within those earlier days. ``last_recorded_at`` is None in an empty ledger.
    """

    currency: str
    timezone: str
    generated_at: datetime
    version: str
    public_url: str
    days: int
    ranges: tuple[RangeLink, ...]
    tiles: tuple[Tile, ...]
    chart: StackedChart
    daily: DailySpend
    teams: Breakdown
    trends: tuple[Sparkline, ...]
    features: Breakdown
    budgets: BudgetPanel
    alerts: tuple[AlertLine, ...]
    notices: tuple[str, ...]
    unpriced: tuple[UnpricedLine, ...]
    price_list: PriceListVersion | None
    compares_from: datetime | None
    last_recorded_at: datetime | None

    @property
    def is_empty(self) -> bool:
        """Tell whether the ledger holds no usage at all."""
        return self.last_recorded_at is None
