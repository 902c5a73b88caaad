"""Errors on the wire: RFC 9457 problem+json with a stable code.

The one place that turns errors into answers.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tokenbudget.domain.errors import (
    InvalidInput,
    MalformedBody,
    NotFound,
    TokenbudgetError,
    Unauthenticated,
    Unavailable,
)

PROBLEM_TYPE: Final = "application/problem+json"
UNPARSED: Final = "json_invalid"
logger = structlog.get_logger(__name__)


def problem_response(
    *,
    code: str,
    title: str,
    status: int,
    detail: str,
    facts: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Give a problem document; ``facts`` become members of their own."""
    document = {
        **(facts or {}),
        "type": f"urn:tokenbudget:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    content = msgspec.json.encode(document, enc_hook=str)
    return Response(content, status_code=status, media_type=PROBLEM_TYPE, headers=headers)


def problem_of(error: TokenbudgetError) -> Response:
    """Give the problem document of one of our errors."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="tokenbudget"'
    return problem_response(
        code=error.code,
        title=error.title,
        status=error.status,
        detail=error.detail,
        facts=error.facts,
        headers=headers,
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
        code=InvalidInput.code,
        title=InvalidInput.title,
        status=InvalidInput.status,
        detail=f"{first['pointer'].lstrip('/') or 'body'}: {first['detail']}",
        facts={"errors": faults},
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == NotFound.status:
        return problem_of(NotFound(f"there is nothing at {request.url.path}"))
    if error.status_code == MalformedBody.status:
        return problem_of(MalformedBody(str(error.detail)))
    phrase = HTTPStatus(error.status_code).phrase
    return problem_response(
        code=phrase.lower().replace(" ", "_"),
        title=phrase,
        status=error.status_code,
        detail=str(error.detail),
        headers=dict(error.headers) if error.headers else None,
    )
