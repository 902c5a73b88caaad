"""The whole server: API, pages and jobs on one set of services. What uvicorn is pointed at."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from tokenbudget.api.access import require_scope
from tokenbudget.api.app import create_app
from tokenbudget.bootstrap import Services, open_services
from tokenbudget.jobs import Jobs
from tokenbudget.logs import configure_logging
from tokenbudget.settings import load_settings, packaged_path
from tokenbudget.web.views import install_pages

# Objects made before the youngest are looked through; one batch of the writer makes thousands.
GARBAGE_THRESHOLD: Final = 10_000


def make_server(services: Services) -> FastAPI:
    """Give the application with its pages, running the jobs while it lives."""
    app = create_app(services)
    install_pages(app, services, templates=packaged_path("reports"), guard=require_scope("read"))
    writing = app.router.lifespan_context

    @asynccontextmanager
    async def working(application: FastAPI) -> AsyncIterator[None]:
        jobs = Jobs(services)
        async with writing(application):
            jobs.start()
            yield
            jobs.stop()

    app.router.lifespan_context = working
    return app


def server_from_environment() -> FastAPI:
    """Give the application for the settings of the environment.

    The factory of every worker process.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    server = make_server(open_services(settings))
    # Prices and modules live as long as the process: looking for garbage among them again and again
    # would halt every request for a tenth of a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    return server
