"""The API answers as it is described: no server error, no status the description lacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, BaseSchema, Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi.checks import status_code_conformance

from tests.conftest import FrozenClock
from tests.store_fixtures import make_services, open_sqlite
from tokenbudget.api.app import create_app

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
EXAMPLES = 15
FEWEST_OPERATIONS = 20
CHECKS = [not_a_server_error, status_code_conformance]


@pytest.fixture(scope="module")
def described(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BaseSchema]:
    """Give the description of a running application that asks for no key."""
    directory = tmp_path_factory.mktemp("described")
    path = directory / "ledger.db"
    shutil.copyfile(sqlite_template, path)
    database = open_sqlite(path)
    services = make_services(database, FrozenClock(datetime.now(UTC)), directory)
    open_settings = services.settings.model_copy(update={"auth": "off"})
    app = create_app(replace(services, settings=open_settings))
    # Schemathesis starts the application itself and would let it run until the process ends.
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    shutdown_lifespans()
    database.close()


def test_every_operation_answers_as_described(described: BaseSchema) -> None:
    operations = [found.ok() for found in described.get_all_operations() if isinstance(found, Ok)]

    for operation in operations:
        try_out(operation)

    assert len(operations) >= FEWEST_OPERATIONS


def try_out(operation: Operation) -> None:
    """Send what the description allows and what it does not."""

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS)

    send()
