"""Whatever the rules, attributing again moves money and makes none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import make_budget, make_event, record, set_budgets
from tests.conftest import FrozenClock
from tests.services.attribution_cases import propose, reattribute, set_rules, spent_by
from tests.store_fixtures import ENGINES, make_services, open_postgres, open_sqlite
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.rerating import CostDelta, sum_deltas
from tokenbudget.store.db import Database

TEAMS = st.sampled_from(["a", "b", "c"])
TAGS = st.dictionaries(st.sampled_from(["team", "feature", "tenant"]), TEAMS, max_size=2)
HOURS = st.integers(0, 23)
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "when": st.dictionaries(
                st.sampled_from(["feature", "tenant"]),
                TEAMS | st.fixed_dictionaries({"not": TEAMS}),
                max_size=1,
            ),
            "set": st.dictionaries(st.sampled_from(["team", "tenant"]), TEAMS, min_size=1),
        },
        optional={"valid_from": HOURS.map(lambda hour: f"2026-11-20T{hour:02d}:00:00Z")},
    ),
    max_size=3,
).map(lambda rules: [{"name": str(place), **rule} for place, rule in enumerate(rules)])


def check(
    database: Database,
    directory: Path,
    clock: FrozenClock,
    used: Sequence[tuple[dict[str, str], int]],
    rule_lists: Sequence[Sequence[dict[str, Any]]],
) -> None:
    """Record, then follow one list of rules after the other; totals stay and selfcheck holds."""
    ledger = make_ledger(make_services(database, clock, directory))
    budget = make_budget(limit="99", split_by=["team"], window="day", mode="soft")
    set_budgets(database, budget, now=clock())
    events = [
        make_event(event_id=str(place), tags=tags, occurred_at=f"2026-11-20T{hour:02d}:30:00Z")
        for place, (tags, hour) in enumerate(used)
    ]
    record(ledger, *events)
    for rules in rule_lists:
        set_rules(database, clock, *rules)
        applied = reattribute(database, clock)
        total = sum_deltas(applied.deltas.values())
        assert total == CostDelta()
        assert sum(spent_by(database).values()) == len(used) * 20_000_000
        assert propose(database, clock).proposed == CostDelta()


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    used=st.lists(st.tuples(TAGS, HOURS), min_size=1, max_size=6),
    rule_lists=st.lists(RULES, min_size=1, max_size=2),
)
def test_the_grand_total_stays(
    engine: str,
    used: list[tuple[dict[str, str], int]],
    rule_lists: list[list[dict[str, Any]]],
    clock: FrozenClock,
    sqlite_template: Path,
    postgres_ledger_url: str,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if engine == "sqlite":
            path = directory / "ledger.db"
            shutil.copyfile(sqlite_template, path)
            database = open_sqlite(path)
        else:
            database = open_postgres(postgres_ledger_url)
        try:
            check(database, directory, clock, used, rule_lists)
        finally:
            database.close()
