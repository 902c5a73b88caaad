"""The application: routers, problem handlers and the writer's life, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokenbudget import __version__
from tokenbudget.api import budgets, costs, operation, owners, prices, quota
from tokenbudget.api.access import AppState, KeyCache
from tokenbudget.api.events import record_events
from tokenbudget.api.openapi import describe_api
from tokenbudget.api.problems import install_problem_handlers, problem_of_any
from tokenbudget.api.quota import check_quota
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.services.group_commit import GroupCommit

HOT_PATHS: Final = {"/v1/quota/check": check_quota, "/v1/events": record_events}


class Application(FastAPI):
    """A FastAPI application that answers its hot paths before the framework's layers.

    Those layers cost as much as a decision does. The paths are routes of the application as well,
    for other methods and for the documentation.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        handler = None
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = HOT_PATHS.get(scope["path"])
        if handler is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = problem_of_any(error)
        await response(scope, receive, send)


def create_app(services: Services) -> FastAPI:
    """Give the API on these services; its writer lives as long as the application does."""
    settings = services.settings
    writer = GroupCommit(
        make_ledger(services).apply,
        queue_items=settings.write_queue_items,
        batch_items=settings.write_batch_items,
        batch_wait_milliseconds=settings.write_batch_wait_ms,
    )
    app = Application(
        title="tokenbudget",
        version=__version__,
        lifespan=_writing,
        generate_unique_id_function=lambda route: route.name,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    keys = KeyCache(timedelta(seconds=settings.key_cache_seconds))
    app.state.tokenbudget = AppState(services, writer, keys)
    # The two hot paths are plain routes, ahead of the framework's: its validation would cost more
    # than the decision.
    for path, handler in HOT_PATHS.items():
        app.router.routes.append(Route(path, handler, methods=["POST"]))
    for feature in (quota, budgets, costs, owners, prices, operation):
        app.include_router(feature.router)
    install_problem_handlers(app)
    app.openapi = lambda: describe_api(app, HOT_PATHS)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _writing(app: FastAPI) -> AsyncIterator[None]:
    writer = app.state.tokenbudget.writer
    writer.start()
    yield
    writer.stop()
