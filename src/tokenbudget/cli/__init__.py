"""The commands. It owns how they are named and how an error leaves the process.

Each feature has its own module.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final

import structlog
import typer

from tokenbudget import __version__
from tokenbudget.cli import (
    agreements,
    allocation,
    bill_pulls,
    bills,
    budgets,
    calibrate,
    cost,
    demo,
    events,
    export,
    keys,
    operate,
    policies,
    prices,
    reconcile,
    report,
    serve,
    statement_documents,
    statements,
    tags,
    true_up,
)
from tokenbudget.domain.errors import TokenbudgetError

INTERRUPTED: Final = 130

app = typer.Typer(
    name="tokenbudget",
    help="FinOps for LLM spend: one exact ledger, quota before the request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.add_typer(events.app, name="events")
bills.app.command("pull")(bill_pulls.pull)
bills.app.command("true-up")(true_up.true_up)
app.add_typer(bills.app, name="bills")
prices.app.command("calibrate")(calibrate.calibrate)
app.add_typer(prices.app, name="prices")
app.add_typer(agreements.app, name="agreements")
app.command("cost")(cost.cost)
app.add_typer(budgets.app, name="budgets")
app.command("reconcile")(reconcile.reconcile)
app.command("untracked")(reconcile.untracked)
app.command("coverage")(reconcile.coverage)
statements.app.command("export")(statement_documents.export)
app.add_typer(statements.app, name="statements")
app.add_typer(report.app, name="report")
app.add_typer(export.app, name="export")
app.add_typer(keys.app, name="keys")
app.add_typer(tags.app, name="tags")
app.add_typer(policies.app, name="policies")
app.add_typer(allocation.app, name="allocation")
app.command("selfcheck")(operate.run_selfcheck)
app.command("doctor")(operate.doctor)
app.add_typer(operate.database_app, name="db")

logger = structlog.get_logger(__name__)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def tokenbudget(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it")
    ] = False,
) -> None:
    """FinOps for LLM spend: one exact ledger, quota before the request."""


def main() -> None:
    """Run a command; errors are one line on stderr and an exit code, never a trace."""
    try:
        app()
    except TokenbudgetError as error:
        print(f"tokenbudget: {error.detail}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:
        logger.exception("command_failed")
        print("tokenbudget: something went wrong; the log above has the details", file=sys.stderr)
        sys.exit(1)
