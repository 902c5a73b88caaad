"""``bills pull`` and what ``doctor`` says of pulls, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.cli.conftest import Command
from tests.fake_providers import (
    ANTHROPIC_KEY,
    OPENAI_KEY,
    FakeProviders,
    Fault,
    running_providers,
)
from tokenbudget.bootstrap import Services, utc_now

SEPTEMBER = ("--from", "2026-09-01", "--to", "2026-09-05")


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProviders]:
    """Give both APIs and name them in the environment, with their keys."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", OPENAI_KEY)
    monkeypatch.setenv("ANTHROPIC_ADMIN_KEY", ANTHROPIC_KEY)
    with running_providers() as running:
        running.tell_samples()
        monkeypatch.setenv("TOKENBUDGET_OPENAI_URL", running.url)
        monkeypatch.setenv("TOKENBUDGET_ANTHROPIC_URL", running.url)
        yield running


def test_a_pull_prints_what_came_of_each_report(command: Command, providers: FakeProviders) -> None:
    result = command("bills", "pull", "--source", "anthropic", *SEPTEMBER, "--json")

    assert result.code == 0
    assert [row["source"] for row in result.rows] == ["anthropic-costs", "anthropic-usage"]
    costs = result.rows[0]
    assert (costs["from"], costs["to"], costs["days"]) == ("2026-09-01", "2026-09-05", 4)
    assert costs["total_amount"] == {"USD": "20.492318750"}
    assert costs["failure"] is None


def test_days_that_are_told_under_another_account_too_are_warned_of(
    command: Command, providers: FakeProviders
) -> None:
    pull = ("bills", "pull", "--source", "openai", *SEPTEMBER)
    command(*pull)

    again = command(*pull, "--account", "acme")

    assert again.code == 0
    assert "warning: openai-costs: 2026-09-01 to 2026-09-0" in again.err
    assert "without an account and under 'acme'" in again.err


def test_a_pull_without_days_reads_the_usual_ones(
    command: Command, providers: FakeProviders
) -> None:
    result = command("bills", "pull", "--source", "openai", "--json")

    assert result.code == 0
    assert {row["to"] for row in result.rows} == {utc_now().date().isoformat()}


def test_the_account_is_that_of_the_option_before_that_of_the_setting(
    command: Command, providers: FakeProviders
) -> None:
    first = command(
        *("bills", "pull", "--source", "openai", *SEPTEMBER, "--json"), openai_account="acme"
    )
    same = command("bills", "pull", "--source", "openai", *SEPTEMBER, "--account", "acme", "--json")
    other = command(
        *("bills", "pull", "--source", "openai", *SEPTEMBER, "--account", "other", "--json"),
        openai_account="acme",
    )

    changed = [ran.rows[0]["changed_days"] for ran in (first, same, other)]
    assert changed == [3, 0, 3]


def test_a_table_shows_the_totals(command: Command, providers: FakeProviders) -> None:
    result = command("bills", "pull", "--source", "openai", *SEPTEMBER)

    assert result.code == 0
    assert "13.775212000 USD" in result.out


def test_a_missing_key_is_one_line_that_names_the_variable(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)

    result = command("bills", "pull", "--source", "openai")

    assert result.code == 2
    assert "OPENAI_ADMIN_KEY is not set" in result.error


def test_a_wrong_key_is_never_printed(
    command: Command, providers: FakeProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-wrong")

    result = command("bills", "pull", "--source", "openai", *SEPTEMBER, log_level="debug")

    assert result.code == 2
    assert "OPENAI_ADMIN_KEY" in result.err
    assert "sk-admin-wrong" not in result.out + result.err
    assert "Traceback" not in result.err


def test_a_right_key_is_never_printed(command: Command, providers: FakeProviders) -> None:
    providers.faults.append(Fault(400, body=f"you sent {OPENAI_KEY}".encode()))

    pulled = command("bills", "pull", "--source", "openai", *SEPTEMBER, log_level="debug")
    settings = command("doctor", "--settings", "--json")
    doctor = command("doctor")

    for ran in (pulled, settings, doctor):
        assert OPENAI_KEY not in ran.out + ran.err


def test_a_report_that_failed_is_one_error_after_the_table(
    command: Command, providers: FakeProviders
) -> None:
    providers.faults.append(Fault(404, body=b"no such thing"))

    result = command("bills", "pull", "--source", "openai", *SEPTEMBER, "--json")

    assert result.code == 2
    assert "openai refuses GET /v1/organization/costs (status 404)" in result.error
    assert result.rows[0]["failure"] is not None
    assert [row["failure"] for row in result.rows[1:]] == [None] * 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("--source", "mistral"),
        ("--source", "openai", "--from", "2026-09-05", "--to", "2026-09-01"),
        ("--source", "openai", "--from", "yesterday"),
    ],
)
def test_what_cannot_be_pulled_is_refused(
    command: Command, providers: FakeProviders, arguments: tuple[str, ...]
) -> None:
    result = command("bills", "pull", *arguments)

    assert result.code == 2
    assert providers.asked == []


def test_the_doctor_says_when_a_pull_is_late(
    command: Command, opened: Services, providers: FakeProviders
) -> None:
    before = command("doctor", "--json")
    command("bills", "pull", "--source", "openai")
    after = command("doctor", "--json")

    def bills_of(provider: str, rows: list[dict[str, str]]) -> str:
        [row] = [row for row in rows if row["part"] == f"bills of {provider}"]
        return row["ok"]

    assert (before.code, bills_of("openai", before.rows)) == (1, "no")
    assert bills_of("openai", after.rows) == "yes"
    assert bills_of("anthropic", after.rows) == "no"


def test_the_doctor_says_nothing_of_bills_without_a_key(command: Command) -> None:
    result = command("doctor", "--json")

    assert result.code == 0
    assert not [row for row in result.rows if row["part"].startswith("bills")]


def test_a_day_is_named_in_utc(command: Command, providers: FakeProviders) -> None:
    tomorrow = (utc_now() + timedelta(days=2)).date().isoformat()

    result = command("bills", "pull", "--source", "openai", "--to", tomorrow)

    assert result.code == 2
    assert "days after today" in result.error
