"""The OpenAPI document: what the framework knows of its routes, and what it cannot know.

It adds the two hot paths, the shapes they read, keys with their scopes, and problems as errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tokenbudget.api.access import KEY_SCHEME
from tokenbudget.api.problems import PROBLEM_TYPE
from tokenbudget.domain.errors import TokenbudgetError
from tokenbudget.formats.budgets import BudgetShape
from tokenbudget.formats.cloudevents import (
    BATCH_TYPE,
    JSON_TYPE,
    REQUIRED,
    STRUCTURED_TYPE,
    VERSION,
)
from tokenbudget.formats.events import NDJSON_TYPES, EventShape
from tokenbudget.formats.quota import CheckShape

EVENTS_PATH: Final = "/v1/events"
CHECK_PATH: Final = "/v1/quota/check"
BUDGETS_PATH: Final = "/v1/budgets"
CALLBACK_PATH: Final = "/v1/integrations/litellm"
METER_PATH: Final = "/api/v1/events"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
REFERENCE: Final = "#/components/schemas/{name}"
FRAMEWORK_ERRORS: Final = ("HTTPValidationError", "ValidationError")
SECURITY_SCHEMES: Final = {
    KEY_SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key"},
    "password": {
        "type": "http",
        "scheme": "basic",
        "description": "For browsers: any user, with an API key as the password",
    },
}
REFUSALS: Final = {
    "4XX": "The request was refused and changed nothing; code says why",
    "5XX": "The service could not answer; Retry-After says when to try again, if it may help",
}

Handler = Callable[..., Any]
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HotPath:
    """A path that is answered before the framework's layers, and the scope its handler asks for."""

    handler: Handler
    scope: str


def describe_api(app: FastAPI, hot_paths: Mapping[str, HotPath]) -> dict[str, Any]:
    """Give the document, worked out once; ``hot_paths`` are the application's plain routes."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas, references = _shape_schemas()
        bodies = _bodies(references)
        for path, hot_path in hot_paths.items():
            document["paths"].setdefault(path, {})["post"] = _hot_operation(path, hot_path)
        document["paths"] = dict(sorted(document["paths"].items()))
        for path, method, operation in _operations(document):
            _complete(operation)
            if (path, method) in bodies:
                operation["requestBody"] = {"required": True, "content": bodies[path, method]}
        components = document.setdefault("components", {})
        own = components.get("schemas", {})
        schemas = {**own, **schemas, "Problem": _problem_schema()}
        components["schemas"] = {
            name: schemas[name] for name in sorted(schemas) if name not in FRAMEWORK_ERRORS
        }
        components["securitySchemes"] = SECURITY_SCHEMES
        app.openapi_schema = document
    return app.openapi_schema


def scope_of(operation: Operation) -> str | None:
    """Give the scope a key needs for an operation; None where no key is asked for."""
    asked = operation.get("security", ())
    return next((scope for way in asked for scopes in way.values() for scope in scopes), None)


def error_types() -> list[type[TokenbudgetError]]:
    """Give every error of the tree that has a code of its own, by status and code."""
    found: dict[str, type[TokenbudgetError]] = {}
    waiting: list[type[TokenbudgetError]] = [TokenbudgetError]
    while waiting:
        error_type = waiting.pop()
        found.setdefault(error_type.code, error_type)
        waiting.extend(
            each
            for each in error_type.__subclasses__()
            if each.__module__ == TokenbudgetError.__module__
        )
    return sorted(found.values(), key=lambda each: (each.status, each.code))


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(operation: Operation) -> None:
    """Say in one line what the operation does, who may do it and how it refuses."""
    summary, _, rest = operation.get("description", "").partition("\n")
    operation["summary"] = summary.removesuffix(".")
    operation.pop("description", None)
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    responses = operation["responses"]
    responses.pop("422", None)
    scope = scope_of(operation)
    if scope is None:
        return
    operation["security"] = [{scheme: [scope]} for scheme in SECURITY_SCHEMES]
    for statuses, meaning in REFUSALS.items():
        schema = {"$ref": REFERENCE.format(name="Problem")}
        content = {PROBLEM_TYPE: {"schema": schema}}
        responses.setdefault(statuses, {"description": meaning, "content": content})


def _hot_operation(path: str, hot_path: HotPath) -> Operation:
    handler = hot_path.handler
    return {
        "operationId": handler.__name__,
        "tags": [path.split("/")[2]],
        "description": (handler.__doc__ or "").strip(),
        "responses": {"200": {"description": "The answer", "content": {"application/json": {}}}},
        "security": [{KEY_SCHEME: [hot_path.scope]}],
    }


def _shape_schemas() -> tuple[dict[str, Any], dict[type, dict[str, Any]]]:
    shapes = (CheckShape, EventShape, BudgetShape)
    references, schemas = msgspec.json.schema_components(shapes, ref_template=REFERENCE)
    return schemas, dict(zip(shapes, references, strict=True))


def _bodies(references: dict[type, dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Give the bodies, by path and method, that are read by shapes of ours."""
    event = references[EventShape]
    one_or_many = {"schema": {"anyOf": [event, _list_of(event)]}}
    lines = {name: {"schema": {"type": "string"}} for name in sorted(NDJSON_TYPES)}
    envelope = _envelope_schema(event)
    envelopes = {
        STRUCTURED_TYPE: {"schema": envelope},
        BATCH_TYPE: {"schema": _list_of(envelope)},
    }
    meter = _envelope_schema({"type": "object"})
    meters = {"schema": {"anyOf": [meter, _list_of(meter)]}}
    record = {"type": "object", "description": "LiteLLM's standard logging payload"}
    callback = {"schema": {"anyOf": [record, _list_of(record)]}}
    budget = {"application/json": {"schema": references[BudgetShape]}}
    check = references[CheckShape]
    listed = {"type": "object", "required": ["checks"], "properties": {"checks": _list_of(check)}}
    checks = {"schema": {"anyOf": [_list_of(check), listed]}}
    return {
        (EVENTS_PATH, "post"): {"application/json": one_or_many, **lines, **envelopes},
        (CALLBACK_PATH, "post"): {"application/json": callback},
        (METER_PATH, "post"): dict.fromkeys((STRUCTURED_TYPE, BATCH_TYPE, JSON_TYPE), meters),
        (CHECK_PATH, "post"): {"application/json": {"schema": check}},
        (f"{CHECK_PATH}:batch", "post"): {"application/json": checks},
        (BUDGETS_PATH, "post"): budget,
        (f"{BUDGETS_PATH}/{{budget_id}}", "put"): budget,
    }


def _list_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _envelope_schema(content: dict[str, Any]) -> dict[str, Any]:
    """Give the shape of a CloudEvent in the JSON format with this content."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": [*REQUIRED],
        "properties": {
            **dict.fromkeys(REQUIRED, text),
            "specversion": {"const": VERSION},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string"},
            "data": content,
        },
    }


def _problem_schema() -> dict[str, Any]:
    """Give the shape of RFC 9457 that every refusal has."""
    codes = [*(error_type.code for error_type in error_types()), METHOD_NOT_ALLOWED]
    return {
        "type": "object",
        "title": "Problem",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "description": "urn:tokenbudget:problem: and the code"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "One sentence: the field and the rule"},
            "code": {"type": "string", "enum": codes},
        },
    }
