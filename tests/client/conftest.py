"""A running service, and clients of it whose spool is the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.fake_provider import FakeProvider, providing
from tests.client.fake_service import FakeService
from tests.server_process import ServerProcess, free_port, serving
from tokenbudget.client import Client, Manner

MakeClient = Callable[..., Client]
BUDGET = {"id": "small", "limit": "0.02", "window": "month", "mode": "hard", "split_by": ["tenant"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a running service with a budget of two cents for each tenant."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        response = httpx.post(f"{running.url}/v1/budgets", json=BUDGET)
        assert response.status_code == 201, response.text
        yield running


@pytest.fixture
def absent_url() -> str:
    """Give an address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def make_client(server: ServerProcess, tmp_path: Path) -> Iterator[MakeClient]:
    """Give a function that makes clients, of the running service unless told otherwise."""
    with ExitStack() as opened:

        def make(url: str = server.url, **manner: Any) -> Client:
            chosen = Manner(**{"spool_directory": tmp_path, "timeout_seconds": 5.0, **manner})
            client = Client(url, tags={"team": "growth"}, manner=chosen)
            opened.callback(client.close)
            return client

        yield make


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    """Give a provider on loopback."""
    with providing() as running:
        yield running


@pytest.fixture
def service(provider: FakeProvider) -> FakeService:
    """Give a service in the process, of which the provider remembers nothing yet."""
    provider.asked.clear()
    provider.headers.clear()
    return FakeService()


@pytest.fixture
def client(service: FakeService, tmp_path: Path) -> Iterator[Client]:
    """Give a client of that service."""
    with service.client(tmp_path) as opened:
        yield opened
