"""The FinOps Foundation's validator passes exports of a ledger with something of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.bill_cases import BILLING
from tests.services.focus_cases import OCTOBER, SEPTEMBER, export_file, fill_everything
from tests.services.focus_validator import RULES, validate
from tokenbudget.bootstrap import Services
from tokenbudget.domain.periods import Period
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database

PERIODS = {
    "closed": SEPTEMBER,
    "open": OCTOBER,
    "closed-and-open": Period(SEPTEMBER.start, OCTOBER.end),
}


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """Give a ledger on SQLite: that rows are the same on both engines is tested elsewhere."""
    return sqlite_database


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", PERIODS)
def test_the_validator_passes_what_is_exported(
    services: Services, ledger: Ledger, tmp_path: Path, name: str, kind: str
) -> None:
    fill_everything(services, ledger)
    file = export_file(services.database, tmp_path / f"focus.{kind}", period=PERIODS[name])

    verdict = validate(file.path, tmp_path / "run")

    assert verdict.rules == RULES
    assert not verdict.failed, verdict.report


def test_the_validator_does_find_what_is_wrong(tmp_path: Path) -> None:
    verdict = validate(BILLING / "focus-1.2-llm-invalid.csv", tmp_path / "run")

    assert verdict.rules == RULES
    assert len(verdict.failed) > 20
