"""Transports of httpx that check and record calls to providers, for whatever has no SDK we wrap.

    http = httpx.Client(transport=client.transport(feature="search"))

What goes to no known provider passes untouched, but for tags where the application asked for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tokenbudget.client._attempts import Attempt
from tokenbudget.client._baggage import BAGGAGE_HEADER, baggage_of
from tokenbudget.client._calls import OperationFacts, current_operation
from tokenbudget.client._desks import Asked, Desk
from tokenbudget.client._exchanges import BodyReader, Wanted, endpoint_of, wanted_by
from tokenbudget.client._hosts import provider_of_host
from tokenbudget.client._models import Call, Permit

POST: Final = "POST"
ANY_HOST: Final = "*."
# Set anew by httpx for the content of the request.
FRAMING: Final = frozenset({"content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Routes:
    """Which requests of a transport are calls of providers, and which take tags along."""

    desk: Desk
    providers: Mapping[str, str] = field(default_factory=dict)
    propagate_to: tuple[str, ...] = ()

    def provider_of(self, request: httpx.Request) -> str | None:
        """Give the provider that a request calls; None for any other request."""
        if request.method != POST or endpoint_of(request.url.path) is None:
            return None
        return provider_of_host(request.url.netloc.decode(), self.providers)

    def asked_by(self, request: httpx.Request, provider: str) -> tuple[Wanted, Asked] | None:
        """Give the call that a request makes, once its body is read; None if it makes none."""
        wanted = wanted_by(request.url.path, request.content)
        if wanted is None:
            return None
        asked = self.desk.ask(
            wanted.endpoint,
            wanted.arguments,
            provider,
            is_streamed=wanted.is_streamed,
            is_model_fixed=wanted.is_model_fixed,
        )
        return wanted, asked

    def tag(self, request: httpx.Request) -> None:
        """Send the tags that hold now along, to hosts that were named for it."""
        host = request.url.host
        if not any(_matches(host, pattern) for pattern in self.propagate_to):
            return
        if provider_of_host(request.url.netloc.decode(), self.providers) is not None:
            return
        desk = self.desk
        operation = current_operation() or OperationFacts({}, desk.base, desk.manner.baggage_keys)
        tags = operation.describe({"provider": "", "model": ""}, desk.tags).tags
        present = request.headers.get(BAGGAGE_HEADER, "")
        request.headers[BAGGAGE_HEADER] = baggage_of(tags, present)


class Transport(httpx.BaseTransport):
    """A transport that waits; made by ``Client.transport``."""

    def __init__(
        self,
        desk: Desk,
        check: Callable[[Call], Permit],
        inner: httpx.BaseTransport,
        *,
        providers: Mapping[str, str] | None = None,
        propagate_to: Iterable[str] = (),
    ) -> None:
        self._routes = Routes(desk, dict(providers or {}), tuple(propagate_to))
        self._check = check
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request. Raises QuotaDenied, CheckRefused and QuotaUnavailable unsent."""
        provider = self._routes.provider_of(request)
        if provider is None:
            self._routes.tag(request)
            return self._inner.handle_request(request)
        request.read()
        found = self._routes.asked_by(request, provider)
        if found is None:
            return self._inner.handle_request(request)
        wanted, asked = found
        attempt, arguments = self._routes.desk.begin(asked, self._check(asked.call))
        with attempt:
            response = self._inner.handle_request(_rewritten(request, wanted, arguments))
            reader = _reader_of(response, attempt, asked)
            if reader is not None and isinstance(response.stream, httpx.SyncByteStream):
                response.stream = _ReadAlong(response.stream, reader)
        return response

    def close(self) -> None:
        """Close what carries the requests."""
        self._inner.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """A transport of an event loop; made by ``AsyncClient.transport``."""

    def __init__(
        self,
        desk: Desk,
        check: Callable[[Call], Awaitable[Permit]],
        inner: httpx.AsyncBaseTransport,
        *,
        providers: Mapping[str, str] | None = None,
        propagate_to: Iterable[str] = (),
    ) -> None:
        self._routes = Routes(desk, dict(providers or {}), tuple(propagate_to))
        self._check = check
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request. Raises QuotaDenied, CheckRefused and QuotaUnavailable unsent."""
        provider = self._routes.provider_of(request)
        if provider is None:
            self._routes.tag(request)
            return await self._inner.handle_async_request(request)
        await request.aread()
        found = self._routes.asked_by(request, provider)
        if found is None:
            return await self._inner.handle_async_request(request)
        wanted, asked = found
        attempt, arguments = self._routes.desk.begin(asked, await self._check(asked.call))
        with attempt:
            response = await self._inner.handle_async_request(
                _rewritten(request, wanted, arguments)
            )
            reader = _reader_of(response, attempt, asked)
            if reader is not None and isinstance(response.stream, httpx.AsyncByteStream):
                response.stream = _AsyncReadAlong(response.stream, reader)
        return response

    async def aclose(self) -> None:
        """Close what carries the requests."""
        await self._inner.aclose()


class _ReadAlong(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, reader: BodyReader) -> None:
        self._stream = stream
        self._reader = reader
        reader.attempt.watch(self)

    def __iter__(self) -> Iterator[bytes]:
        with self._reader.attempt:
            for content in self._stream:
                passed = self._reader.feed(content)
                if passed:
                    yield passed
        rest = self._reader.end()
        if rest:
            yield rest

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._reader.break_off()


class _AsyncReadAlong(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, reader: BodyReader) -> None:
        self._stream = stream
        self._reader = reader
        reader.attempt.watch(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._reader.attempt:
            async for content in self._stream:
                passed = self._reader.feed(content)
                if passed:
                    yield passed
        rest = self._reader.end()
        if rest:
            yield rest

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._reader.break_off()


def _rewritten(
    request: httpx.Request, wanted: Wanted, arguments: Mapping[str, Any]
) -> httpx.Request:
    """Give the request with these arguments, and one whose answer comes in readable bytes."""
    headers = request.headers.copy()
    headers["accept-encoding"] = "identity"
    if dict(arguments) == dict(wanted.arguments):
        content = request.content
    else:
        content = wanted.body_of(arguments)
        for name in FRAMING:
            headers.pop(name, None)
    return httpx.Request(
        request.method,
        request.url,
        headers=headers,
        content=content,
        extensions=request.extensions,
    )


def _reader_of(response: httpx.Response, attempt: Attempt, asked: Asked) -> BodyReader | None:
    """Give the reader of an answer; the call of one that is an error has ended with it."""
    if not response.is_success:
        attempt.fail_by_status(response.status_code)
        return None
    attempt.answered(response)
    reader = BodyReader(attempt, asked.plan, response.headers)
    if not response.is_stream_consumed:
        return reader
    # What lies between has read it already, as a cache does; nobody will read it again.
    reader.feed(response.content)
    reader.end()
    return None


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith(ANY_HOST):
        return host.endswith(pattern[1:])
    return host == pattern
