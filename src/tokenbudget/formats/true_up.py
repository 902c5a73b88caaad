"""How a true-up is written for the API and the command line.

It owns the names of its parts; it refuses to compare anything.
"""

from __future__ import annotations

from typing import Final

from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.true_up import EstimateFactor, Quantities, TrueUpKey, TrueUpRow
from tokenbudget.formats.estimators import format_points

SIDES: Final = ("metered", "reported", "missing")


def describe_row(row: TrueUpRow) -> dict[str, object]:
    """Give one row: what is compared, and the quantities of each side and those missing.

    A side that says nothing is null; ``missing`` is reported less metered.
    """
    key = row.key
    return {
        "day": format_instant(key.day)[:10],
        "provider": key.provider,
        "model": key.model or None,
        "account": key.account or None,
        "metered": _quantities(row.metered),
        "reported": _quantities(row.reported),
        "missing": _quantities(row.missing),
    }


def flatten_row(row: TrueUpRow) -> dict[str, object]:
    """Give the same as one level, for a table; tokens are input and output together."""
    described = describe_row(row)
    flat = {name: described[name] for name in ("day", "provider", "model", "account")}
    sides = dict(zip(SIDES, (row.metered, row.reported, row.missing), strict=True))
    for side, quantities in sides.items():
        flat[f"{side}_tokens"] = (
            None if quantities is None else quantities.input_tokens + quantities.output_tokens
        )
    for side, quantities in sides.items():
        flat[f"{side}_requests"] = None if quantities is None else quantities.requests
    return flat


def describe_factor(factor: EstimateFactor) -> dict[str, object]:
    """Give one family: its calls, both sums and by what estimates would have to be multiplied."""
    fit = factor.fit
    return {
        "family": factor.family,
        "calls": factor.call_count,
        "estimated_tokens": factor.estimated_tokens,
        "reported_tokens": factor.reported_tokens,
        "factor": format_points(factor.factor),
        "median_factor": None if fit is None else format_points(fit.multiplier),
        "band": None if fit is None else format_points(fit.band),
    }


def cursor_of(key: TrueUpKey) -> list[str]:
    """Give what a cursor holds of the last row of a page."""
    return [key.provider, key.model, format_instant(key.day), key.account]


def _quantities(quantities: Quantities | None) -> dict[str, int | None] | None:
    return None if quantities is None else quantities._asdict()
