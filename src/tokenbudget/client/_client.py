"""The client for programs that wait: a check before each call, its event behind it.

A service that is down costs a call no more than the time-out, and by the fail mode lets it through
or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from tokenbudget.client._calls import (
    OperationFacts,
    RunningCall,
    check_body,
    new_id,
    running,
)
from tokenbudget.client._desks import Desk
from tokenbudget.client._families import family_of, is_async, provider_of
from tokenbudget.client._forks import survive_forks
from tokenbudget.client._lessor import Lessor
from tokenbudget.client._manner import Manner
from tokenbudget.client._memory import Memory
from tokenbudget.client._models import Call, Permit
from tokenbudget.client._outlet import CLOSE_SECONDS, Outlet
from tokenbudget.client._proxies import Branch, unwrapped
from tokenbudget.client._service import (
    CHECK_PATH,
    Deadline,
    headers_of,
    permit_from,
    release_path,
)
from tokenbudget.client._transports import Transport
from tokenbudget.client._wrapping import Wrapping

SdkT = TypeVar("SdkT")


class Client:
    """One client of one service; it may be used from any thread and survives a fork."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        manner: Manner | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.manner = manner or Manner()
        self.tags = dict(tags or {})
        self.outlet = Outlet(url, api_key, self.manner, transport)
        self._memory = Memory(self.manner)
        self._lessor = Lessor(self.outlet, self._memory, self.manner)
        self._url, self._api_key, self._transport = url, api_key, transport
        self._http = self._connect()
        survive_forks(self)

    @contextmanager
    def operation(self, **tags: str) -> Iterator[Operation]:
        """Begin one operation of a user; its calls are its attempts and share its tags."""
        facts = OperationFacts(tags, self.tags, self.manner.baggage_keys)
        with running(facts):
            yield Operation(self, facts)

    def check(self, call: Call, *, dry_run: bool = False) -> Permit:
        """Ask whether the call may be made, and hold what it may cost.

        Raises QuotaDenied, CheckRefused, and QuotaUnavailable in fail mode closed.
        """
        ends = monotonic() + self.manner.timeout_seconds
        return self._check(call, ends, dry_run=dry_run)

    def release(self, hold_id: str) -> bool:
        """Give a hold back whose call was never sent; unanswered, it expires by itself."""
        ends = {"timeout": Deadline(self.manner.timeout_seconds)}
        try:
            return self._http.post(release_path(hold_id), extensions=ends).is_success
        except httpx.HTTPError:
            return False

    def record(self, event: Mapping[str, Any]) -> bool:
        """Spool a usage event; False when the spool is full and the event was dropped."""
        return self.outlet.record(event)

    def wrap(self, sdk: SdkT, /, *, provider: str | None = None, **tags: str) -> SdkT:
        """Give a client of the openai or anthropic SDK whose calls are checked and recorded.

        It has the type and signatures of ``sdk``, which stays as it is. ``provider`` is told where
        neither class nor address do. Its calls raise QuotaDenied, CheckRefused and
        QuotaUnavailable before anything is sent; TypeError for what is no such client.
        """
        target = unwrapped(sdk)
        family = family_of(target)
        if is_async(target):
            raise TypeError(f"{type(target).__name__} is awaited; wrap it with AsyncClient")
        wrapping = Wrapping(self._desk(tags), self._admit, provider or provider_of(target, family))
        return cast(SdkT, Branch(target, family, wrapping.bind))

    def transport(
        self,
        inner: httpx.BaseTransport | None = None,
        *,
        providers: Mapping[str, str] | None = None,
        propagate_to: Iterable[str] = (),
        **tags: str,
    ) -> Transport:
        """Give an httpx transport that checks and records the calls to providers through it.

        ``inner`` carries the requests. ``providers`` maps further hosts to providers. Requests to
        ``propagate_to`` (hosts, or ``*.suffix``) take the tags along in a ``baggage`` header; no
        provider is ever sent them.
        """
        return Transport(
            self._desk(tags),
            self._admit,
            inner or httpx.HTTPTransport(),
            providers=providers,
            propagate_to=propagate_to,
        )

    def flush(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Send what waits; False when time ran out or the service did not take it."""
        return self.outlet.flush(timeout_seconds)

    def close(self) -> None:
        """Send what waits, for a bounded time, and stop; what is left stays on disk."""
        self.outlet.close()
        self._http.close()

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def before_fork(self) -> None:
        """Need no rest: a request of another thread goes on in the parent alone."""

    def after_fork(self, *, is_child: bool) -> None:
        """Take connections of its own in a child, since two processes cannot share one."""
        if is_child:
            self._http = self._connect()

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._url, headers=headers_of(self._api_key), transport=self._transport
        )

    def _desk(self, tags: Mapping[str, str]) -> Desk:
        return Desk(self.outlet, self.manner, self.tags, tags)

    def _admit(self, call: Call) -> Permit:
        """Let a call through from a lease where there is one, else by a check; see ``check``."""
        ends = monotonic() + self.manner.timeout_seconds
        while isinstance(found := self._lessor.find(call), Future):
            left = ends - monotonic()
            if left <= 0:
                return self._memory.undecided(call, "no lease came in time")
            wait((found,), left)
        return found or self._check(call, ends)

    def _check(self, call: Call, ends: float, *, dry_run: bool = False) -> Permit:
        body = check_body(call, new_id(), dry_run=dry_run)
        deadline = Deadline(ends - monotonic())
        try:
            response = self._http.post(CHECK_PATH, json=body, extensions={"timeout": deadline})
        except httpx.HTTPError as error:
            return self._memory.undecided(call, f"{type(error).__name__}: {error}")
        return permit_from(response, call, self._memory)


class Operation:
    """One operation of a user: what it was for, and every call that it took."""

    def __init__(self, client: Client, facts: OperationFacts) -> None:
        self._client = client
        self.facts = facts

    @contextmanager
    def call(self, *, provider: str, model: str, **given: Any) -> Iterator[RunningCall]:
        """Check a call, give it to be made, and record what it used.

        ``given`` are further fields of ``Call``: bounds of tokens, tags, tier, region, account.
        An error inside the block is recorded as a failed attempt and raised on. Raises QuotaDenied
        before anything is made.
        """
        call = self.facts.describe({**given, "provider": provider, "model": model})
        permit = self._client._admit(call)
        made = self.facts.start(call, permit, source=self._client.manner.source, key=new_id())
        is_whole = False
        try:
            yield made
            is_whole = True
        finally:
            if not is_whole:
                made.broke_off()
            if not made.is_unsent:
                self._client.record(made.event())
            elif made.unused_hold is not None:
                self._client.release(made.unused_hold)
            made.leave_lease()
