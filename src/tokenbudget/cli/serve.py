"""``serve``: the API, the pages and the jobs."""

from __future__ import annotations

import os
import signal
import socket
from types import FrameType
from typing import Annotated, Final

import typer
import uvicorn

from tokenbudget.api.hot_protocol import HotProtocol
from tokenbudget.bootstrap import Services
from tokenbudget.cli.start import started
from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.services.keys import create_first_key
from tokenbudget.settings import Settings, load_settings, variable_name

FACTORY: Final = "tokenbudget.asgi:server_from_environment"
BACKLOG: Final = 2048
STOP_SECONDS: Final = 30
# A worker that says nothing for so long is started anew. It reads prices before it listens, which
# takes a busy machine longer than the five seconds that uvicorn would allow.
SILENCE_SECONDS: Final = 60


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; above 1 needs PostgreSQL")] = None,
) -> None:
    """Serve the API, the dashboard and the scheduled jobs."""
    settings = load_settings(host=host, port=port, workers=workers)
    require_free_port(settings.host, settings.port)
    serve_with(settings, started(settings))


def serve_with(settings: Settings, services: Services) -> None:
    """Serve until interrupted, with a database that is current.

    Prints the first admin key of an empty one.
    """
    if settings.auth == "keys":
        key = create_first_key(services.database, now=services.clock())
        if key is not None:
            print(f"First API key (admin), shown this once: {key.secret}", flush=True)
    services.database.close()
    os.environ.update(_environment_of(settings))
    print(f"Serving on http://{settings.host}:{settings.port}", flush=True)
    # The server hands SIGTERM on once all is answered: a good end must not look like a kill.
    signal.signal(signal.SIGTERM, _end_well)
    uvicorn.run(
        FACTORY,
        factory=True,
        http=HotProtocol,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        lifespan="on",
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_worker_healthcheck=SILENCE_SECONDS,
    )


def _end_well(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def require_free_port(host: str, port: int) -> None:
    """Raise ConfigurationError when nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _environment_of(settings: Settings) -> dict[str, str]:
    """Give the variables by which worker processes see what options changed."""
    changed = ("host", "port", "workers", "data_dir", "database_url", "auth", "report_dir")
    return {variable_name(name): str(getattr(settings, name)) for name in changed}
