"""``bills true-up``, and files of single calls and mapped tables in ``bills import``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command
from tests.formats.calls.call_cases import BILLING, GENERATIONS, write_lines
from tests.services.witness_cases import GATEWAY, SDK, tell
from tokenbudget.bootstrap import Services, make_ledger

ACTIVITY = BILLING / "openrouter-activity.csv"
MAPPING = """
source = "contoso"
[columns]
day = "Date"
amount = "Cost"
[constants]
provider = "together"
currency = "EUR"
"""


def import_rows(command: Command, *arguments: str | Path) -> list[dict[str, Any]]:
    ran = command("bills", "import", *arguments, "--json")
    assert ran.code == 0
    return ran.rows


def test_calls_and_bills_of_one_command_are_told_apart(command: Command) -> None:
    rows = import_rows(command, ACTIVITY, GENERATIONS)

    assert [(row["file"], row["source"]) for row in rows] == [
        ("openrouter-activity.csv", "openrouter-activity"),
        ("openrouter-generations.csv", "openrouter-generations"),
    ]
    assert rows[1] | {"unpriced": 0} == {
        "file": "openrouter-generations.csv",
        "source": "openrouter-generations",
        "calls": 2,
        "accepted": 2,
        "duplicates": 0,
        "differing": 0,
        "unpriced": 0,
    }


def test_a_bad_bill_keeps_the_calls_beside_it_from_being_told(
    command: Command, tmp_path: Path
) -> None:
    bad = Path(shutil.copy(ACTIVITY, tmp_path / "bad.csv"))
    bad.chmod(0o644)
    bad.write_text(bad.read_text().replace("4.305", "much"))

    ran = command("bills", "import", GENERATIONS, bad)

    assert ran.code == 2
    assert "bad.csv: row 1, column Usage: 'much' is not a decimal number" in ran.err
    rows = import_rows(command, GENERATIONS)
    assert (rows[0]["accepted"], rows[0]["duplicates"]) == (2, 0)


def test_a_call_told_otherwise_before_is_named_by_row(command: Command, tmp_path: Path) -> None:
    row = {
        "generation_id": "gen-1",
        "created_at": "2026-09-01 00:00:00",
        "cost_total": "0",
        "tokens_prompt": "1",
        "tokens_completion": "1",
        "model_permaslug": "m",
    }
    import_rows(command, write_lines(tmp_path, row))

    ran = command("bills", "import", write_lines(tmp_path, {**row, "tokens_prompt": "2"}))

    assert ran.code == 0
    assert "calls.jsonl: row 1: event_id 'gen-1'" in ran.err
    assert "Bills" not in ran.out


def test_a_table_is_imported_by_its_mapping(command: Command, tmp_path: Path) -> None:
    table, mapping = tmp_path / "t.csv", tmp_path / "m.toml"
    table.write_text("Date,Cost\n2026-09-01,1.25\n")
    mapping.write_text(MAPPING)

    rows = import_rows(command, table, "--mapping", mapping)

    assert rows == [
        {
            "file": "t.csv",
            "source": "contoso",
            "outcome": "imported",
            "lines": 1,
            "superseded_lines": 0,
            "total_amount": {"EUR": "1.250000000"},
        }
    ]


def test_a_mapping_and_a_source_exclude_each_other(command: Command, tmp_path: Path) -> None:
    ran = command(
        "bills", "import", ACTIVITY, "--mapping", tmp_path / "m.toml", "--source", "focus"
    )

    assert ran.code == 2
    assert "source and mapping exclude each other" in ran.error


def test_true_up_shows_what_was_metered_beside_what_is_reported(command: Command) -> None:
    import_rows(command, ACTIVITY, GENERATIONS)

    asked = ("bills", "true-up", "--period", "2026-09")
    answer = json.loads(command(*asked, "--provider", "openrouter", "--json").out)
    table = command(*asked)

    sonnet = next(row for row in answer["rows"] if row["model"] == "anthropic/claude-sonnet-4.5")
    assert sonnet == {
        "day": "2026-09-01",
        "provider": "openrouter",
        "model": "anthropic/claude-sonnet-4.5",
        "account": None,
        "metered": {"input_tokens": 10_389, "output_tokens": 137, "requests": 1},
        "reported": {"input_tokens": 900_000, "output_tokens": 107_000, "requests": 120},
        "missing": {"input_tokens": 889_611, "output_tokens": 106_863, "requests": 119},
    }
    assert (answer["period"], answer["estimates"]) == ("2026-09", [])
    assert "1007000" in table.out


def test_estimates_are_shown_beside_what_was_measured(command: Command, opened: Services) -> None:
    ledger = make_ledger(opened)
    tell(ledger, SDK, usage=None, text="some words of a prompt " * 40)
    tell(ledger, GATEWAY, usage={"input_tokens": 400})

    table = command("bills", "true-up", "--period", "2026-11")

    assert "Estimates beside what was measured" in table.out
    assert "reported tokens" in table.out


def test_a_period_that_is_no_month_is_refused(command: Command) -> None:
    ran = command("bills", "true-up", "--period", "September")

    assert ran.code == 2
    assert ran.error == "tokenbudget: period 'September' is not a month such as 2026-09"
