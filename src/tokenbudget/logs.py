"""How the service logs. It owns the shape of log lines and masking of secrets.

It refuses to own what is worth logging. Lines of uvicorn, apscheduler and other libraries take the
same way out, on standard error.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Final, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "[masked]"
MASKED_KEYS: Final = frozenset(
    {"authorization", "completion", "cookie", "messages", "prompt", "text"}
)
MASKED_ENDINGS: Final = ("api_key", "password", "secret")
MASKED_TEXT: Final = (
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+"), rf"\1 {MASK}"),
)
# At level info these print the address of every request; that of an alert receiver is a secret.
QUIET_LOGGERS: Final = ("httpx", "httpcore", "alembic", "apscheduler")
# Their runners install handlers of their own, which would print each line a second time.
REROUTED_LOGGERS: Final = ("uvicorn", "uvicorn.error", "apscheduler")
# A line a request would cost more than a quota check does.
SILENT_LOGGERS: Final = ("uvicorn.access",)


def configure_logging(level: str, log_format: str) -> None:
    """Send every log line to standard error, as ``console`` text or ``json``, from ``level`` up."""
    shared = _shared_processors()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _reroute_libraries()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Give the structured logger of a module; pass facts as keywords, never inside the message."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


def mask_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Give the line with secrets and prompt text masked, by key and by shape of the text."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: object) -> object:
    name = key.lower()
    if name in MASKED_KEYS or name.endswith(MASKED_ENDINGS):
        return MASK
    if not isinstance(value, str):
        return value
    for pattern, replacement in MASKED_TEXT:
        value = pattern.sub(replacement, value)
    return value


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]


def _renderer(log_format: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _reroute_libraries() -> None:
    for name in REROUTED_LOGGERS:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT_LOGGERS:
        silent = logging.getLogger(name)
        silent.handlers.clear()
        silent.propagate = False
