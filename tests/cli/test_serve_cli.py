"""``serve`` as a process: its first key, its refusals and its end."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.builders import make_event
from tests.cli.conftest import run_process
from tests.server_process import free_port, serving

FIRST_KEY = re.compile(r"^First API key \(admin\), shown this once: (tb_\S+)$", re.MULTILINE)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Give a loopback port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_first_start_prints_one_admin_key_once(tmp_path: Path) -> None:
    with serving(tmp_path, auth="keys") as server:
        keys = FIRST_KEY.findall(server.log.read_text())
        answers = [
            httpx.post(f"{server.url}/v1/events", json=make_event(), headers=headers).status_code
            for headers in ({"authorization": f"Bearer {keys[0]}"}, {})
        ]
        page = httpx.get(f"{server.url}/", auth=("admin", keys[0])).status_code
        server.stop()
    with serving(tmp_path, auth="keys") as server:
        log = server.log.read_text()

    assert len(keys) == 1
    assert (answers, page) == ([200, 401], 200)
    assert FIRST_KEY.findall(log) == keys


def test_the_server_needs_no_key_on_loopback_when_told_so(tmp_path: Path) -> None:
    with serving(tmp_path, auth="off") as server:
        health = httpx.get(f"{server.url}/healthz")
        unknown = httpx.get(f"{server.url}/nothing")
        page = httpx.get(f"{server.url}/")
        log = server.log.read_text()

    assert health.json() == {"status": "ok"}
    assert unknown.headers["content-type"] == "application/problem+json"
    assert page.headers["content-type"].startswith("text/html")
    assert FIRST_KEY.findall(log) == []


def test_serving_everybody_without_keys_is_refused(tmp_path: Path) -> None:
    result = run_process("serve", "--host", "0.0.0.0", data_dir=str(tmp_path), auth="off")

    assert (result.code, result.error) == (
        2,
        "tokenbudget: TOKENBUDGET_AUTH: off is allowed only when TOKENBUDGET_HOST is a loopback "
        "address",
    )
    assert list(tmp_path.iterdir()) == []


def test_several_workers_on_sqlite_are_refused(tmp_path: Path) -> None:
    result = run_process("serve", "--workers", "2", data_dir=str(tmp_path))

    assert result.code == 2
    assert "more than 1 needs PostgreSQL, since SQLite has one writer" in result.error


def test_a_port_in_use_is_one_line_and_nothing_is_made(tmp_path: Path, taken_port: int) -> None:
    directory = tmp_path / "data"

    result = run_process("serve", "--port", str(taken_port), data_dir=str(directory))

    assert (result.code, result.error) == (
        2,
        f"tokenbudget: cannot listen on 127.0.0.1:{taken_port}: Address already in use",
    )
    assert result.out == ""
    assert not list(directory.glob("*.db"))


def test_an_address_that_is_not_ours_is_one_line(tmp_path: Path) -> None:
    result = run_process(
        "serve", "--host", "192.0.2.1", "--port", str(free_port()), data_dir=str(tmp_path)
    )

    assert result.code == 2
    assert result.error.startswith("tokenbudget: cannot listen on 192.0.2.1:")


def test_a_data_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.touch()

    result = run_process("serve", "--port", str(free_port()), data_dir=str(path))

    assert result.code == 2
    assert result.error.startswith(f"tokenbudget: the data directory {path} cannot be written")
