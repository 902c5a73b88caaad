"""``selfcheck``, ``doctor`` and ``db upgrade``, on installations that work and that do not."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tokenbudget import __version__
from tokenbudget.bootstrap import Services
from tokenbudget.settings import Settings, variable_name
from tokenbudget.store.db import table_of
from tokenbudget.store.tables import RollupRow

COMMANDS_WITH_A_DATABASE = [
    ("selfcheck",),
    ("db", "upgrade"),
    ("keys", "list"),
    ("budgets", "status"),
]


def database_file(tmp_path: Path) -> Path:
    """Give the file of the ledger in the test's data directory."""
    return tmp_path / "data" / "tokenbudget.db"


def test_the_version_is_printed(command: Command) -> None:
    result = command("--version")

    assert (result.code, result.out.strip()) == (0, __version__)


def test_selfcheck_is_clean_after_an_import(command: Command, events_file: Path) -> None:
    command("events", "import", events_file)

    result = command("selfcheck", "--json")

    assert result.code == 0
    assert {row["ok"] for row in result.rows} == {"yes"}
    assert result.rows[0]["checked"] == 1


def test_selfcheck_fails_when_a_rollup_lies(
    command: Command, opened: Services, events_file: Path
) -> None:
    command("events", "import", events_file)
    with opened.database.transaction() as session:
        session.connection().execute(table_of(RollupRow).update().values(effective_nanos=1))

    result = command("selfcheck")

    assert result.code == 1
    assert "NO" in result.out
    assert "rollups" in result.out


def test_the_doctor_finds_a_new_installation_in_order(command: Command) -> None:
    result = command("doctor", "--json")

    assert result.code == 0
    assert {row["part"]: row["ok"] for row in result.rows} == {
        "tokenbudget": "yes",
        "python": "yes",
        "price book": "yes",
        "database": "yes",
    }


def test_the_doctor_names_a_setting_at_fault(command: Command) -> None:
    result = command("doctor", "--json", port="many")

    faults = {row["part"]: row["detail"] for row in result.rows if row["ok"] == "no"}
    assert result.code == 1
    assert faults["settings"].startswith("TOKENBUDGET_PORT: ")


def test_the_doctor_names_a_database_at_fault(command: Command, tmp_path: Path) -> None:
    _pretend_newer(command, tmp_path)

    result = command("doctor", "--json")

    faults = {row["part"]: row["detail"] for row in result.rows if row["ok"] == "no"}
    assert result.code == 1
    assert "which this version does not know" in faults["database"]


def test_the_doctor_lists_every_setting_with_unit_and_default(command: Command) -> None:
    result = command("doctor", "--settings", "--json")

    assert result.code == 0
    assert [row["variable"] for row in result.rows] == [
        variable_name(name) for name in Settings.model_fields
    ]
    assert all(row["unit"] and row["description"] for row in result.rows)
    assert result.rows[0] == {
        "variable": "TOKENBUDGET_DATA_DIR",
        "unit": "directory",
        "default": "data",
        "description": "Where the embedded database and reports live",
    }


def test_upgrading_twice_is_upgrading_once(command: Command, tmp_path: Path) -> None:
    first = command("db", "upgrade")
    before = _dump(tmp_path)
    second = command("db", "upgrade")

    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out == "the database is current\n"
    assert _dump(tmp_path) == before


@pytest.mark.parametrize("arguments", COMMANDS_WITH_A_DATABASE)
def test_a_database_newer_than_the_code_is_refused_and_left_alone(
    command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    _pretend_newer(command, tmp_path)
    before = _dump(tmp_path)

    result = command(*arguments)

    assert (result.code, result.error) == (
        2,
        "tokenbudget: the database is at revision 'from_the_future', which this version does not "
        "know; use the newer code",
    )
    assert _dump(tmp_path) == before


def test_a_database_older_than_the_code_is_refused_when_it_may_not_be_migrated(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "data" / "tokenbudget.db").unlink()

    result = command("selfcheck", migrate_on_start="false")

    assert (result.code, result.error) == (
        2,
        "tokenbudget: the database is older than the code; run: tokenbudget db upgrade",
    )


@pytest.mark.parametrize("arguments", COMMANDS_WITH_A_DATABASE)
def test_a_data_directory_that_cannot_be_written_is_one_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    # Root may write anywhere but into a file.
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("in the way", encoding="utf-8")

    result = command(*arguments)

    assert result.code == 2
    assert result.error.startswith(
        f"tokenbudget: the data directory {tmp_path / 'data'} cannot be written: "
    )


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"database_url": "mysql://x"}, "TOKENBUDGET_DATABASE_URL: must be sqlite:///<file> or"),
        ({"timezone": "Mars/Olympus"}, "TOKENBUDGET_TIMEZONE: must be an IANA zone"),
        ({"currency": "dollars"}, "TOKENBUDGET_CURRENCY: "),
        ({"auth": "off", "host": "0.0.0.0"}, "TOKENBUDGET_AUTH: off is allowed only when"),
        ({"workers": "2"}, "TOKENBUDGET_WORKERS: more than 1 needs PostgreSQL"),
    ],
)
def test_a_setting_at_fault_is_named_in_one_line(
    command: Command, variables: dict[str, str], fault: str
) -> None:
    result = command("selfcheck", **variables)

    assert result.code == 2
    assert result.error.startswith(f"tokenbudget: {fault}")


def test_a_database_that_does_not_answer_is_one_line(command: Command) -> None:
    result = command("selfcheck", database_url="postgresql://root:hunter2@127.0.0.1:1/none")

    assert result.code == 1
    assert result.error.startswith("tokenbudget: the database cannot answer: ")
    assert "hunter2" not in result.error


def test_a_command_that_does_not_exist_is_bad_usage(command: Command) -> None:
    result = command("fly")

    assert result.code == 2
    assert "fly" in result.err


def test_something_unexpected_is_logged_and_ends_with_one(command: Command, tmp_path: Path) -> None:
    command("keys", "create", "gateway", "--scope", "read")
    with sqlite3.connect(database_file(tmp_path)) as connection:
        connection.execute("UPDATE api_keys SET scopes = '{'")

    result = command("keys", "list")

    assert result.code == 1
    assert result.err.splitlines()[-1] == (
        "tokenbudget: something went wrong; the log above has the details"
    )


def _pretend_newer(command: Command, tmp_path: Path) -> None:
    """Make the database of a later version."""
    command("db", "upgrade")
    with sqlite3.connect(database_file(tmp_path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")


def _dump(tmp_path: Path) -> list[str]:
    with sqlite3.connect(database_file(tmp_path)) as connection:
        return list(connection.iterdump())
