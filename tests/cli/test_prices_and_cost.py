"""Looking prices up, linting them and rating events without a database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tokenbudget.cli import prices
from tokenbudget.cli.cost import cost
from tokenbudget.domain.errors import BadFile, NotFound

EVENT = '{"provider":"openai","model":"gpt-5.2","occurred_at":"2026-11-20T12:00:00Z","usage":%s}'

app = typer.Typer()
app.add_typer(prices.app, name="prices")
app.command()(cost)


def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Give exit code, standard output and standard error; product errors are raised."""
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_lookup_shows_every_step_of_size_with_its_provenance() -> None:
    arguments = ("openai", "gpt-5.4", "--tier", "flex", "--at", "2026-11-01T00:00:00Z", "--json")

    code, printed, _ = run("prices", "lookup", *arguments)

    base, long_context = json.loads(printed)
    assert code == 0
    assert (base["million_input_tokens"], base["above_input_tokens"]) == ("1.25", "")
    assert (long_context["million_input_tokens"], long_context["above_input_tokens"]) == (
        "2.5",
        "272000",
    )
    assert base["source"] == "genai-prices 0.2.3"
    assert base["flags"] == ""


def test_lookup_as_a_table_names_fallbacks_and_daily_hours() -> None:
    peak = ("deepseek", "deepseek-v4-pro", "--tier", "flex", "--at", "2026-11-13T02:00:00Z")

    code, printed, _ = run("prices", "lookup", *peak)

    assert code == 0
    assert "tier_fallback" in printed
    assert "01:00-04:00, 06:00-10:00 MTWTF-- UTC" in printed
    assert "1.32" in printed


def test_lookup_without_a_date_is_about_now() -> None:
    code, printed, _ = run("prices", "lookup", "openai", "gpt-4o", "--json")

    assert code == 0
    assert json.loads(printed)[0]["model"] == "gpt-4o"


def test_lookup_of_what_has_no_price_says_why() -> None:
    with pytest.raises(NotFound, match="openai gpt-nothing has no price: model_unknown"):
        run("prices", "lookup", "openai", "gpt-nothing")


def test_lint_of_the_book_that_ships_finds_nothing() -> None:
    code, printed, _ = run("prices", "lint", "--json")

    assert (code, json.loads(printed)) == (0, [])


def test_lint_fails_when_there_are_findings(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(
        'schema = 1\nprovider = "acme"\n[model.m]\nprice = [{ cached = 1 }]\n', encoding="utf-8"
    )

    code, printed, _ = run("prices", "lint", str(tmp_path), "--json")

    assert code == 1
    assert [finding["rule"] for finding in json.loads(printed)] == ["child_without_parent"]


def test_cost_gives_the_same_events_with_what_they_cost(tmp_path: Path) -> None:
    event = EVENT % '{"input_tokens":1000,"output_tokens":100}'
    file = tmp_path / "events.jsonl"
    file.write_text(
        event + "\n\n" + event.replace("gpt-5.2", "gpt-nothing") + "\n", encoding="utf-8"
    )

    code, printed, _ = run("cost", str(file))

    priced, unpriced = (json.loads(line) for line in printed.splitlines())
    assert code == 0
    # 1,000 at 1.75 and 100 at 14 dollars a million.
    assert priced["list_cost"] == "0.003150000"
    assert (priced["basis"], priced["flags"]) == ("rated", [])
    assert priced["usage"] == {"input_tokens": 1000, "output_tokens": 100}
    assert unpriced["effective_cost"] is None
    assert (unpriced["basis"], unpriced["flags"]) == ("unpriced", ["model_unknown"])


def test_cost_names_lines_that_are_no_events_and_rates_the_rest() -> None:
    good, bad = EVENT % '{"input_tokens":1000}', EVENT % '{"input_tokens":-1}'

    code, printed, told = run("cost", "-", stdin=f"nope\n{good}\n{bad}\n")

    assert code == 2
    assert len(printed.splitlines()) == 1
    assert "-: line 1: malformed_json" in told
    assert "-: line 3: usage_negative: input_tokens -1 is negative" in told


def test_cost_of_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        run("cost", str(tmp_path / "missing.jsonl"))
