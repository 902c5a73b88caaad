"""The rows of the price files as they are written, and which of them is in force at an instant.

It reads the TOML itself and shares no code with the loader, the schedules or rating. Of the rows
for one tier, region and size the last that has begun is in force until it ends, and a row for
these hours beats one for all day.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from tokenbudget.settings import packaged_path

Row = Mapping[str, Any]

EVER: Final = datetime.min.replace(tzinfo=UTC)
NOT_PRICES: Final = frozenset({"SOURCES.toml", "fx.toml", "estimators.toml"})
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NO_STEP: Final = -1


class UsualUsage(NamedTuple):
    """What is used of the unit that a rate key prices, and the count its rate is for."""

    unit: str
    quantity: int
    per: int


USUAL_USAGE: Final = {
    "input": UsualUsage("input_tokens", 1_009, 10**6),
    "output": UsualUsage("output_tokens", 503, 10**6),
    "page": UsualUsage("pages", 7, 1_000),
    "audio_hour": UsualUsage("audio_seconds", 47, 3_600),
}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What a row is for besides time; ``above`` is NO_STEP for a row of every size."""

    tier: str = "standard"
    region: str = ""
    above: int = NO_STEP


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """A model of the book with its rows as written, pure multipliers left out."""

    provider: str
    model: str
    rows: tuple[Row, ...]
    has_multipliers: bool

    @property
    def has_daily_hours(self) -> bool:
        """Tell whether some row is for hours or weekdays only."""
        return any(map(is_hourly, self.rows))

    @property
    def changes(self) -> list[datetime]:
        """Give the instants at which a row begins or ends, ascending."""
        stated = {row[key] for row in self.rows for key in ("from", "to") if key in row}
        return sorted(map(_instant, stated))

    @property
    def places(self) -> list[Place]:
        """Give what rows there are for."""
        return sorted(set(map(place_of, self.rows)))

    def row_at(self, place: Place, instant: datetime) -> Row | None:
        """Give the row in force, None when there is none."""
        here = [row for row in self.rows if place_of(row) == place and is_on(row, instant)]
        hourly = [row for row in here if is_hourly(row) and not _is_over(row, instant)]
        begun = hourly or [row for row in here if not is_hourly(row)]
        if not begun:
            return None
        last = max(begun, key=_begin)
        return None if _is_over(last, instant) else last


@cache
def written_models() -> tuple[WrittenModel, ...]:
    """Give every model of the book that ships."""
    files = sorted(packaged_path("pricing").glob("*.toml"))
    return tuple(
        model
        for file in files
        if file.name not in NOT_PRICES
        for model in _models_of(tomllib.loads(file.read_text("utf-8"), parse_float=Decimal))
    )


def place_of(row: Row) -> Place:
    """Give what the row is for besides time."""
    return Place(row.get("tier", "standard"), row.get("region", ""), row.get("above", NO_STEP))


def is_hourly(row: Row) -> bool:
    """Tell whether the row is for hours or weekdays only."""
    return not row.keys().isdisjoint({"hours", "days"})


def is_on(row: Row, instant: datetime) -> bool:
    """Tell whether the row has begun and the instant falls into its hours and weekdays."""
    if instant < _begin(row):
        return False
    local = instant.astimezone(ZoneInfo(row.get("tz", "UTC")))
    first, _, last = row.get("days", "mon-sun").partition("-")
    weekdays = WEEKDAYS[WEEKDAYS.index(first) : WEEKDAYS.index(last or first) + 1]
    if WEEKDAYS[local.weekday()] not in weekdays:
        return False
    spans = row.get("hours", ["00:00-24:00"])
    return any(_holds(span, f"{local:%H:%M}") for span in spans)


def usage_for(row: Row) -> tuple[dict[str, int], Fraction]:
    """Give plain usage of every unit the row has a rate for, and the exact dollars it costs.

    Its input is just above the row's step.
    """
    above = place_of(row).above
    quantities: dict[str, int] = {}
    dollars = Fraction(0)
    for key, usual in USUAL_USAGE.items():
        if key in row:
            quantity = above + 1 if key == "input" and above != NO_STEP else usual.quantity
            quantities[usual.unit] = quantity
            dollars += Fraction(row[key]) * quantity / usual.per
    return quantities, dollars


def _models_of(document: Mapping[str, Any]) -> Iterator[WrittenModel]:
    for name, table in document.get("model", {}).items():
        rows = tuple(row for row in table["price"] if "times" not in row)
        yield WrittenModel(document["provider"], name, rows, len(rows) < len(table["price"]))


def _begin(row: Row) -> datetime:
    return _instant(row["from"]) if "from" in row else EVER


def _is_over(row: Row, instant: datetime) -> bool:
    return "to" in row and instant >= _instant(row["to"])


def _instant(stated: date) -> datetime:
    return stated if isinstance(stated, datetime) else datetime.combine(stated, time(), tzinfo=UTC)


def _holds(span: str, clock: str) -> bool:
    start, end = span.split("-")
    return start <= clock < end if start < end else clock >= start or clock < end
