"""``prices rerate``: a dry run that prints an id, and approving it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.builders import make_events, record
from tests.price_builders import make_price_list
from tokenbudget.bootstrap import make_ledger, open_services, prepare_database
from tokenbudget.cli.prices import app as prices
from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.settings import Settings, load_settings

Run = Callable[..., Result]

app = typer.Typer()
app.add_typer(prices, name="prices")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a data directory of the test's own."""
    (tmp_path / "data").mkdir()
    return load_settings(data_dir=tmp_path / "data")


@pytest.fixture
def run(settings: Settings) -> Run:
    """Give a function that runs ``prices rerate`` on this data directory; errors are raised."""

    def invoke(*arguments: str) -> Result:
        environment = {"TOKENBUDGET_DATA_DIR": str(settings.data_dir)}
        command = ["prices", "rerate", *arguments]
        return CliRunner().invoke(app, command, env=environment)

    return invoke


@pytest.fixture
def unpriced(settings: Settings) -> None:
    """Record usage of two teams before the price book knew the model."""
    services = open_services(settings)
    prepare_database(services)
    ledger = make_ledger(replace(services, price_list=make_price_list(version="empty")))
    usage = {"input_tokens": 1_000, "output_tokens": 100}
    common = {"provider": "openai", "model": "gpt-5.2", "usage": usage}
    record(ledger, *make_events(2, **common, source="a"))
    record(ledger, *make_events(1, **common, source="b", tags={"team": "search"}))
    services.database.close()


@pytest.mark.usefixtures("unpriced")
def test_a_dry_run_shows_differences_and_how_to_apply_them(run: Run) -> None:
    result = run("--dry-run")

    assert result.exit_code == 0, result.output
    assert "growth" in result.stdout
    # Each costs 1,000 at 1.75 and 100 at 14 dollars a million: 0.00315 dollars.
    assert "0.006300000" in result.stdout
    assert (
        "3 usages would move by 0.009450000 in all: tokenbudget prices rerate --approve 1"
        in result.stdout
    )


@pytest.mark.usefixtures("unpriced")
def test_without_options_it_is_a_dry_run(run: Run) -> None:
    assert "would move by" in run().stdout


@pytest.mark.usefixtures("unpriced")
def test_approving_applies_it_once(run: Run) -> None:
    run("--dry-run")

    first, second = run("--approve", "1"), run("--approve", "1")

    assert first.exit_code == 0, first.output
    assert "Re-rating 1, applied" in first.stdout
    assert "3 usages moved by 0.009450000 in all." in first.stdout
    assert second.stdout == first.stdout
    assert "Nothing is charged otherwise" in run().stdout


@pytest.mark.usefixtures("unpriced")
def test_json_has_every_difference_with_the_id(run: Run) -> None:
    rows = json.loads(run("--json").stdout)

    assert [(row["rerate"], row["state"], row["team"], row["usages"]) for row in rows] == [
        (1, "proposed", "growth", 2),
        (1, "proposed", "search", 1),
    ]
    assert {row["reason"] for row in rows} == {"unpriced"}


@pytest.mark.usefixtures("unpriced")
def test_the_scope_is_taken_from_the_options(run: Run) -> None:
    bounds = ("--from", "2026-11-20T00:00:00Z", "--to", "2026-11-21T00:00:00Z")

    assert len(json.loads(run("--json", *bounds, "--model", "gpt-5.2").stdout)) == 2
    assert json.loads(run("--json", *bounds, "--provider", "anthropic").stdout) == []
    assert json.loads(run("--json", "--reason", "fixed", "--reason", "changed").stdout) == []


def test_an_id_that_does_not_exist_is_one_clear_error(run: Run) -> None:
    result = run("--approve", "7")

    assert isinstance(result.exception, NotFound)
    assert str(result.exception) == "re-rating 7 does not exist"


def test_approving_takes_no_scope(run: Run) -> None:
    result = run("--approve", "7", "--provider", "openai")

    assert isinstance(result.exception, InvalidInput)
    assert "takes no other option" in str(result.exception)


def test_a_time_without_an_offset_is_one_clear_error(run: Run) -> None:
    result = run("--from", "2026-11-20T00:00:00")

    assert isinstance(result.exception, InvalidInput)
    assert "has no UTC offset" in str(result.exception)
