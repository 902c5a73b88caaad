"""The application: routers, problem handlers and the writer's life, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tokenbudget import __version__
from tokenbudget.api import (
    allocation_rules,
    authorization,
    bills,
    budgets,
    costs,
    event_queries,
    exports,
    integrations,
    keys,
    operation,
    outcomes,
    owners,
    policies,
    prices,
    quota,
    quota_records,
    reconciliations,
    statement_documents,
    statements,
    tag_rules,
    telemetry,
    true_up,
)
from tokenbudget.api.access import AppState, KeyCache
from tokenbudget.api.events import record_events
from tokenbudget.api.openapi import HotPath, describe_api
from tokenbudget.api.problems import install_problem_handlers, problem_of_any
from tokenbudget.api.quota import CHECK_PATH, check_quota
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.errors import Unavailable
from tokenbudget.services.fail_modes import FailModes
from tokenbudget.services.group_commit import GroupCommit

FEATURES: Final = (
    quota,
    quota_records,
    allocation_rules,
    authorization,
    bills,
    budgets,
    costs,
    event_queries,
    exports,
    integrations,
    outcomes,
    owners,
    policies,
    prices,
    reconciliations,
    keys,
    statement_documents,
    statements,
    tag_rules,
    telemetry,
    true_up,
    operation,
)
OUTPUTS_SECONDS: Final = 300
"""How long a worker goes by what it knows of outputs before it asks again."""

HOT_PATHS: Final = {
    CHECK_PATH: HotPath(check_quota, "quota"),
    "/v1/events": HotPath(record_events, "ingest"),
}


class Application(FastAPI):
    """A FastAPI application that answers its hot paths before the framework's layers.

    Those layers cost as much as a decision does. The paths are routes of the application as well,
    for other methods and for the documentation.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        hot_path = None
        if scope["type"] == "http" and scope["method"] == "POST":
            hot_path = HOT_PATHS.get(scope["path"])
        if hot_path is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        request = Request(scope, receive)
        try:
            response = await hot_path.handler(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = problem_of_any(error)
        await response(scope, receive, send)


def create_app(services: Services) -> FastAPI:
    """Give the API on these services; its writer lives as long as the application does."""
    settings = services.settings
    ledger = make_ledger(services)
    writer = GroupCommit(
        ledger.apply,
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
    known_keys = KeyCache(timedelta(seconds=settings.key_cache_seconds))
    app.state.tokenbudget = AppState(services, writer, known_keys, FailModes(ledger))
    # The two hot paths are plain routes, ahead of the framework's: its validation would cost more
    # than the decision.
    for path, hot_path in HOT_PATHS.items():
        app.router.routes.append(Route(path, hot_path.handler, methods=["POST"]))
    for feature in FEATURES:
        app.include_router(feature.router)
    install_problem_handlers(app)
    app.openapi = lambda: describe_api(app, HOT_PATHS)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _writing(app: FastAPI) -> AsyncIterator[None]:
    state: AppState = app.state.tokenbudget
    await asyncio.to_thread(state.fail_modes.learn)
    state.writer.start()
    learning = asyncio.create_task(_learn_outputs(state))
    yield
    learning.cancel()
    state.writer.stop()


async def _learn_outputs(state: AppState) -> None:
    """Keep what is known of outputs fresh, beside the writer; a failure waits for the next time."""
    shelf, database = state.fail_modes.ledger.terms.outputs, state.services.database
    while True:
        with suppress(Unavailable):
            await asyncio.to_thread(shelf.refresh, database)
        await asyncio.sleep(OUTPUTS_SECONDS)
