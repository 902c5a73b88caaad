"""What must not be shared with a child process: locks, connections, threads.

A forked child inherits memory, but no threads, while others may hold locks or sockets. Each part of
a client registers itself here and starts anew in the child.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forking(Protocol):
    """A part that holds something which a fork would split."""

    def before_fork(self) -> None:
        """Come to rest, so that the copy is whole."""

    def after_fork(self, *, is_child: bool) -> None:
        """Go on in the parent, or start anew in the child."""


_parts: WeakSet[Forking] = WeakSet()
_resting: list[Forking] = []


def survive_forks(part: Forking) -> None:
    """Have a part told of every fork for as long as it lives."""
    _parts.add(part)


def _rest() -> None:
    for part in list(_parts):
        part.before_fork()
        _resting.append(part)


def _resume(*, is_child: bool) -> None:
    while _resting:
        _resting.pop().after_fork(is_child=is_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_rest,
        after_in_parent=lambda: _resume(is_child=False),
        after_in_child=lambda: _resume(is_child=True),
    )
