"""``bills import`` and ``reconcile`` from the command line, on a data directory of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.rollup_builders import make_usage, roll_up
from tokenbudget.bootstrap import open_services, prepare_database
from tokenbudget.cli import app, bills
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import Reconciliation
from tokenbudget.settings import load_settings

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


def test_an_import_prints_one_row_a_file_with_exact_totals(run: Run) -> None:
    result = run("bills", "import", PAGE_1, GOLDEN, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "file": "openai-costs.page1.json",
            "source": "openai-costs",
            "outcome": "imported",
            "lines": 17,
            "superseded_lines": 0,
            "total_amount": {"USD": "15.969322500"},
        },
        {
            "file": "focus-1.2-llm-golden.csv",
            "source": "focus",
            "outcome": "imported",
            "lines": 10,
            "superseded_lines": 0,
            "total_amount": {"EUR": "7.360000000", "USD": "104.250831625"},
        },
    ]


def test_an_import_again_says_so_in_the_table(run: Run) -> None:
    run("bills", "import", PAGE_1)

    again = run("bills", "import", PAGE_1)

    assert again.exit_code == 0
    assert "already" in again.stdout


def test_a_bad_file_and_a_wrong_source_are_errors_with_exit_code_2(run: Run) -> None:
    bad = run("bills", "import", str(BILLING / "focus-1.2-llm-invalid.csv"))
    wrong = run("bills", "import", PAGE_1, "--source", "aws")

    assert isinstance(bad.exception, BadFile)
    assert isinstance(wrong.exception, InvalidInput)
    assert bad.exception.exit_code == wrong.exception.exit_code == 2


def test_reconcile_prints_the_rows_the_totals_and_other_currencies(run: Run) -> None:
    run("bills", "import", GOLDEN)

    result = run("reconcile", "--period", "2026-09", "--json")

    rows = json.loads(result.stdout)
    assert result.exit_code == 0
    assert rows[0] == {
        "day": "2026-09-01/2026-10-01",
        "provider": "openai",
        "model": None,
        "description": "Refund of over-billed output tokens for August 2026",
        "currency": "USD",
        "metered_amount": None,
        "invoiced_amount": "-0.800000000",
        "variance_amount": "-0.800000000",
        "verdict": "discount",
        "unpriced_requests": 0,
    }
    assert (rows[-2]["day"], rows[-2]["invoiced_amount"]) == ("total", "104.250831625")
    assert (rows[-1]["currency"], rows[-1]["invoiced_amount"]) == ("EUR", "7.360000000")


def test_reconcile_ends_with_1_when_anything_was_over_counted(run: Run, tmp_path: Path) -> None:
    run("bills", "import", PAGE_1)
    services = open_services(load_settings(data_dir=tmp_path))
    prepare_database(services)
    # Invoiced for gpt-4.1 on the first: 2.4 + 0.15 + 1.68 + 0.8 + 0.6 = 5.63.
    usage = make_usage(
        datetime(2026, 9, 1, 12, tzinfo=UTC),
        measures={"effective_nanos": 6_000_000_000},
        model="gpt-4.1",
    )
    roll_up(services.database, [usage])

    result = run("reconcile", "--period", "2026-09", "--json")

    first = json.loads(result.stdout)[0]
    assert result.exit_code == 1
    assert (first["day"], first["metered_amount"]) == ("2026-09-01", "6.000000000")
    assert (first["variance_amount"], first["verdict"]) == ("-0.370000000", "over_counted")


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-9", "2026-W36", "9999-12", "", "soon"])
def test_a_period_that_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a month such as 2026-09"):
        bills.parse_month(text)


def test_an_empty_month_is_a_line_of_totals() -> None:
    month = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
    zero = Decimal(0)

    [totals] = bills.reconciliation_rows(Reconciliation(month, "USD", (), zero, zero, zero, {}))

    assert totals["day"] == "total"
    assert totals["invoiced_amount"] == "0.000000000"
