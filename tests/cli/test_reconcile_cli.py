"""``reconcile``, ``untracked`` and ``coverage`` on a data directory of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.rollup_builders import make_usage, roll_up
from tests.services.reconciliation_cases import make_line, store_bill
from tokenbudget.bootstrap import open_services, prepare_database
from tokenbudget.cli import app
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.settings import load_settings
from tokenbudget.store.db import Database

BILLING = Path(__file__).parents[1] / "data" / "billing"
PAGE_1 = str(BILLING / "openai-costs.page1.json")
GOLDEN = str(BILLING / "focus-1.2-llm-golden.csv")

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give a function that runs a command line on an empty data directory."""

    def invoke(*arguments: str) -> Result:
        environment = {"TOKENBUDGET_DATA_DIR": str(tmp_path)}
        return CliRunner().invoke(app, arguments, env=environment)

    return invoke


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Give the ledger of the same directory."""
    services = open_services(load_settings(data_dir=tmp_path))
    prepare_database(services)
    return services.database


def test_reconcile_prints_rows_totals_conversions_and_the_waterfall(run: Run) -> None:
    run("bills", "import", GOLDEN)

    result = run("reconcile", "--period", "2026-09", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (told["period"], told["currency"]) == ("2026-09", "USD")
    refund = next(row for row in told["rows"] if row["day"] == "2026-09-01/2026-10-01")
    assert refund["description"] == "Refund of over-billed output tokens for August 2026"
    assert (refund["invoiced_amount"], refund["verdict"]) == ("-0.800000000", "discount")
    # The euro was worth 1.1596 dollars: 7.36 of them are 8.534656; 104.250831625 were dollars.
    assert [(each["currency"], each["rate"]) for each in told["conversions"]] == [
        ("EUR", "1.159600000")
    ]
    assert told["totals"]["not_compared"] == {}
    assert told["totals"]["invoiced_amount"] == "112.785487625"
    last = [step for step in told["waterfall"] if step["provider"] is None][-1]
    assert last["amount"] == told["totals"]["invoiced_amount"]


def test_reconcile_ends_with_1_when_anything_was_over_counted(run: Run, database: Database) -> None:
    run("bills", "import", PAGE_1)
    # Invoiced for gpt-4.1 on the first: 2.4 + 0.15 + 1.68 + 0.8 + 0.6 = 5.63.
    usage = make_usage(
        datetime(2026, 9, 1, 12, tzinfo=UTC),
        measures={"effective_nanos": 6_000_000_000},
        model="gpt-4.1",
    )
    roll_up(database, [usage])

    result = run("reconcile", "--period", "2026-09", "--json")
    table = run("reconcile", "--period", "2026-09", "--provider", "openai")

    first = json.loads(result.stdout)["rows"][0]
    assert result.exit_code == table.exit_code == 1
    assert (first["day"], first["metered_amount"]) == ("2026-09-01", "6.000000000")
    assert (first["variance_amount"], first["verdict"]) == ("-0.370000000", "over_counted")
    assert "From list price to invoice" in table.stdout


def test_the_table_tells_totals_and_what_was_not_compared(run: Run, database: Database) -> None:
    store_bill(
        database, make_line("2"), make_line("5", currency="EUR"), make_line("3", currency="XTS")
    )

    table = run("reconcile", "--period", "2026-09").stdout

    assert "total" in table
    assert "not compared" in table
    assert "3.000000000" in table


@pytest.mark.parametrize("command", ["reconcile", "untracked", "coverage"])
@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-9", "2026-W36", "9999-12", "", "soon"])
def test_a_period_that_is_no_month_is_refused(run: Run, command: str, text: str) -> None:
    result = run(command, "--period", text)

    assert isinstance(result.exception, InvalidInput)
    assert "is not a month such as 2026-09" in result.exception.detail


def test_an_empty_month_is_a_line_of_totals_and_a_waterfall_of_nothing(run: Run) -> None:
    result = run("reconcile", "--period", "2026-09", "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["rows"]) == (0, [])
    assert told["totals"]["invoiced_amount"] == "0.000000000"
    assert {step["amount"] for step in told["waterfall"]} == {"0.000000000"}


def test_untracked_names_are_listed_with_whom_to_ask(run: Run, database: Database) -> None:
    store_bill(database, make_line("2", api_key="rogue"))

    [name] = json.loads(run("untracked", "--period", "2026-09", "--json").stdout)
    table = run("untracked", "--period", "2026-09")

    assert (name["api_key"], name["untracked_amount"]) == ("rogue", "2.000000000")
    assert (name["models"], name["invoice_share"]) == (["gpt-4.1"], "1.0000")
    assert table.exit_code == 0
    assert "rogue" in table.stdout


def test_coverage_is_told_by_month_and_team(run: Run, database: Database) -> None:
    store_bill(database, make_line("2", api_key="rogue"))

    told = run("coverage", "--period", "2026-09", "--until", "2026-10", "--json")

    assert json.loads(told.stdout) == [
        {
            "start": "2026-09-01",
            "end": "2026-10-01",
            "team": "Untracked",
            "tracked_amount": "0.000000000",
            "untracked_amount": "2.000000000",
            "coverage": "0.0000",
        }
    ]
