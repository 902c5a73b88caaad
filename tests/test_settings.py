"""Settings come from the environment, refuse unsafe values by name, and find shipped data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.settings import (
    Settings,
    describe_settings,
    is_loopback,
    load_settings,
    packaged_path,
    variable_name,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away every setting of the machine the tests run on."""
    for name in [name for name in os.environ if name.startswith("TOKENBUDGET_")]:
        monkeypatch.delenv(name)


def refusal(**overrides: object) -> str:
    """Give the one line with which these settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_the_defaults_are_an_embedded_database_on_loopback_with_keys() -> None:
    settings = load_settings()

    assert settings.database_url == "sqlite:///data/tokenbudget.db"
    assert settings.report_dir == Path("data/reports")
    assert settings.host == "127.0.0.1"
    assert settings.auth == "keys"
    assert settings.sqlite_synchronous == "FULL"
    assert settings.max_body_bytes == 10_485_760


def test_the_database_and_the_reports_follow_the_data_dir() -> None:
    settings = load_settings(data_dir="/var/lib/tokenbudget")

    assert settings.database_url == "sqlite:////var/lib/tokenbudget/tokenbudget.db"
    assert settings.report_dir == Path("/var/lib/tokenbudget/reports")


def test_the_environment_is_read_and_an_argument_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENBUDGET_PORT", "9000")
    monkeypatch.setenv("TOKENBUDGET_LOG_LEVEL", "DEBUG")

    assert load_settings().port == 9000
    assert load_settings().log_level == "debug"
    assert load_settings(port=9001).port == 9001


def test_an_argument_that_is_none_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENBUDGET_PORT", "9000")

    assert load_settings(port=None).port == 9000


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENBUDGET_WEBHOOK_URL", "")

    assert load_settings().webhook_url is None


def test_tags_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENBUDGET_UNROLLED_TAGS", "user, trace ,")

    assert load_settings().unrolled_tags == ("user", "trace")
    assert load_settings(unrolled_tags=("a",)).unrolled_tags == ("a",)


@pytest.mark.parametrize(
    "url", ["postgresql://u@h/db", "postgres://u@h/db", "postgresql+psycopg://u@h/db"]
)
def test_every_spelling_of_postgresql_uses_psycopg(url: str) -> None:
    assert load_settings(database_url=url).database_url == "postgresql+psycopg://u@h/db"


def test_an_address_loses_its_last_slash() -> None:
    assert load_settings(public_url="https://cost.example/").public_url == "https://cost.example"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"port": 65_536}, "TOKENBUDGET_PORT: Input should be less than or equal to 65535"),
        ({"timezone": "Mars"}, "TOKENBUDGET_TIMEZONE: must be an IANA zone such as Europe/Berlin"),
        ({"currency": "usd"}, "TOKENBUDGET_CURRENCY: String should match pattern '^[A-Z]{3}$'"),
        ({"auth": "none"}, "TOKENBUDGET_AUTH: Input should be 'keys' or 'off'"),
        ({"webhook_url": "ftp://x"}, "TOKENBUDGET_WEBHOOK_URL: must be an http:// or https:// URL"),
        ({"public_url": "http://"}, "TOKENBUDGET_PUBLIC_URL: must be an http:// or https:// URL"),
        ({"colour": "red"}, "TOKENBUDGET_COLOUR: Extra inputs are not permitted"),
        (
            {"hold_ttl_seconds": 90, "hold_max_seconds": 60},
            "TOKENBUDGET_HOLD_TTL_SECONDS: must not exceed TOKENBUDGET_HOLD_MAX_SECONDS",
        ),
    ],
)
def test_a_bad_value_is_refused_by_variable_and_rule(
    overrides: dict[str, object], line: str
) -> None:
    assert refusal(**overrides) == line


@pytest.mark.parametrize("url", ["mysql://h/db", "sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_that_cannot_keep_the_ledger_is_refused(url: str) -> None:
    assert refusal(database_url=url).startswith("TOKENBUDGET_DATABASE_URL: must be sqlite:///")


def test_only_the_cause_is_named_when_one_fault_causes_others() -> None:
    assert refusal(data_dir=3).count("TOKENBUDGET_") == 1


def test_two_faults_are_both_named() -> None:
    assert refusal(port=-1, workers=0) == (
        "TOKENBUDGET_PORT: Input should be greater than or equal to 0; "
        "TOKENBUDGET_WORKERS: Input should be greater than or equal to 1"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_auth_may_be_off_on_loopback(host: str) -> None:
    assert is_loopback(host)
    assert load_settings(auth="off", host=host).auth == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "cost.example"])
def test_auth_is_never_off_where_others_can_reach(host: str) -> None:
    assert refusal(auth="off", host=host) == (
        "TOKENBUDGET_AUTH: off is allowed only when TOKENBUDGET_HOST is a loopback address"
    )


def test_many_workers_need_postgresql() -> None:
    assert refusal(workers=2).startswith("TOKENBUDGET_WORKERS: more than 1 needs PostgreSQL")
    assert load_settings(workers=2, database_url="postgresql://h/db").workers == 2


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_secrets_are_not_shown_when_settings_are_printed() -> None:
    settings = load_settings(
        database_url="postgresql://root:hunter2@h/db", webhook_secret="opensesame"
    )

    assert "hunter2" not in repr(settings)
    assert "opensesame" not in repr(settings)


def test_a_refused_secret_is_not_repeated() -> None:
    assert "hunter2" not in refusal(database_url="mysql://root:hunter2@h/db")


def test_every_setting_is_described_with_its_unit_and_default() -> None:
    rows = {row["variable"]: row for row in describe_settings()}

    assert list(rows) == [variable_name(name) for name in Settings.model_fields]
    assert all(row["unit"] and row["description"] for row in rows.values())
    assert rows["TOKENBUDGET_DATABASE_URL"]["default"] == "sqlite:///<data dir>/tokenbudget.db"
    assert rows["TOKENBUDGET_MIGRATE_ON_START"]["default"] == "true"
    assert rows["TOKENBUDGET_UNROLLED_TAGS"]["default"] == (
        "user,session_id,conversation_id,request_id"
    )
    assert rows["TOKENBUDGET_WEBHOOK_URL"]["default"] == ""
    assert rows["TOKENBUDGET_HOLD_TTL_SECONDS"] == {
        "variable": "TOKENBUDGET_HOLD_TTL_SECONDS",
        "unit": "seconds",
        "default": "60",
        "description": "Life of a hold that names none",
    }


def test_shipped_data_is_found_at_the_root_of_a_checkout() -> None:
    checkout = Path(__file__).resolve().parents[1]

    assert packaged_path("pricing") == checkout / "pricing"


def test_missing_shipped_data_is_named() -> None:
    with pytest.raises(ConfigurationError, match="shipped data 'nothing' is missing"):
        packaged_path("nothing")


@pytest.mark.parametrize("variable", ["OPENAI_ADMIN_KEY", "TOKENBUDGET_OPENAI_ADMIN_KEY"])
def test_an_admin_key_has_two_variables_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    monkeypatch.setenv(variable, "sk-admin-secret")

    settings = load_settings()

    assert settings.openai_admin_key is not None
    assert settings.openai_admin_key.get_secret_value() == "sk-admin-secret"
    assert "sk-admin-secret" not in repr(settings) + str(describe_settings())
    assert settings.anthropic_admin_key is None
