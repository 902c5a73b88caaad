"""The application: routers, problem handlers and the writer's life, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from tokenbudget import __version__
from tokenbudget.api import budgets, costs, operation, owners, quota
from tokenbudget.api.access import AppState, KeyCache
from tokenbudget.api.events import record_events
from tokenbudget.api.problems import install_problem_handlers
from tokenbudget.api.quota import check_quota
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.formats.events import EventShape
from tokenbudget.formats.quota import CheckShape
from tokenbudget.services.group_commit import GroupCommit

SCHEMA_PATH: Final = "#/components/schemas/{name}"
PROBLEM_ANSWERS: Final = {
    "400": "The body could not be read",
    "401": "A valid API key is needed",
    "403": "The API key lacks the scope",
    "413": "The input is larger than the limit",
    "415": "The media type is not supported",
    "422": "The input is not valid",
    "503": "The service cannot answer now; try again after Retry-After",
}


def create_app(services: Services) -> FastAPI:
    """Give the API on these services; its writer lives as long as the application does."""
    settings = services.settings
    writer = GroupCommit(
        make_ledger(services).apply,
        queue_items=settings.write_queue_items,
        batch_items=settings.write_batch_items,
        batch_wait_milliseconds=settings.write_batch_wait_ms,
    )
    app = FastAPI(title="tokenbudget", version=__version__, lifespan=_writing)
    keys = KeyCache(timedelta(seconds=settings.key_cache_seconds))
    app.state.tokenbudget = AppState(services, writer, keys)
    # The two hot paths are plain routes, ahead of the framework's: its validation would cost more
    # than the decision.
    app.router.routes.insert(0, Route("/v1/quota/check", check_quota, methods=["POST"]))
    app.router.routes.insert(1, Route("/v1/events", record_events, methods=["POST"]))
    for router in (quota.router, budgets.router, costs.router, owners.router, operation.router):
        app.include_router(router)
    install_problem_handlers(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _writing(app: FastAPI) -> AsyncIterator[None]:
    writer = app.state.tokenbudget.writer
    writer.start()
    yield
    writer.stop()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Give the OpenAPI document, with the two plain routes described like the others."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas, shapes = _shape_schemas()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        document["paths"]["/v1/quota/check"] = {
            "post": _operation("check_quota", "quota", check_quota, shapes[CheckShape])
        }
        event = shapes[EventShape]
        body = {"anyOf": [event, {"type": "array", "items": event}]}
        document["paths"]["/v1/events"] = {
            "post": _operation("record_events", "events", record_events, body)
        }
        app.openapi_schema = document
    return app.openapi_schema


def _shape_schemas() -> tuple[dict[str, Any], dict[type, dict[str, Any]]]:
    shapes = [CheckShape, EventShape]
    references, schemas = msgspec.json.schema_components(shapes, ref_template=SCHEMA_PATH)
    return schemas, dict(zip(shapes, references, strict=True))


def _operation(name: str, tag: str, handler: Any, body: dict[str, Any]) -> dict[str, Any]:
    problems = {
        status: {"description": text, "content": {"application/problem+json": {}}}
        for status, text in PROBLEM_ANSWERS.items()
    }
    return {
        "operationId": name,
        "tags": [tag],
        "summary": (handler.__doc__ or "").strip(),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The answer", "content": {"application/json": {}}},
            **problems,
        },
    }
