"""A provider on loopback that speaks OpenAI's API and tells, in ``truth``, what it answered.

Every call's usage differs by the number of the call, so that no two can be mistaken.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

CREATED: Final = 1_763_700_000
CACHED_TOKENS: Final = 1_536
REASONING_TOKENS: Final = 192


@dataclass(frozen=True, slots=True)
class Answered:
    """One call as the provider knows it; a stream that asks for no usage is sent none."""

    model: str
    response_id: str | None
    input_tokens: int
    output_tokens: int
    is_usage_sent: bool = True


@dataclass(slots=True)
class FakeProvider:
    """What was answered so far, and the address to call."""

    url: str = ""
    truth: list[Answered] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def chat(self, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Give a whole chat completion, and whether its usage is sent."""
        is_sent = not request.get("stream") or bool(
            (request.get("stream_options") or {}).get("include_usage")
        )
        with self.lock:
            number = len(self.truth) + 1
            answered = Answered(
                request["model"], f"chatcmpl-LOOP{number:04}", 1_824 + number, 312 + number, is_sent
            )
            self.truth.append(answered)
        usage = {
            "prompt_tokens": answered.input_tokens,
            "completion_tokens": answered.output_tokens,
            "total_tokens": answered.input_tokens + answered.output_tokens,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
            "completion_tokens_details": {"reasoning_tokens": REASONING_TOKENS},
        }
        message = {"role": "assistant", "content": "A short answer."}
        return {
            "id": answered.response_id,
            "object": "chat.completion",
            "created": CREATED,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }, is_sent

    def embeddings(self, request: dict[str, Any]) -> dict[str, Any]:
        """Give an embedding of one number; such answers carry no id."""
        with self.lock:
            tokens = 40 + len(self.truth) + 1
            self.truth.append(Answered(request["model"], None, tokens, 0))
        return {
            "object": "list",
            "model": request["model"],
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


@contextmanager
def providing() -> Iterator[FakeProvider]:
    """Give a provider that answers until the block ends."""
    provider = FakeProvider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer one call."""
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path.endswith("/embeddings"):
                self._answer(200, provider.embeddings(request))
            elif request["model"] == "does-not-exist":
                self._answer(404, {"error": {"message": "no such model", "type": "not_found"}})
            else:
                whole, is_usage_sent = provider.chat(request)
                if request.get("stream"):
                    self._stream(whole, is_usage_sent=is_usage_sent)
                else:
                    self._answer(200, whole)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            self._send(status, "application/json", json.dumps(body).encode())

        def _stream(self, whole: dict[str, Any], *, is_usage_sent: bool) -> None:
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(whole, is_usage_sent)]
            self._send(200, "text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())

        def _send(self, status: int, content_type: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _chunks(whole: dict[str, Any], is_usage_sent: bool) -> list[dict[str, Any]]:
    shared = {name: whole[name] for name in ("id", "created", "model")}
    shared["object"] = "chat.completion.chunk"
    word = {"index": 0, "delta": {"role": "assistant", "content": "A"}, "finish_reason": None}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [{**shared, "choices": [word]}, {**shared, "choices": [end]}]
    return (
        [*chunks, {**shared, "choices": [], "usage": whole["usage"]}] if is_usage_sent else chunks
    )
