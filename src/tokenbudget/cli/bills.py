"""Commands about bills: ``bills import`` and ``reconcile``. They print; the services decide."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows, progress
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period, Window, parse_instant, window_at
from tokenbudget.domain.reconciliation import (
    Reconciliation,
    ReconciliationRow,
    format_amount,
)
from tokenbudget.formats.bills import FORMATS
from tokenbudget.services.bills import BillImport, import_bills
from tokenbudget.services.reconciliation import canonical_names
from tokenbudget.services.reconciliation import reconcile as reconcile_period

SOURCES = ", ".join(known.source for known in FORMATS)

app = typer.Typer(help="Providers' bills.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def bills() -> None:
    """Keep ``import`` a command of its own while it is the only one."""


@app.command("import")
def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="The files, a restatement after what it restates.")
    ],
    source: Annotated[
        str | None,
        typer.Option(help=f"Where they are from, when their content does not show it: {SOURCES}."),
    ] = None,
    account: Annotated[
        str, typer.Option(help="The account that bills without one belong to.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Import providers' bills; importing a file again changes nothing."""
    services = started()
    with progress("Bill lines", None) as advance:
        imports = import_bills(
            services.database,
            files,
            now=services.clock(),
            source=source,
            account=account,
            advance=advance,
        )
    print_rows("Bills", [_import_row(each, as_json) for each in imports], as_json=as_json)


def reconcile(
    period: Annotated[str, typer.Option(help="The month, such as 2026-09 (UTC).")],
    as_json: AsJson = False,
) -> None:
    """Compare what was metered with what was invoiced; exit 1 when anything was over-counted."""
    month = parse_month(period)
    services = started()
    result = reconcile_period(
        services.database,
        period=month,
        currency=services.settings.currency,
        canonical_model=canonical_names(services.price_list, at=month.start),
    )
    print_rows(f"Reconciliation of {period}", reconciliation_rows(result), as_json=as_json)
    if result.is_over_counted:
        raise typer.Exit(1)


def parse_month(text: str) -> Period:
    """Give the calendar month in UTC, as providers bill; raises InvalidInput for anything else."""
    try:
        first = parse_instant(f"{text}-01T00:00:00Z", field="period")
        return window_at(Window.MONTH, first, "UTC")
    except (InvalidInput, ValueError):
        raise InvalidInput(
            f"period {text!r} is not a month such as 2026-09", field="period"
        ) from None


def reconciliation_rows(result: Reconciliation) -> list[dict[str, object]]:
    """Give the table: the rows, a line of totals, and what was invoiced in other currencies."""
    rows = [_reconciliation_row(row, result.currency) for row in result.rows]
    totals = _table_row(
        day="total",
        currency=result.currency,
        metered_amount=format_amount(result.metered),
        invoiced_amount=format_amount(result.invoiced),
        variance_amount=format_amount(result.variance),
    )
    others = [
        _table_row(day="not compared", currency=currency, invoiced_amount=format_amount(amount))
        for currency, amount in result.other_currencies.items()
    ]
    return [*rows, totals, *others]


def _import_row(imported: BillImport, as_json: bool) -> dict[str, object]:
    totals = {currency: format_amount(total) for currency, total in imported.totals.items()}
    return {
        "file": imported.file_name,
        "source": imported.source,
        "outcome": "imported" if imported.is_new else "already imported",
        "lines": imported.line_count,
        "superseded_lines": imported.superseded_lines,
        "total_amount": totals if as_json else _joined(totals),
    }


def _joined(totals: Mapping[str, str]) -> str:
    return ", ".join(f"{total} {currency}" for currency, total in totals.items())


def _reconciliation_row(row: ReconciliationRow, currency: str) -> dict[str, object]:
    return _table_row(
        day=_day_text(row.period),
        provider=row.provider,
        model=row.model,
        description=row.description,
        currency=currency,
        metered_amount=_amount_text(row.metered),
        invoiced_amount=_amount_text(row.invoiced),
        variance_amount=format_amount(row.variance),
        verdict=row.verdict.value,
        unpriced_requests=row.unpriced_requests,
    )


def _table_row(**cells: object) -> dict[str, object]:
    columns = (
        "day",
        "provider",
        "model",
        "description",
        "currency",
        "metered_amount",
        "invoiced_amount",
        "variance_amount",
        "verdict",
        "unpriced_requests",
    )
    return {column: cells.get(column) for column in columns}


def _amount_text(amount: Decimal | None) -> str | None:
    return None if amount is None else format_amount(amount)


def _day_text(period: Period) -> str:
    start = period.start.date().isoformat()
    is_day = period == window_at(Window.DAY, period.start, "UTC")
    return start if is_day else f"{start}/{period.end.date().isoformat()}"
