"""Whatever JSON is sent is answered on purpose, and what is rejected leaves no trace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import broken_rules, make_check, make_event
from tests.conftest import FrozenClock
from tests.store_fixtures import ENGINES, make_services, open_postgres, open_sqlite
from tokenbudget.api.app import create_app
from tokenbudget.bootstrap import Services
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BudgetRow, ChargeRow, HoldRow, UsageRow

COUNTED = (UsageRow, ChargeRow, HoldRow, BudgetRow)
BUDGET = {"id": "all", "limit": "1.00", "window": "month", "mode": "hard", "split_by": ["tenant"]}

texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["\0", "2026-11-20T12:00:00Z", "0001-01-01T00:00:00+14:00", "1e999999", "NaN", "openai"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 10**30, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*make_event(), *make_check(), *BUDGET, "text", "messages", "revision"])


def changed(entry: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give entries that are valid but for a few fields."""
    return st.dictionaries(names | texts, values, max_size=3).map(
        lambda changes: {**entry, **changes}
    )


events = changed(make_event()) | values
bodies = st.one_of(
    events,
    st.lists(events, max_size=5),
    changed(make_check()),
    changed(BUDGET),
).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)

fuzzing = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Target:
    """A running application and its ledger."""

    client: TestClient
    database: Database

    def row_counts(self) -> dict[str, int]:
        """Give how many rows the tables have that only accepted input may add to."""
        with self.database.reading() as session:
            return {
                model.__name__: session.connection().scalar(
                    sa.select(sa.func.count()).select_from(table_of(model))
                )
                or 0
                for model in COUNTED
            }

    def send(self, method: str, path: str, body: bytes) -> tuple[Any, dict[str, int]]:
        """Give the answer and by how many rows each table grew; every refusal is a problem."""
        before = self.row_counts()
        answer = self.client.request(method, path, content=body)
        after = self.row_counts()
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"]
        return answer, {name: after[name] - before[name] for name in after}


@pytest.fixture(scope="module", params=ENGINES)
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """Give one application for all examples, on each engine in turn."""
    directory = tmp_path_factory.mktemp("fuzz")
    if request.param == "sqlite":
        path = directory / "ledger.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        database = open_sqlite(path)
    else:
        database = open_postgres(request.getfixturevalue("postgres_ledger_url"))
    clock = FrozenClock(datetime(2026, 11, 20, 12, tzinfo=UTC))
    services = _open(make_services(database, clock, directory))
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield Target(client, database)
    assert broken_rules(database) == []
    database.close()


def _open(services: Services) -> Services:
    opened = services.settings.model_copy(update={"auth": "off"})
    return Services(opened, services.database, services.price_list, services.clock)


@given(body=bodies)
@fuzzing
def test_events_are_recorded_or_refused(target: Target, body: bytes) -> None:
    answer, grown = target.send("POST", "/v1/events", body)

    accepted = answer.json()["accepted"] if answer.status_code == 200 else 0
    assert grown["UsageRow"] == accepted
    # A revision posts the negative of what it replaces beside its own charge.
    assert accepted <= grown["ChargeRow"] <= 2 * accepted
    assert grown["BudgetRow"] == grown["HoldRow"] == 0


@given(body=bodies)
@fuzzing
def test_checks_are_decided_or_refused(target: Target, body: bytes) -> None:
    answer, grown = target.send("POST", "/v1/quota/check", body)

    held = answer.status_code == 200 and answer.json()["hold_id"] is not None
    assert grown == {"UsageRow": 0, "ChargeRow": 0, "HoldRow": int(held), "BudgetRow": 0}


@given(body=bodies)
@fuzzing
def test_budgets_are_written_or_refused(target: Target, body: bytes) -> None:
    answer, grown = target.send("POST", "/v1/budgets", body)

    written = answer.status_code == 201
    assert grown == {"UsageRow": 0, "ChargeRow": 0, "HoldRow": 0, "BudgetRow": int(written)}


@given(body=bodies)
@fuzzing
def test_owners_are_applied_or_refused(target: Target, body: bytes) -> None:
    _, grown = target.send("PUT", "/v1/owners", body)

    assert not any(grown.values())


@given(
    hold_id=st.text(st.characters(codec="utf-8"), max_size=12),
    action=st.sampled_from(["", "/release", "/extend"]),
    body=bodies,
)
@fuzzing
def test_holds_that_nobody_granted_are_refused(
    target: Target, hold_id: str, action: str, body: bytes
) -> None:
    method = "POST" if action else "GET"
    quoted = "".join(f"%{byte:02x}" for byte in hold_id.encode()) or "x"

    answer, grown = target.send(method, f"/v1/quota/holds/{quoted}{action}", body)

    assert answer.status_code >= 400
    assert not any(grown.values())


@given(
    parameters=st.dictionaries(
        st.sampled_from(
            ["start", "end", "group_by", "filter", "limit", "cursor", "timezone", "at", "model"]
        )
        | texts,
        st.text(st.characters(codec="utf-8"), max_size=12),
        max_size=5,
    ),
    path=st.sampled_from(
        ["/v1/costs", "/v1/owners", "/v1/alerts", "/v1/prices/lookup", "/v1/prices/rerates"]
    )
    | st.integers().map("/v1/prices/rerates/{}".format),
)
@fuzzing
def test_questions_are_answered_or_refused(
    target: Target, parameters: dict[str, str], path: str
) -> None:
    answer = target.client.get(
        path, params={_encodable(name): value for name, value in parameters.items()}
    )

    assert answer.status_code < 500, answer.text


def _encodable(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode()
