"""A client with the shape of Anthropic's SDK, whose every answer can be arranged.

It has what the wrapper touches, by the names and in the manner of SDK 2.11: ``messages.create``
whole and streamed, ``messages.stream`` with its helper, raw responses, and errors with their status
and cause. It makes real requests over httpx.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Self

import httpx

TIMEOUT = 1.0
LONGEST = 20_000


class Model:
    """An object with the entries of an answer as attributes."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        for name, value in content.items():
            setattr(self, name, _model(value))
        self._content = content

    def __getattr__(self, name: str) -> Any:
        """Refuse what is not there; annotated so that anything may be asked for."""
        raise AttributeError(name)

    def model_dump(self) -> dict[str, Any]:
        """Give the answer as it came."""
        return dict(self._content)


def _model(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Model(value)
    return [_model(part) for part in value] if isinstance(value, list) else value


class APIStatusError(Exception):
    """An answer that is an error."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response
        self.request = response.request
        self.status_code = response.status_code


class APIConnectionError(Exception):
    """No answer."""


class RawResponse:
    """An answer with its exchange."""

    def __init__(self, response: httpx.Response, parsed: Any, retries_taken: int) -> None:
        self.http_response = response
        self.retries_taken = retries_taken
        self._parsed = parsed

    def parse(self) -> Any:
        """Give the answer."""
        return self._parsed


def _events(lines: list[str]) -> Iterator[Model]:
    for line in lines:
        if line.startswith("data: {"):
            yield Model(json.loads(line[6:]))


class Stream:
    """The raw events of a stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._iterator = self._read()

    def _read(self) -> Iterator[Model]:
        try:
            for line in self.response.iter_lines():
                yield from _events([line])
        except httpx.HTTPError as error:
            raise APIConnectionError("cut off") from error
        finally:
            self.response.close()

    def __iter__(self) -> Iterator[Model]:
        yield from self._iterator

    def __next__(self) -> Model:
        return next(self._iterator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.response.close()


class MessageStream(Stream):
    """The helper that ``messages.stream`` gives."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response)
        self.text = ""
        self.text_stream = self._texts()

    def _read(self) -> Iterator[Model]:
        for event in super()._read():
            if event.type == "content_block_delta":
                self.text += event.delta.text
            yield event

    def _texts(self) -> Iterator[str]:
        for event in self:
            if event.type == "content_block_delta":
                yield event.delta.text

    def until_done(self) -> None:
        """Read to the end."""
        for _ in self:
            pass

    def get_final_text(self) -> str:
        """Read to the end and give the whole text."""
        self.until_done()
        return self.text


class Manager:
    """The context that makes its call when it is entered."""

    def __init__(self, messages: Messages, arguments: Mapping[str, Any]) -> None:
        self._messages = messages
        self._arguments = arguments
        self._stream: MessageStream | None = None

    def __enter__(self) -> MessageStream:
        response, _ = self._messages.send({**self._arguments, "stream": True})
        self._stream = MessageStream(response)
        return self._stream

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()


class Messages:
    """The resource."""

    def __init__(self, client: Anthropic) -> None:
        self._client = client

    def create(self, *, model: str, max_tokens: int, messages: Any, **more: Any) -> Any:
        """Make a message."""
        return self._create(model=model, max_tokens=max_tokens, messages=messages, **more).parse()

    def stream(self, **arguments: Any) -> Manager:
        """Stream a message through the helper."""
        return Manager(self, arguments)

    def count_tokens(self, **arguments: Any) -> str:
        """Do something that costs nothing."""
        return "counted"

    @property
    def with_raw_response(self) -> Any:
        """Give the variant that shows its exchanges."""
        return Model({}) if self._client.is_old else _Raw(self._create)

    def _create(self, **arguments: Any) -> RawResponse:
        response, retries = self.send(arguments)
        if arguments.get("stream"):
            return RawResponse(response, Stream(response), retries)
        return RawResponse(response, Model(json.loads(response.read())), retries)

    def send(self, arguments: Mapping[str, Any]) -> tuple[httpx.Response, int]:
        """Send a request, once more after a refusal, and give how often that was."""
        if arguments.get("max_tokens", 0) > LONGEST and not arguments.get("stream"):
            raise ValueError("so long an answer must be streamed")
        for retries in range(2):
            request = self._client.http.build_request("POST", "/v1/messages", json=arguments)
            try:
                response = self._client.http.send(request, stream=True)
            except httpx.HTTPError as error:
                raise APIConnectionError("no connection") from error
            if response.status_code != 429 or retries:
                break
            response.close()
        if response.status_code >= 400:
            raise APIStatusError(response)
        return response, retries


class _Raw:
    def __init__(self, create: Any) -> None:
        self.create = create


class Anthropic:
    """The client; an old one has no raw responses."""

    def __init__(self, base_url: str, *, is_old: bool = False) -> None:
        self.base_url = base_url
        self.is_old = is_old
        self.http = httpx.Client(base_url=base_url, timeout=TIMEOUT)
        self.messages = Messages(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()


class AsyncStream:
    """The events of a stream on an event loop, with what the helper adds."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = ""
        self._iterator = self._read()

    async def _read(self) -> AsyncIterator[Model]:
        async for line in self.response.aiter_lines():
            for event in _events([line]):
                if event.type == "content_block_delta":
                    self.text += event.delta.text
                yield event

    def __aiter__(self) -> AsyncIterator[Model]:
        return self._iterator

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """Give the pieces of the text."""
        return self._texts()

    async def _texts(self) -> AsyncIterator[str]:
        async for event in self:
            if event.type == "content_block_delta":
                yield event.delta.text

    async def get_final_text(self) -> str:
        """Read to the end and give the whole text."""
        async for _ in self:
            pass
        return self.text

    async def close(self) -> None:
        """Close the connection."""
        await self.response.aclose()


class AsyncManager:
    """The context that makes its call when it is entered."""

    def __init__(self, messages: AsyncMessages, arguments: Mapping[str, Any]) -> None:
        self._messages = messages
        self._arguments = arguments
        self._stream: AsyncStream | None = None

    async def __aenter__(self) -> AsyncStream:
        self._stream = await self._messages.create(**self._arguments, stream=True)
        return self._stream

    async def __aexit__(self, *error: object) -> None:
        if self._stream is not None:
            await self._stream.close()


class AsyncMessages:
    """The resource for an event loop."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client

    async def create(self, **arguments: Any) -> Any:
        """Make a message."""
        request = self._client.http.build_request("POST", "/v1/messages", json=arguments)
        try:
            response = await self._client.http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise APIConnectionError("no connection") from error
        if response.status_code >= 400:
            raise APIStatusError(response)
        if arguments.get("stream"):
            return AsyncStream(response)
        return Model(json.loads(await response.aread()))

    def stream(self, **arguments: Any) -> AsyncManager:
        """Stream a message through the helper."""
        return AsyncManager(self, arguments)


class AsyncAnthropic:
    """The client for an event loop."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT)
        self.messages = AsyncMessages(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()
