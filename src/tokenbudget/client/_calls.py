"""Operations and the calls inside them, the same for both clients: pure bookkeeping of one call.

A call goes: check, made by the caller, ``usage`` told from its response; its event is then spooled.
It refuses to talk to the network.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any, Final

from tokenbudget.client._baggage import tags_in_context
from tokenbudget.client._clock import utc_now
from tokenbudget.client._models import Call, Permit
from tokenbudget.client._responses import ResponseFacts, read_response
from tokenbudget.client._tags import current_tags

MILLISECONDS: Final = 1_000
UNKNOWN: Final = "unknown"
ERROR: Final = "error"
MAX_ATTEMPT: Final = 1_000


def new_id() -> str:
    """Give an id that no other event has."""
    return uuid.uuid4().hex


def check_body(call: Call, key: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Give the body of a check; what is not known is left out."""
    known = {
        "provider": call.provider,
        "model": call.model,
        "tags": dict(call.tags),
        "input_tokens": call.input_tokens,
        "max_output_tokens": call.max_output_tokens,
        "estimate": None if call.estimate is None else str(call.estimate),
        "service_tier": call.service_tier,
        "ttl_seconds": call.ttl_seconds,
        "operation_id": call.operation_id,
        "idempotency_key": key,
        "dry_run": dry_run or None,
    }
    return {name: value for name, value in known.items() if value is not None}


@dataclass(slots=True)
class RunningCall:
    """A call that may be made: its limits before, its usage afterwards."""

    call: Call
    permit: Permit
    source: str
    attempt: int
    operation_id: str
    key: str
    started: float = field(default_factory=perf_counter)
    occurred_at: datetime = field(default_factory=utc_now)
    status: str = "ok"
    is_told: bool = False
    is_unsent: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Permit:
        """Give what the call may use: ``model``, its ``provider`` if another, and most output."""
        return self.permit

    def usage(self, response: object = None, /, **counts: int) -> None:
        """Tell what was used: a response or usage object of any provider, or counts by unit.

        Raises ValueError when neither holds a count.
        """
        read = read_response(response) if response is not None else None
        if counts:
            self.facts["usage"] = dict(counts)
        elif read is not None and read.usage:
            self.facts["provider_usage"] = read.usage
        else:
            raise ValueError("no usage found; give a response object or counts by unit")
        if read is not None:
            self.note(read)
        self.is_told = True

    def failed(self, status: str = ERROR) -> None:
        """Tell that the provider answered with an error, or not at all."""
        self.status = status

    def broke_off(self) -> None:
        """Note an error inside the block: before usage was told, the attempt has failed."""
        if not self.is_told and self.status == "ok":
            self.failed()

    def not_sent(self) -> None:
        """Tell that the provider was never asked: the hold is given back, nothing recorded."""
        self.is_unsent = True

    @property
    def unused_hold(self) -> str | None:
        """Give the hold of a call that was not sent and that shares it with no other; else None."""
        is_shared = self.permit.lease is not None
        return self.permit.hold_id if self.is_unsent and not is_shared else None

    def leave_lease(self) -> None:
        """Tell the lease that this call is over, if it has one; its event must be on its way.

        A call that was refused has counted as a request, so its piece is spent, too.
        """
        lease = self.permit.lease
        if lease is None:
            return
        if self.is_unsent:
            lease.give_back()
        else:
            lease.end()

    def event(self) -> dict[str, Any]:
        """Give the event that tells the ledger of this call.

        Usage that was never told is unknown, not zero.
        """
        if not self.is_told and self.status == "ok":
            self.status = UNKNOWN
        known: dict[str, Any] = {
            "event_id": self.key,
            "source": self.source,
            "occurred_at": self.occurred_at.isoformat(),
            "provider": self.permit.provider or self.call.provider,
            "model": self.permit.model,
            "operation": self.call.operation,
            "service_tier": self.call.service_tier,
            "region": self.call.region,
            "account": self.call.account,
            "status": self.status,
            "attempt": min(self.attempt, MAX_ATTEMPT),
            "operation_id": self.operation_id,
            "latency_ms": self._elapsed(),
            "tags": dict(self.call.tags),
            "hold_id": self.permit.hold_id,
            **self.facts,
        }
        return {name: value for name, value in known.items() if value is not None}

    def note(self, facts: ResponseFacts) -> None:
        """Take what a response says of itself: its id, the model that answered and the tier."""
        if facts.response_id:
            self.facts["response_id"] = facts.response_id
        if facts.model and facts.model != self.permit.model:
            self.facts.update(model=facts.model, request_model=self.permit.model)
        if facts.service_tier:
            self.facts["service_tier"] = facts.service_tier

    def token_came(self) -> None:
        """Note the first token of an answer; later ones change nothing."""
        self.facts.setdefault("time_to_first_token_ms", self._elapsed())

    def _elapsed(self) -> int:
        return int((perf_counter() - self.started) * MILLISECONDS)


@dataclass(slots=True)
class OperationFacts:
    """One operation of a user: its id and tags, and how many calls it has made.

    ``base`` are tags of the client, which those of anything nearer replace.
    """

    tags: Mapping[str, str]
    base: Mapping[str, str] = field(default_factory=dict)
    baggage_keys: tuple[str, ...] = ()
    operation_id: str = field(default_factory=new_id)
    attempts: int = 0

    def describe(self, given: Mapping[str, Any], wrapped: Mapping[str, str] | None = None) -> Call:
        """Give a call of this operation with every tag that holds for it, nearest first.

        ``given`` holds fields of ``Call``; others are a TypeError. ``wrapped`` are the tags of a
        wrapped SDK: nearer than the client's and farther than those of a running block.
        """
        tags = {
            **tags_in_context(self.baggage_keys),
            **self.base,
            **(wrapped or {}),
            **self.tags,
            **current_tags(),
            **given.get("tags", {}),
        }
        return Call(**{"operation_id": self.operation_id, **given, "tags": tags})

    def start(self, call: Call, permit: Permit, *, source: str, key: str) -> RunningCall:
        """Give the call that this permit lets through; each is one more attempt."""
        self.attempts += 1
        return RunningCall(call, permit, source, self.attempts, self.operation_id, key)


_current: ContextVar[OperationFacts | None] = ContextVar("tokenbudget_operation", default=None)


def current_operation() -> OperationFacts | None:
    """Give the operation of the running block, of this task or the one that began it."""
    return _current.get()


@contextmanager
def running(facts: OperationFacts) -> Iterator[None]:
    """Make this operation the one that calls of wrapped SDKs belong to."""
    token = _current.set(facts)
    try:
        yield
    finally:
        # A framework may leave a block in another context than it entered; nothing holds there.
        with suppress(ValueError):
            _current.reset(token)
