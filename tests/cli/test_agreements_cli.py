"""What operators agreed on is listed, rates events, and is shared by a command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command

TWO_DAYS_AGO = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(2)
CONTRACTS = """
[[contract]]
id = "half"
provider = "anthropic"
model = "claude-*"
percent_off = 50

[[contract]]
id = "own"
account = "org-1"
from = 2026-01-01
rates = { input = 1 }

[[contract]]
id = "input-only"
tier = "batch"
times = 0.75
applies = ["input"]
"""
COMMITMENT = f"""
[[commitment]]
id = "ptu"
provider = "azure"
covers = {{ deployment = "prod" }}
units = 10
rate = 0.5
from = {TWO_DAYS_AGO.isoformat()}
to = {(TWO_DAYS_AGO + timedelta(days=1)).isoformat()}
"""


@pytest.fixture
def agreements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory of agreements that the settings name."""
    directory = tmp_path / "agreements"
    directory.mkdir()
    monkeypatch.setenv("TOKENBUDGET_AGREEMENTS_DIR", str(directory))
    return directory


def cost(command: Command, line: str) -> dict[str, Any]:
    """Give an event with its costs."""
    priced: dict[str, Any] = json.loads(command("cost", "-", stdin=line.encode()).out)
    return priced


def event(**overrides: Any) -> str:
    """Give an event of Claude two days ago as a line."""
    usual = {
        "event_id": "e1",
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "occurred_at": (TWO_DAYS_AGO + timedelta(hours=9)).isoformat(),
        "usage": {"input_tokens": 1_000_000, "output_tokens": 0},
        "tags": {"team": "growth", "deployment": "prod"},
    }
    return json.dumps({**usual, **overrides})


def test_agreements_are_listed_with_their_conditions_and_terms(
    agreements: Path, command: Command
) -> None:
    (agreements / "a.toml").write_text(CONTRACTS + COMMITMENT)

    rows = {row["id"]: row for row in command("agreements", "list", "--json").rows}

    assert rows["half"]["covers"] == "model=claude-*"
    assert rows["half"]["terms"] == "1/2 x list cost"
    assert (rows["own"]["provider"], rows["own"]["from"]) == ("everything", "2026-01-01T00:00:00Z")
    assert rows["own"]["terms"] == "own rates of input_tokens"
    assert rows["input-only"]["terms"] == "3/4 x list cost of input_tokens"
    assert rows["ptu"]["terms"] == "5.000000000 USD per hour, by weighted-tokens"


def test_events_are_rated_under_the_agreements(agreements: Path, command: Command) -> None:
    (agreements / "a.toml").write_text(CONTRACTS + COMMITMENT)

    plain = cost(command, event())
    covered = cost(command, event(provider="azure", model="gpt-5"))

    # A million tokens of input above 200,000 at 6 dollars a million.
    assert (plain["list_cost"], plain["contracted_cost"]) == ("6.000000000", "3.000000000")
    assert plain["flags"] == ["contract:half"]
    assert (covered["list_cost"], covered["effective_cost"]) == ("1.250000000", "0.000000000")
    assert "commitment:ptu" in covered["flags"]


def test_finished_days_are_shared_once(agreements: Path, command: Command, tmp_path: Path) -> None:
    (agreements / "a.toml").write_text(COMMITMENT)
    events = tmp_path / "events.jsonl"
    events.write_text(event(provider="azure", model="gpt-5"))
    command("events", "import", events)

    [first] = command("agreements", "share", "--json").rows
    [second] = command("agreements", "share", "--json").rows

    assert (first["fixed_cost"], first["unused_cost"]) == ("120.000000000", "0.000000000")
    assert (first["posted"], second["posted"]) == ("yes", "no change")


def test_a_day_without_an_exchange_rate_waits(agreements: Path, command: Command) -> None:
    (agreements / "a.toml").write_text(COMMITMENT + 'currency = "XOF"')

    [day] = command("agreements", "share", "--json").rows

    assert (day["fixed_cost"], day["posted"]) == ("", "waits for an exchange rate")


def test_an_agreement_that_is_wrong_is_named(agreements: Path, command: Command) -> None:
    (agreements / "a.toml").write_text(CONTRACTS.replace("percent_off", "percent_of"))

    ran = command("agreements", "list")

    assert ran.code == 2
    assert "a.toml: contract 1: Object contains unknown field `percent_of`" in ran.error
