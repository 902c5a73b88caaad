"""Tags that hold for everything done inside a block, in this task or thread and those it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar

_current: ContextVar[Mapping[str, str]] = ContextVar("tokenbudget_tags")


def current_tags() -> dict[str, str]:
    """Give the tags of the running blocks, inner ones over outer ones."""
    return dict(_current.get({}))


@contextmanager
def tagged(**tags: str) -> Iterator[None]:
    """Put these tags on every call made inside the block."""
    token = _current.set({**current_tags(), **tags})
    try:
        yield
    finally:
        # A framework may leave a block in another context than it entered; nothing holds there.
        with suppress(ValueError):
            _current.reset(token)
