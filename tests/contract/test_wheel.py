"""The wheel works where only the wheel is: commands run, and shipped data is found."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.contract.source_files import REPOSITORY

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
