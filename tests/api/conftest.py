"""The API over HTTP on an empty ledger, at the time of the frozen clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tokenbudget.api.app import create_app
from tokenbudget.bootstrap import Services

MakeClient = Callable[..., TestClient]


@pytest.fixture
def make_client(services: Services) -> Iterator[MakeClient]:
    """Give a function that opens a client of the application, with settings of the test's own.

    ``on`` stands in for the usual services. No key is asked for unless the settings say so, and the
    writer runs until the test ends.
    """
    with ExitStack() as opened:

        def make(on: Services = services, **settings: Any) -> TestClient:
            changed = on.settings.model_copy(update={"auth": "off", **settings})
            app = create_app(replace(on, settings=changed))
            return opened.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """Give a client that needs no key."""
    return make_client()
