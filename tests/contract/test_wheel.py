"""The wheel works where only the wheel is: data is found, commands run, the server serves."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
import venv
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.contract.source_files import REPOSITORY
from tests.server_process import serving

SHIPPED = ("alembic", "pricing", "reports")
BUILD_SECONDS = 120
RUN_SECONDS = 60


def run(*command: str | Path, cwd: Path, timeout: int = RUN_SECONDS) -> str:
    """Give what the command printed; the test fails with its output when it does not end well."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TOKENBUDGET_")
    }
    result = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel built from this checkout, through its sdist as a release would be."""
    output = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", output, REPOSITORY)
    run(*build, cwd=output, timeout=BUILD_SECONDS)
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the scripts folder of an empty environment with the wheel in it.

    Its dependencies come from this environment by a path file, which follows no editable install.
    """
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    scripts = home / "bin"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = (sys.executable, "-m", "pip", "--python", scripts / "python", "install")
    run(*install, "--quiet", "--no-deps", "--no-index", wheel_path, cwd=home)
    return scripts


def test_the_installed_command_shows_its_help(installed: Path, tmp_path: Path) -> None:
    printed = run(installed / "tokenbudget", "--help", cwd=tmp_path)

    assert "serve" in printed


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_data_is_found_in_the_installed_package(
    installed: Path, tmp_path: Path, name: str
) -> None:
    question = f"from tokenbudget.settings import packaged_path; print(packaged_path({name!r}))"

    found = Path(run(installed / "python", "-c", question, cwd=tmp_path).strip())

    assert found.parts[-3:] == ("tokenbudget", "_data", name)
    assert found.is_relative_to(installed.parent.resolve())
    assert any(found.iterdir())


def test_the_installed_code_is_the_wheel_and_not_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    question = "import tokenbudget; print(tokenbudget.__file__)"

    found = Path(run(installed / "python", "-c", question, cwd=tmp_path).strip())

    assert not found.is_relative_to(REPOSITORY)


def test_the_installed_wheel_migrates_a_database(installed: Path, tmp_path: Path) -> None:
    printed = run(installed / "tokenbudget", "db", "upgrade", cwd=tmp_path)

    with closing(sqlite3.connect(tmp_path / "data" / "tokenbudget.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert printed == "the database is current\n"
    assert {"usage", "charges", "rollups", "counters", "holds", "outbox"} <= tables


def test_the_installed_wheel_loads_the_price_book(installed: Path, tmp_path: Path) -> None:
    lookup = ("prices", "lookup", "openai", "gpt-4o", "--at", "2026-11-20T12:00:00Z", "--json")

    [row] = json.loads(run(installed / "tokenbudget", *lookup, cwd=tmp_path))

    assert (row["million_input_tokens"], row["million_output_tokens"]) == ("2.5", "10")


def test_the_installed_wheel_renders_a_report(installed: Path, tmp_path: Path) -> None:
    report = ("report", "weekly", "--week", "2026-W40", "--out", "reports", "--json")

    [row] = json.loads(run(installed / "tokenbudget", *report, cwd=tmp_path))

    text = (tmp_path / row["file"]).read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "</style>" in text


def test_the_installed_wheel_serves(installed: Path, tmp_path: Path) -> None:
    command = (str(installed / "tokenbudget"), "serve")

    with serving(tmp_path, command=command) as server:
        health = httpx.get(f"{server.url}/healthz")
        page = httpx.get(f"{server.url}/")
        style = httpx.get(f"{server.url}/static/base.css")

    assert health.json() == {"status": "ok"}
    assert page.headers["content-type"].startswith("text/html")
    assert style.headers["content-type"].startswith("text/css")
