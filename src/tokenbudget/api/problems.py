"""Errors on the wire: RFC 9457 problem+json with a stable code.

The one place that turns errors into answers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from tokenbudget.domain.errors import (
    InvalidInput,
    MalformedBody,
    NotFound,
    TokenbudgetError,
    Unauthenticated,
    Unavailable,
)

HTTP_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
PROBLEM_TYPE: Final = "application/problem+json"
UNPARSED: Final = "json_invalid"
logger = structlog.get_logger(__name__)


def problem_document(
    *,
    code: str,
    title: str,
    status: int,
    detail: str,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Give the members of a problem document; ``facts`` become members of their own."""
    return {
        **(facts or {}),
        "type": f"urn:tokenbudget:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Give the answer that holds a problem document."""
    content = msgspec.json.encode(document, enc_hook=str)
    status = document["status"]
    return Response(content, status_code=status, media_type=PROBLEM_TYPE, headers=headers)


def headers_of(error: TokenbudgetError) -> dict[str, str]:
    """Give the headers that tell a client what to do about an error."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="tokenbudget"'
    return headers


def problem_of(error: TokenbudgetError) -> Response:
    """Give the answer that holds the problem document of one of our errors."""
    return problem_response(document_of(error), headers_of(error))


def document_of(error: TokenbudgetError) -> dict[str, Any]:
    """Give the problem document of one of our errors."""
    return problem_document(
        code=error.code,
        title=error.title,
        status=error.status,
        detail=error.detail,
        facts=error.facts,
    )


def problem_of_any(error: Exception) -> Response:
    """Give the problem document of one of our errors, or of one that nobody expected."""
    if isinstance(error, TokenbudgetError):
        return problem_of(error)
    logger.error("unexpected_error", exc_info=error)
    return problem_of(TokenbudgetError("something went wrong; the log has the details"))


def install_problem_handlers(app: FastAPI) -> None:
    """Make the application answer every error with a problem document and never with a trace."""
    app.add_exception_handler(TokenbudgetError, _on_any_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_any_error)


async def _on_any_error(_request: Request, error: Exception) -> Response:
    return problem_of_any(error)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        {"pointer": "/" + "/".join(map(str, fault["loc"][1:])), "detail": fault["msg"]}
        for fault in error.errors()
    ]
    first = faults[0]
    if error.errors()[0]["type"] == UNPARSED:
        return problem_of(MalformedBody(f"the body is not JSON: {first['detail']}"))
    return problem_response(
        problem_document(
            code=InvalidInput.code,
            title=InvalidInput.title,
            status=InvalidInput.status,
            detail=f"{first['pointer'].lstrip('/') or 'body'}: {first['detail']}",
            facts={"errors": faults},
        )
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == NotFound.status:
        return problem_of(NotFound(f"there is nothing at {request.url.path}"))
    if error.status_code == MalformedBody.status:
        return problem_of(MalformedBody(str(error.detail)))
    phrase = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    document = problem_document(
        code=phrase.lower().replace(" ", "_"),
        title=phrase,
        status=error.status_code,
        detail=str(error.detail),
    )
    return problem_response(document, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Give every method of the path, whose routes each know only their own."""
    router: APIRouter = request.app.router
    methods = HTTP_METHODS - {request.method}
    return [method for method in sorted(methods) if _serves(router, request, method)]


def _serves(router: APIRouter, request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in router.routes)
