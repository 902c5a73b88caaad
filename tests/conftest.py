"""What every test may use: a frozen clock, the services of the machine, and no way out of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import settings as hypothesis_settings

pytest_plugins = ("tests.store_fixtures",)

POSTGRES_URL_VARIABLE = "TOKENBUDGET_TEST_POSTGRES_URL"
DEFAULT_POSTGRES_URL = "postgresql://root@127.0.0.1:5432/test"
REQUIRE_SERVICES = os.environ.get("TOKENBUDGET_REQUIRE_SERVICES") == "1"
CONNECT_TIMEOUT_SECONDS = 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOCAL_NAMES = frozenset({"", "localhost", "testserver"})
NAMING_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
SENDING_EVENTS = frozenset({"socket.connect", "socket.sendto"})

hypothesis_settings.register_profile("local", deadline=None)
hypothesis_settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis_settings.load_profile("ci" if REQUIRE_SERVICES else "local")


class OutsideConnection(RuntimeError):
    """A test tried to reach another machine."""


def _is_local(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in LOCAL_NAMES:
        return True
    try:
        address = ip_address(str(name))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_outside_connections(event: str, arguments: tuple[object, ...]) -> None:
    if event in NAMING_EVENTS:
        host = arguments[0]
    elif event in SENDING_EVENTS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_local(host):
        raise OutsideConnection(f"tests must not reach {host!r}: only loopback is allowed")


# An audit hook sees every socket of the process, whichever library opened it, and cannot be undone.
sys.addaudithook(_refuse_outside_connections)


class FrozenClock:
    """A clock that stands still until it is advanced; call it to read the time."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Give the current time of this clock."""
        return self.now

    def advance(self, *, seconds: int = 0, minutes: int = 0, hours: int = 0, days: int = 0) -> None:
        """Move the clock forward."""
        self.now += timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)


def require_service(
    name: str, *, available: bool, reason: str, required: bool = REQUIRE_SERVICES
) -> None:
    """Skip the test when a service is not there; fail it where services are required."""
    if available:
        return
    message = f"{name} is not available: {reason}"
    if required:
        pytest.fail(f"{message} (TOKENBUDGET_REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(message)


@pytest.fixture
def clock() -> FrozenClock:
    """Give a clock that stands at 2026-11-20T12:00:00Z."""
    return FrozenClock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the SQLAlchemy URL of an empty PostgreSQL database of this test process."""
    server_url = os.environ.get(POSTGRES_URL_VARIABLE, DEFAULT_POSTGRES_URL)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"tokenbudget_{worker}_{os.getpid()}"
    fault = _run_statement(server_url, f"CREATE DATABASE {name}")
    require_service("PostgreSQL", available=fault is None, reason=fault or "")
    parts = urlsplit(server_url)
    yield urlunsplit(parts._replace(scheme="postgresql+psycopg", path=f"/{name}"))
    _run_statement(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Give the path of a Chromium that pages and reports can be rendered in."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    require_service("Chromium", available=found is not None, reason=f"none of {BROWSERS} on PATH")
    return found or ""


def _run_statement(server_url: str, statement: str) -> str | None:
    """Give None once the statement has run on the server, or the reason why it could not."""
    try:
        with psycopg.connect(
            server_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS
        ) as connection:
            connection.execute(statement.encode())
    except psycopg.Error as error:
        return str(error).strip()
    return None
