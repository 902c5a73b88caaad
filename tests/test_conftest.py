"""The guards of the test run work."""

from __future__ import annotations

import socket

import psycopg
import pytest

from tests.conftest import FrozenClock, OutsideConnection, require_service


def test_a_socket_to_another_machine_is_refused() -> None:
    with (
        socket.socket() as outside,
        pytest.raises(OutsideConnection, match=r"192\.0\.2\.1"),
    ):
        outside.connect(("192.0.2.1", 80))


def test_looking_up_another_machine_is_refused() -> None:
    with pytest.raises(OutsideConnection, match=r"example\.com"):
        socket.getaddrinfo("example.com", 443)


def test_a_socket_to_loopback_is_allowed() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        peer = connection.getpeername()

    assert peer[0] == "127.0.0.1"


def test_a_missing_service_skips_the_test() -> None:
    with pytest.raises(pytest.skip.Exception, match="Mainframe is not available: it is old"):
        require_service("Mainframe", available=False, reason="it is old", required=False)


def test_a_missing_service_fails_the_test_where_services_are_required() -> None:
    with pytest.raises(pytest.fail.Exception, match="Mainframe is not available: it is old"):
        require_service("Mainframe", available=False, reason="it is old", required=True)


def test_the_postgres_database_starts_empty(postgres_url: str) -> None:
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()

    assert rows == (0,)


def test_a_frozen_clock_moves_only_when_advanced(clock: FrozenClock) -> None:
    before = clock()

    clock.advance(seconds=90)

    assert (clock() - before).total_seconds() == 90
