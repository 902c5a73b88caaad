"""Calls that were sent and of which nobody knows yet how they ended. It refuses to find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class OpenCall(NamedTuple):
    """A call, by the id of its usage, or a hold that ran out, of unknown outcome.

    ``usage_id`` is None for a hold that no usage has named. ``since`` is when the call occurred or
    the hold ran out. ``estimate_nanos`` is that of the whole hold, which is for ``requests`` calls;
    ``provisional_nanos`` is what the call is charged until somebody tells.
    """

    since: datetime
    usage_id: int | None
    hold_id: str
    team: str | None
    feature: str | None
    provider: str | None
    model: str | None
    requests: int
    estimate_nanos: int | None
    provisional_nanos: int | None


@dataclass(frozen=True, slots=True)
class OpenCalls:
    """One page of calls and holds of unknown outcome, newest first, and the sums of the list."""

    items: Sequence[OpenCall]
    next_cursor: str | None
    calls: int
    provisional_nanos: int
    expired_holds: int
