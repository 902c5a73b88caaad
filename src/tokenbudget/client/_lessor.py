"""Where leases come from: it fetches them behind the calls, finds them, and knows which are over.

A few threads ask the service, for programs that wait and for event loops alike. Whoever finds no
piece waits for the one request that is under way for its kind of call, and asks by itself where
the service gives no lease. A lease is only what was asked for: an answer that grants less is given
back, since a check of each call finds out exactly what is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from tokenbudget.client._calls import new_id
from tokenbudget.client._clock import elapsed_seconds
from tokenbudget.client._forks import survive_forks
from tokenbudget.client._lease_terms import current_terms
from tokenbudget.client._leases import (
    CLOCK_SECONDS,
    Kind,
    Lease,
    Shelf,
    kind_of,
    shaped,
    share_of,
)
from tokenbudget.client._manner import Manner
from tokenbudget.client._memory import Memory
from tokenbudget.client._models import Call, Decision, Permit, permit_of
from tokenbudget.client._outlet import Outlet
from tokenbudget.client._service import (
    CHECK_PATH,
    NOT_DECIDED,
    SERVER_ERRORS,
    Deadline,
)

logger = logging.getLogger("tokenbudget.client")

MAX_KINDS: Final = 1_000
THREADS: Final = 4
# A budget of one operation is behind the check; only a check that names the operation counts in it.
OPERATION_UNKNOWN: Final = "operation_unknown"
# An executor of the parent must not be ended by a child: its threads are not there.
_inherited: list[ThreadPoolExecutor | None] = []


class Lessor:
    """The leases of one client, by kind of call; it may be used from any thread."""

    _lock: threading.Lock
    _shelves: dict[Kind, Shelf]
    _leases: list[Lease]
    _executor: ThreadPoolExecutor | None
    _http: httpx.Client | None

    def __init__(self, outlet: Outlet, memory: Memory, manner: Manner) -> None:
        self._outlet = outlet
        self._memory = memory
        self._usual = manner.lease
        self._timeout_seconds = manner.timeout_seconds
        self._is_closed = False
        self._start_anew()
        outlet.lend(self)
        survive_forks(self)

    def find(self, call: Call) -> Permit | Future[None] | None:
        """Give a call its permit from a lease; asks nobody and waits for nothing.

        A future says that a lease is on its way: look again when it is done. None says that this
        call is for a check.
        """
        shelf = self._shelf_of(call)
        if shelf is None:
            return None
        lease = shelf.take()
        if lease is None:
            return self._fetch_for(shelf)
        if not shelf.is_fetching and not shelf.is_resting and shelf.is_low:
            self._fetch_for(shelf)
        return lease.permit_for(call)

    def over(self) -> list[str]:
        """Give the holds of leases that are over and unused in part, each once.

        The pieces that were taken have ended, and their events are on their way.
        """
        holds: list[str] = []
        with self._lock:
            kept = []
            for lease in self._leases:
                if (not lease.under_way and not lease.left) or lease.is_forgotten:
                    continue
                if lease.is_over and not lease.under_way and lease.permit.hold_id:
                    holds.append(lease.permit.hold_id)
                else:
                    kept.append(lease)
            self._leases = kept
        return holds

    def close(self) -> None:
        """Let no more pieces be taken; a lease that is on its way comes, to be given back."""
        with self._lock:
            self._is_closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        for lease in self._leases:
            lease.is_closed = True
        if self._http is not None:
            self._http.close()

    def before_fork(self) -> None:
        """Need no rest: a request of another thread goes on in the parent alone."""

    def after_fork(self, *, is_child: bool) -> None:
        """Leave the leases to the parent, in a child: what one has taken no other may use."""
        if is_child:
            _inherited.append(self._executor)
            self._start_anew()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._shelves = {}
        self._leases = []
        self._executor = None
        self._http = None

    def _shelf_of(self, call: Call) -> Shelf | None:
        terms = current_terms(self._usual)
        kind = None if terms is None else kind_of(call, terms)
        if kind is None or terms is None:
            return None
        shelf = self._shelves.get(kind)
        if shelf is not None:
            return shelf
        with self._lock:
            if len(self._shelves) >= MAX_KINDS:
                self._shelves = {
                    each: kept for each, kept in self._shelves.items() if not kept.is_idle
                }
            if len(self._shelves) >= MAX_KINDS or self._is_closed:
                return None
            return self._shelves.setdefault(kind, Shelf(shaped(call, terms), terms))

    def _fetch_for(self, shelf: Shelf) -> Future[None] | None:
        """Give the request that is under way for a shelf, made now if need be; None in a rest."""
        with self._lock:
            if shelf.is_fetching:
                return shelf.coming
            if shelf.is_resting or self._is_closed:
                return None
            if self._executor is None or self._http is None:
                self._executor = ThreadPoolExecutor(THREADS, "tokenbudget-lease")
                self._http = self._outlet.connect()
            try:
                shelf.coming = self._executor.submit(self._fetch, shelf, self._http)
            except RuntimeError:
                # The interpreter ends and takes no more work.
                return None
            return shelf.coming

    def _fetch(self, shelf: Shelf, http: httpx.Client) -> None:
        asking = shelf.ask(new_id())
        if asking is None:
            return
        sent = elapsed_seconds()
        deadline = {"timeout": Deadline(self._timeout_seconds)}
        try:
            response = http.post(CHECK_PATH, json=dict(asking.body), extensions=deadline)
        except (httpx.HTTPError, RuntimeError) as error:
            # A client that was closed meanwhile is a RuntimeError of httpx.
            logger.info("a lease was not answered: %s", type(error).__name__)
            shelf.rest()
            return
        if response.status_code in NOT_DECIDED or response.status_code in SERVER_ERRORS:
            shelf.rest()
            return
        answer = _answer_of(response)
        permit = _granted(answer, shelf.call, asking.calls)
        # What was asked for is answered: what is asked next is another lease.
        shelf.asking = None
        ends = min(
            asking.first_sent + shelf.terms.seconds,
            sent + _lasting_seconds(response, answer, shelf),
        )
        if permit is not None and ends > elapsed_seconds():
            self._memory.note(shelf.call, permit)
            lease = Lease(permit, asking.calls, ends, shelf.call_seconds)
            with self._lock:
                self._leases.append(lease)
            shelf.add(lease)
            self._outlet.attend()
            return
        shelf.rest()
        hold_id = answer.get("hold_id")
        if isinstance(hold_id, str):
            self._outlet.give_back(hold_id)


def _answer_of(response: httpx.Response) -> Mapping[str, Any]:
    """Give the answer to a check, empty for what is none."""
    try:
        answer = response.json() if response.is_success else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _granted(answer: Mapping[str, Any], call: Call, calls: int) -> Permit | None:
    """Give the permit of each call of a lease; None unless it is just what was asked for."""
    try:
        permit = permit_of(answer, call)
        requests = answer["limits"]["requests"]
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return None
    if permit.decision is not Decision.ALLOW or permit.hold_id is None or requests != calls:
        return None
    is_other_model = permit.model != call.model or permit.provider is not None
    if is_other_model or call.max_output_tokens not in (None, permit.max_output_tokens):
        return None
    if any(warning.code == OPERATION_UNKNOWN for warning in permit.warnings):
        return None
    return share_of(permit, calls)


def _lasting_seconds(response: httpx.Response, answer: Mapping[str, Any], shelf: Shelf) -> float:
    """Give for how long a call may still begin that ends within the hold's life, at the least.

    It is all in the clock of the service, which may grant a shorter life than was asked for; 0
    where that clock is not told.
    """
    try:
        told = parsedate_to_datetime(response.headers["date"])
        life = datetime.fromisoformat(answer["expires_at"]) - told
    except (KeyError, TypeError, ValueError):
        return 0.0
    return life.total_seconds() - CLOCK_SECONDS - shelf.call_seconds
