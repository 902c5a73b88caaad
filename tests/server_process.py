"""A real ``tokenbudget serve`` in processes of its own, for tests and benchmarks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx

START_SECONDS = 60
STOP_SECONDS = 40
POLL_SECONDS = 0.02
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FIRST_FIELD_AFTER_NAME = 3
PARENT, USER_TICKS, SYSTEM_TICKS, RESIDENT_PAGES = 4, 14, 15, 24
COMMAND = str(Path(sys.executable).with_name("tokenbudget"))
SERVE = (COMMAND, "serve")
FIRST_KEY = re.compile(r"First API key .*: (\S+)")


class ServerProcess:
    """One server with its workers; what it prints goes to ``log``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.port = int(environment["TOKENBUDGET_PORT"])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return once the server answers; raises RuntimeError with its log when it does not."""
        deadline = monotonic() + START_SECONDS
        while monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if _answers(self.url + "/healthz"):
                return
            sleep(POLL_SECONDS)
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def first_key(self) -> str:
        """Give the admin key that a server prints when it starts on an empty database."""
        found = FIRST_KEY.search(self.log.read_text())
        if found is None:
            raise RuntimeError(f"the server printed no first key: {self.log.read_text()[-2000:]}")
        return found[1]

    def kill(self) -> None:
        """End the server and its workers at once, as a power cut would."""
        for process_id in (self.process.pid, *_descendants(self.process.pid)):
            _send(process_id, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """Ask the server to end, wait until it has, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        """Make sure that nothing of the server is left."""
        if self.process.poll() is None:
            self.kill()

    def cpu_seconds(self) -> float:
        """Give the processor time that the server and its workers have used."""
        ticks = 0
        for process_id in (self.process.pid, *_descendants(self.process.pid)):
            fields = _fields(process_id)
            ticks += int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])
        return ticks / CLOCK_TICKS

    def resident_bytes(self) -> int:
        """Give the memory that the server process itself has in RAM."""
        return int(_fields(self.process.pid)[RESIDENT_PAGES]) * PAGE_BYTES


@contextmanager
def serving(
    directory: Path, *, command: Sequence[str] = SERVE, **settings: str
) -> Iterator[ServerProcess]:
    """Give a running server; settings are ``TOKENBUDGET_*`` variables in lower case."""
    server = start_server(directory, command=command, **settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


def start_server(
    directory: Path, *, command: Sequence[str] = SERVE, **settings: str
) -> ServerProcess:
    """Start a server on a free port and give it, not yet ready; its data lives in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    chosen = {
        "auth": "off",
        "data_dir": str(directory),
        "log_format": "json",
        "port": str(free_port()),
        **settings,
    }
    environment = {f"TOKENBUDGET_{name.upper()}": value for name, value in chosen.items()}
    return ServerProcess(command, environment, directory / "server.log")


def free_port() -> int:
    """Give a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).status_code < 500
    except httpx.TransportError:
        return False


def _send(process_id: int, number: signal.Signals) -> None:
    try:
        os.kill(process_id, number)
    except ProcessLookupError:
        return


def _descendants(process_id: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            parents[int(entry.name)] = int(fields[PARENT])
    found = [process_id]
    for ancestor in found:
        found.extend(child for child, parent in parents.items() if parent == ancestor)
    return found[1:]


def _fields(process_id: int) -> list[str]:
    """Give the fields of ``/proc/<id>/stat`` by their numbers; empty when it is gone."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return []
    # The name of the program stands in parentheses and may hold blanks.
    return [""] * FIRST_FIELD_AFTER_NAME + text.rpartition(")")[2].split()
