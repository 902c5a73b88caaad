"""The invented organisation: owners and budgets as TOML text.

It owns their dates and refuses to read or apply them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from string import Template
from typing import Final

BUDGET_WINDOW_HALF: Final = timedelta(days=14)


def organisation_toml() -> str:
    """Give the owners as ``[[owner]]`` tables: cost centres, teams, features, tenants.

    A parent comes before its children.
    """
    return _sample("organisation.toml")


def budgets_toml(now: datetime) -> str:
    """Give the budgets as ``[[budget]]`` tables.

    Their fixed ranges reach two weeks either side of the UTC day of ``now``, which must be aware.
    So they hold the same share of the replay whenever it runs: one budget is exceeded and one is
    forecast to be, on the first day of a month too.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    today = now.astimezone(UTC).date()
    return Template(_sample("budgets.toml")).substitute(
        window_start=(today - BUDGET_WINDOW_HALF).isoformat(),
        window_end=(today + BUDGET_WINDOW_HALF).isoformat(),
    )


def _sample(name: str) -> str:
    return files("tokenbudget.demo").joinpath("samples", name).read_text(encoding="utf-8")
