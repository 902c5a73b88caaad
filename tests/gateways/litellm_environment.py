"""An environment of its own with a pinned LiteLLM in it, and a proxy that runs there.

``litellm-constraints.txt`` holds what LiteLLM's proxy needs to start, with hashes, and no more: all
its extras would take three times the room. The environment is kept under the temporary directory
by the digest of that file, and made once a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from time import monotonic, sleep
from typing import Final

import httpx

from tests.conftest import require_service
from tests.contract.source_files import REPOSITORY
from tests.server_process import STOP_SECONDS, free_port

CONSTRAINTS: Final = Path(__file__).parent / "litellm-constraints.txt"
INSTALL_SECONDS: Final = 600
START_SECONDS: Final = 300
MASTER_KEY: Final = "sk-of-the-test"
LOADER: Final = "from tokenbudget.gateways.litellm import handler\n\n__all__ = ['handler']\n"
FAULT_LINES: Final = 3


@dataclass(slots=True)
class Proxy:
    """A LiteLLM proxy that runs, and where it writes what it prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Ask it to end, and wait until it has; what was spooled is sent before."""
        self.process.terminate()
        self.process.wait(STOP_SECONDS)


def litellm_python() -> str:
    """Give the Python of the environment; the test is skipped where it cannot be made."""
    digest = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()[:16]
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    home = Path(gettempdir()) / f"tokenbudget-{os.getuid()}-litellm-{version}-{digest}"
    home.mkdir(mode=0o700, exist_ok=True)
    python = home / "bin" / "python"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / "installed"
        if not stamp.exists():
            fault = _install(home, python)
            require_service("LiteLLM", available=fault is None, reason=fault or "")
            stamp.touch()
    return str(python)


@contextmanager
def running_proxy(
    python: str, directory: Path, config: str, environment: Mapping[str, str]
) -> Iterator[Proxy]:
    """Give a proxy with this configuration that answers; it has ended when the block has."""
    directory.mkdir()
    (directory / "tokenbudget_gateway.py").write_text(LOADER)
    (directory / "config.yaml").write_text(config)
    port = free_port()
    log = directory / "proxy.log"
    command = (python, "-c", "from litellm import run_server; run_server()")
    options = ("--config", str(directory / "config.yaml"), "--host", "127.0.0.1")
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PATH")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            (*command, *options, "--port", str(port)),
            cwd=directory,
            env={
                **kept,
                # Only the client is used, which needs httpx alone.
                "PYTHONPATH": str(REPOSITORY / "src"),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    proxy = Proxy(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_until_ready(proxy)
        yield proxy
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_SECONDS)


def _install(home: Path, python: Path) -> str | None:
    """Give None once the environment is complete, or the reason why it could not be made."""
    venv.create(home, with_pip=False)
    installer = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
    how = ("--no-deps", "--no-compile", "--require-hashes", "--only-binary", ":all:")
    result = subprocess.run(
        (*installer, *how, "--requirement", str(CONSTRAINTS)),
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if result.returncode == 0:
        return None
    return " ".join(result.stderr.splitlines()[-FAULT_LINES:]) or "pip gave no reason"


def _wait_until_ready(proxy: Proxy) -> None:
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline and proxy.process.poll() is None:
        try:
            if httpx.get(f"{proxy.url}/health/liveliness", timeout=1).is_success:
                return
        except httpx.TransportError:
            sleep(0.1)
    raise RuntimeError(f"the proxy did not start: {proxy.log.read_text()[-2_000:]}")
