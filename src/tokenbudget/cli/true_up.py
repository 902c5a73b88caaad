"""The command ``bills true-up``: what providers say was used beside what was metered."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.months import month_period, parse_month
from tokenbudget.formats.true_up import describe_factor, describe_row, flatten_row
from tokenbudget.services.true_up import true_up as compare


def true_up(
    period: Annotated[str, typer.Option(help="The month, such as 2026-09 (UTC).")],
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare tokens and requests that providers report with what was metered.

    For calls whose input was estimated and later measured, it also tells how far the estimates of
    each model family were off.
    """
    month = month_period(parse_month(period))
    services = started()
    result = compare(
        services.database, period=month, price_list=services.price_list, provider=provider
    )
    factors = [describe_factor(factor) for factor in result.factors]
    if as_json:
        rows = [describe_row(row) for row in result.rows]
        print(json.dumps({"period": period, "rows": rows, "estimates": factors}))
        return
    print_rows(f"Usage of {period}", [flatten_row(row) for row in result.rows], as_json=False)
    if factors:
        print_rows("Estimates beside what was measured", factors, as_json=False)
