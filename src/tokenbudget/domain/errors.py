"""The error tree. It owns codes, titles, HTTP statuses and exit codes.

It refuses to own the wording of a single case.

    TokenbudgetError                    500  internal
    ├── InvalidInput                    422  invalid_input        (malformed input only)
    │   ├── MalformedBody               400  malformed_body
    │   ├── TooLarge                    413  too_large
    │   ├── UnsupportedMediaType        415  unsupported_media_type
    │   └── BadFile                     422  bad_file             (names file, row and rule)
    ├── Unauthenticated                 401  unauthenticated
    ├── Forbidden                       403  forbidden
    ├── NotFound                        404  not_found
    ├── Conflict                        409  conflict
    ├── Unavailable                     503  unavailable          (has retry_after_seconds)
    │   └── QueueFull                   503  queue_full
    └── ConfigurationError              500  configuration        (the operator must act)
        └── DatabaseTooNew              500  database_too_new

Expected outcomes (duplicate, denied, unpriced, nothing to do) are return values, not in this tree.
Messages name the field and the rule; they never hold secrets or prompt text.
"""

from __future__ import annotations

from typing import ClassVar


class TokenbudgetError(Exception):
    """Base of every error raised on purpose; ``facts`` are JSON-ready and safe to show."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class InvalidInput(TokenbudgetError):
    """Input that can never be accepted as it is; the detail names the field and the rule."""

    code = "invalid_input"
    title = "The input is not valid"
    status = 422
    exit_code = 2


class MalformedBody(InvalidInput):
    """The request body could not be parsed at all."""

    code = "malformed_body"
    title = "The body could not be read"
    status = 400


class TooLarge(InvalidInput):
    """A body, batch or file above a named limit."""

    code = "too_large"
    title = "The input is larger than the limit"
    status = 413


class UnsupportedMediaType(InvalidInput):
    """A content type or content encoding this endpoint does not read."""

    code = "unsupported_media_type"
    title = "The media type is not supported"
    status = 415


class BadFile(InvalidInput):
    """A file that cannot be imported; the detail names the file, the row and the rule."""

    code = "bad_file"
    title = "The file cannot be imported"


class Unauthenticated(TokenbudgetError):
    """No API key, or one that is unknown or revoked."""

    code = "unauthenticated"
    title = "A valid API key is needed"
    status = 401
    exit_code = 2


class Forbidden(TokenbudgetError):
    """The API key is known but lacks the scope."""

    code = "forbidden"
    title = "The API key lacks the scope"
    status = 403
    exit_code = 2


class NotFound(TokenbudgetError):
    """The named thing does not exist."""

    code = "not_found"
    title = "Not found"
    status = 404
    exit_code = 2


class Conflict(TokenbudgetError):
    """The request is well formed but contradicts what is stored."""

    code = "conflict"
    title = "The request conflicts with what is stored"
    status = 409
    exit_code = 2


class Unavailable(TokenbudgetError):
    """The service cannot answer now; try again after ``retry_after_seconds``."""

    code = "unavailable"
    title = "The service cannot answer now"
    status = 503

    def __init__(self, detail: str, *, retry_after_seconds: int = 1, **facts: object) -> None:
        super().__init__(detail, **facts)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Unavailable):
    """The group-commit queue is full; nothing of this request was accepted."""

    code = "queue_full"
    title = "The write queue is full"


class ConfigurationError(TokenbudgetError):
    """The operator has to change a setting, file or database before the service can work."""

    code = "configuration"
    title = "The configuration is not usable"
    exit_code = 2


class DatabaseTooNew(ConfigurationError):
    """The database was migrated by a newer version of the code."""

    code = "database_too_new"
    title = "The database is newer than the code"
