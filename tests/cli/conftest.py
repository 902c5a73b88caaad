"""Running commands as a shell would: arguments in; exit code, output and error out."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builders import make_events
from tokenbudget.bootstrap import Services, open_price_list, open_services, prepare_database
from tokenbudget.cli import main
from tokenbudget.settings import load_settings

COMMAND = str(Path(sys.executable).with_name("tokenbudget"))
PROCESS_SECONDS = 120


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Give the rows that ``--json`` printed."""
        rows: list[dict[str, Any]] = json.loads(self.out)
        return rows

    @property
    def error(self) -> str:
        """Give the one line on standard error; fails when there are more or a trace."""
        assert "Traceback" not in self.out + self.err
        [line] = self.err.splitlines()
        return line


Command = Callable[..., Ran]


@pytest.fixture(scope="session")
def data_template(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data directory to copy, as a first command leaves it: migrated, prices compiled."""
    directory = tmp_path_factory.mktemp("template") / "data"
    directory.mkdir()
    shutil.copyfile(sqlite_template, directory / "tokenbudget.db")
    open_price_list(load_settings(data_dir=directory))
    return directory


@pytest.fixture
def command(
    tmp_path: Path,
    data_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """Give a function that runs a command in this process, on a data directory of its own.

    Making one takes longer than most commands do, so it is a copy.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    shutil.copytree(data_template, tmp_path / "data")
    monkeypatch.setenv("TOKENBUDGET_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str | Path, stdin: bytes = b"", **variables: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tokenbudget", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with monkeypatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(f"TOKENBUDGET_{name.upper()}", value)
            code = _exit_code()
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def run_process(*arguments: str | Path, **variables: str) -> Ran:
    """Run the installed command in a process of its own."""
    result = subprocess.run(
        [COMMAND, *map(str, arguments)],
        env={**os.environ, **_environment(variables)},
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=False,
    )
    return Ran(result.returncode, result.stdout, result.stderr)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {f"TOKENBUDGET_{name.upper()}": value for name, value in variables.items()}


@pytest.fixture
def opened(tmp_path: Path, command: Command) -> Iterator[Services]:
    """Give the services on the data directory that the commands of this test use."""
    services = open_services(load_settings())
    prepare_database(services)
    yield services
    services.database.close()


@pytest.fixture
def events_file(tmp_path: Path) -> Path:
    """Give a file of three events that have a price in the price book that ships."""
    path = tmp_path / "events.jsonl"
    events = make_events(3, provider="openai", model="gpt-5.2")
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path
