"""How a call ended: its status, and whether a failed one can have cost anything.

A provider that refused a call (an HTTP error) served nothing: its usage is zero. A call that timed
out, was cancelled or failed for a reason of the client's own may have been served and billed: its
usage is unknown. So is that of a call which failed and does not say how.
"""

from __future__ import annotations

import re
from typing import Final

from tokenbudget.domain.usage import OK_STATUS
from tokenbudget.formats.otlp import names
from tokenbudget.formats.otlp.fields import Fields
from tokenbudget.formats.otlp.shapes import Span
from tokenbudget.formats.otlp.values import find_text, text_of

ERROR: Final = "error"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
NOTHING_SERVED: Final = {"input_tokens": 0, "output_tokens": 0}

ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
FIRST_ERROR_STATUS: Final = 400
LAST_ERROR_STATUS: Final = 599
TIMEOUT_STATUSES: Final = frozenset({408, 504})
STATUS_CODE: Final = re.compile(r"\b(?:Error code:|status(?:[ _]code)?:?|HTTP) *([45][0-9]{2})\b")
LONE_CODE: Final = re.compile(r"[45][0-9]{2}")
TIMED_OUT: Final = re.compile(r"time(d[ _]?)?[ _]?out|deadline", re.IGNORECASE)
WAS_CANCELLED: Final = re.compile(r"cancel|abort", re.IGNORECASE)
REFUSALS: Final = re.compile(
    r"(NotFound|RateLimit|BadRequest|Authentication|PermissionDenied|UnprocessableEntity|Conflict"
    r"|InternalServer|ServiceUnavailable|Overloaded)(Error)?$"
)
MAX_MESSAGE_CHARACTERS: Final = 1_000


def status_of(span: Span, fields: Fields) -> str:
    """Give the status of a call: ``ok``, ``error``, ``timeout`` or ``cancelled``."""
    if not span.is_error and ERROR_TYPE not in span.attributes:
        return OK_STATUS
    words = " ".join((*_error_types(span), span.status_message[:MAX_MESSAGE_CHARACTERS]))
    if _http_status(span, fields) in TIMEOUT_STATUSES or TIMED_OUT.search(words):
        return TIMEOUT
    return CANCELLED if WAS_CANCELLED.search(words) else ERROR


def was_refused(span: Span, fields: Fields) -> bool:
    """Tell whether a call with status ``error`` is known to have been turned down."""
    return _http_status(span, fields) is not None or any(
        REFUSALS.search(error_type) for error_type in _error_types(span)
    )


def _error_types(span: Span) -> list[str]:
    types = [find_text(span.attributes, ERROR_TYPE)]
    types.extend(text_of(event.attributes.get(EXCEPTION_TYPE)) for event in span.events)
    return [error_type for error_type in types if error_type]


def _http_status(span: Span, fields: Fields) -> int | None:
    status = fields.count(names.HTTP_STATUS)
    if status is None:
        lone = find_text(span.attributes, ERROR_TYPE) or ""
        message = STATUS_CODE.search(span.status_message[:MAX_MESSAGE_CHARACTERS])
        if LONE_CODE.fullmatch(lone):
            status = int(lone)
        elif message is not None:
            status = int(message.group(1))
    if status is None or not FIRST_ERROR_STATUS <= status <= LAST_ERROR_STATUS:
        return None
    return status
