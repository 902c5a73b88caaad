"""The FinOps Foundation's own validator in an environment of its own, and how it is run.

It needs Python 3.12 and carries the rules of FOCUS 1.2, so no network is asked when it runs. The
environment is kept under the temporary directory by the digest of what is installed, and made once
a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import pytest

from tests.conftest import require_service

# The newer pyarrow refuses the numpy that the validator requires.
REQUIREMENTS: Final = ("focus-validator==2.2.1", "pyarrow<26")
PYTHON_VARIABLE: Final = "PYTHON312"
PYENV_PYTHONS: Final = "versions/3.12*/bin/python3.12"
VERSION: Final = (3, 12)
ENVIRONMENT: Final = "environment"
INSTALL_SECONDS: Final = 900
RUN_SECONDS: Final = 300
FAULT_LINES: Final = 3
RULES: Final = 578
CRITERIA: Final = (
    "ACCOUNT_NAMING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED",
    "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED",
    "REGION_SUPPORTED",
)
# One of the two always fails: they are the arms of an alternative, reported one by one.
EXCUSED: Final = frozenset({"InvoiceId-C-004-C", "InvoiceId-C-005-C"})
FAILED: Final = re.compile(r" (\S+): FAIL\b")
TOTAL: Final = re.compile(r"^Total: (\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What the validator says: how many rules it knows, and which fail that may not."""

    rules: int
    failed: frozenset[str]
    report: str


@lru_cache(maxsize=1)
def validator_home() -> Path:
    """Give the environment with the validator in it.

    Without any Python 3.12 the test is skipped; where it cannot be installed, the test fails if
    services are required.
    """
    python = find_python()
    if python is None:
        pytest.skip("the FOCUS validator needs Python 3.12, and none was found")
    digest = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:16]
    home = Path(gettempdir()) / f"tokenbudget-{os.getuid()}-focus-{digest}"
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / "installed"
        if not stamp.exists():
            fault = _install(python, home)
            require_service("focus-validator", available=fault is None, reason=fault or "")
            stamp.touch()
    return home / ENVIRONMENT


def find_python() -> str | None:
    """Give a Python 3.12 of this machine: the one named, on PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [
        os.environ.get(PYTHON_VARIABLE),
        shutil.which("python3.12"),
        *map(str, sorted(pyenv.glob(PYENV_PYTHONS))),
    ]
    return next((python for python in candidates if python and _is_wanted(python)), None)


def validate(path: Path, directory: Path) -> Verdict:
    """Give what the validator says of a file; ``directory`` is where it writes its log."""
    scripts = validator_home() / "bin"
    [package] = validator_home().glob("lib/python3.*/site-packages/focus_validator")
    directory.mkdir()
    # It opens some of its rules relative to the directory it runs in.
    (directory / package.name).symlink_to(package)
    command = (
        *(str(scripts / "focus-validator"), "--data-file", str(path.resolve())),
        *("--validate-version", "1.2", "--block-download"),
        *("--applicability-criteria", ",".join(CRITERIA)),
    )
    result = subprocess.run(
        command,
        cwd=directory,
        env={**_kept_environment(), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )
    total = TOTAL.search(result.stdout)
    assert total, f"the validator did not run: {result.stderr[-2_000:]}"
    failed = frozenset(FAILED.findall(result.stdout)) - EXCUSED
    return Verdict(int(total[1]), failed, result.stdout)


def _is_wanted(python: str) -> bool:
    question = "import sys, venv; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run(
            (python, "-c", question), capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return False
    return answer.stdout.split() == [str(part) for part in VERSION]


def _install(python: str, home: Path) -> str | None:
    """Give None once the environment is complete, or the reason why it could not be made."""
    made = home / ENVIRONMENT
    steps = (
        (python, "-m", "venv", "--clear", str(made)),
        (str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS),
    )
    for step in steps:
        result = subprocess.run(
            step,
            env=_kept_environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if result.returncode:
            return " ".join(result.stderr.splitlines()[-FAULT_LINES:]) or "pip gave no reason"
    return None


def _kept_environment() -> dict[str, str]:
    """Give the environment without what belongs to the Python that runs the tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOKENBUDGET_", "PYTHON", "VIRTUAL_ENV", "PYTEST_", "COV_"))
    }
