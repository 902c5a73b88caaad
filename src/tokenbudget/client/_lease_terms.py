"""What slices of budget a client takes ahead, and the blocks in which it takes others, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

MAX_CALLS: Final = 10_000
MAX_SECONDS: Final = 3_600
CALLS: Final = 50
SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How large a lease is: for ``calls`` calls of a kind, used for ``seconds``.

    Calls are of one kind that have the same tags, provider, model, service tier and time to live,
    and of which neither input nor output is more than the power of two above. ``ignored_tags`` are
    tags that may differ within a lease, since no hard budget looks at them.

    Raises ValueError for what is out of bounds.
    """

    calls: int = CALLS
    seconds: float = SECONDS
    ignored_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no lease can be."""
        if not 1 <= self.calls <= MAX_CALLS:
            raise ValueError(f"calls must be between 1 and {MAX_CALLS}, not {self.calls}")
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds must be above 0, at most {MAX_SECONDS}, not {self.seconds}")


_current: ContextVar[LeaseTerms | None] = ContextVar("tokenbudget_lease")


def current_terms(usual: LeaseTerms | None) -> LeaseTerms | None:
    """Give the terms of the running block, the usual ones outside; None where nothing is leased."""
    return _current.get(usual)


@contextmanager
def leased(terms: LeaseTerms | None) -> Iterator[None]:
    """Lease on these terms for every call made inside the block; on None lease nothing there."""
    token = _current.set(terms)
    try:
        yield
    finally:
        # A framework may leave a block in another context than it entered; nothing holds there.
        with suppress(ValueError):
            _current.reset(token)
