"""What the service last said of calls like this one, for the moments when it says nothing.

It keeps the newest answers of a bounded number of kinds of call, in memory only, and decides
nothing by itself that the service has not told.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Final

from tokenbudget.client._clock import utc_now
from tokenbudget.client._errors import QuotaDenied, QuotaUnavailable
from tokenbudget.client._manner import Manner
from tokenbudget.client._models import Call, Decision, FailMode, Permit

MAX_KINDS: Final = 10_000

Kind = tuple[str, str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and when it came, on the clock of this process."""

    permit: Permit
    at: float


class Memory:
    """The answers that a client remembers; it may be used from any thread."""

    def __init__(self, manner: Manner) -> None:
        self._fail_mode = None if manner.fail_mode is None else FailMode(manner.fail_mode)
        self._seconds = manner.memory_seconds
        self._told: OrderedDict[Kind, Told] = OrderedDict()
        self._modes: dict[tuple[str, str], FailMode] = {}
        self._lock = threading.Lock()

    def note(self, call: Call, permit: Permit) -> None:
        """Keep an answer; the oldest kind of call makes room."""
        kind = _kind_of(call)
        with self._lock:
            self._told[kind] = Told(permit, monotonic())
            self._told.move_to_end(kind)
            if len(self._told) > MAX_KINDS:
                self._told.popitem(last=False)
            if permit.fail_mode is not None and len(self._modes) < MAX_KINDS:
                self._modes[kind[:2]] = permit.fail_mode

    def undecided(self, call: Call, why: str, *, told: FailMode | None = None) -> Permit:
        """Give the permit of a call that nobody decided, by the fail mode that holds for it.

        ``told`` is the mode that came with the very refusal to decide. Raises QuotaUnavailable in
        mode closed, and QuotaDenied in mode cached when the remembered answer is a denial.
        """
        kind = _kind_of(call)
        with self._lock:
            last = self._told.get(kind)
            mode = self._modes.get(kind[:2])
        if last is not None and last.permit.fail_mode is not None:
            mode = last.permit.fail_mode
        mode = told or mode or FailMode.OPEN
        if self._fail_mode is FailMode.CACHED and last is not None and self._holds_still(last):
            return _repeated(last.permit)
        if self._fail_mode in (FailMode.OPEN, FailMode.CLOSED):
            mode = self._fail_mode
        if mode is FailMode.CLOSED:
            raise QuotaUnavailable(f"the check was not answered: {why}")
        return Permit(Decision.UNCHECKED, call.model, call.max_output_tokens, fail_mode=mode)

    def _holds_still(self, last: Told) -> bool:
        if monotonic() - last.at > self._seconds:
            return False
        binding = last.permit.binding
        if binding is None or not last.permit.is_denied:
            return True
        return utc_now() < datetime.fromisoformat(binding.resets_at)


def _repeated(permit: Permit) -> Permit:
    if permit.is_denied:
        raise QuotaDenied(permit)
    return replace(permit, decision=Decision.UNCHECKED, hold_id=None, lease=None)


def _kind_of(call: Call) -> Kind:
    return call.provider, call.model, frozenset(call.tags.items())
