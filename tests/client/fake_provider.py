"""A provider on loopback: OpenAI's chat, responses and embeddings, Anthropic's messages, Gemini.

The model says what happens: one that begins with ``status-`` answers that status, ``once-429`` does
so the first time only, ``slow`` waits, ``cut`` hangs up in the middle of a stream, and ``trickle``
sends its events one by one. A chat's ``seed`` is the number in its response id.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any, Final

SLOW_SECONDS: Final = 1.5
TRICKLE_SECONDS: Final = 0.02
WORDS: Final = ("A ", "short ", "secret ", "answer.")
CHAT_USAGE: Final = {
    "prompt_tokens": 1_000,
    "completion_tokens": 100,
    "total_tokens": 1_100,
    "prompt_tokens_details": {"cached_tokens": 200},
}
RESPONSES_USAGE: Final = {
    "input_tokens": 1_000,
    "input_tokens_details": {"cached_tokens": 200},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 60},
    "total_tokens": 1_100,
}
MESSAGES_USAGE: Final = {
    "input_tokens": 300,
    "cache_read_input_tokens": 500,
    "cache_creation_input_tokens": 200,
    "output_tokens": 100,
}
GEMINI_USAGE: Final = {
    "promptTokenCount": 1_000,
    "candidatesTokenCount": 100,
    "totalTokenCount": 1_100,
}

Chunk = dict[str, Any]


@dataclass(slots=True)
class FakeProvider:
    """What was asked, in order, and where to ask."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def count(self, model: str) -> int:
        """Give how often a model was asked for."""
        return sum(1 for request in self.asked if request.get("model") == model)


def _chat(request: dict[str, Any]) -> Chunk:
    message = {"role": "assistant", "content": "".join(WORDS)}
    reason = "length" if "length" in request["model"] else "stop"
    return {
        "id": f"chatcmpl-{request.get('seed', 1)}",
        "object": "chat.completion",
        "created": 1_763_700_000,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": CHAT_USAGE,
    }


def _chat_chunks(request: dict[str, Any]) -> list[Chunk]:
    shared = {**_chat(request), "object": "chat.completion.chunk"}
    del shared["usage"]
    chunks = [
        {**shared, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        for word in WORDS
    ]
    chunks.append({**shared, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({**shared, "choices": [], "usage": CHAT_USAGE})
    return chunks


def _response(request: dict[str, Any], status: str = "completed") -> Chunk:
    content = [{"type": "output_text", "text": "".join(WORDS), "annotations": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_763_700_000,
        "model": request["model"],
        "status": status,
        "output": [{**item, "content": content}] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES_USAGE if status != "in_progress" else None,
    }


def _response_chunks(request: dict[str, Any]) -> list[Chunk]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    status = "failed" if "failed" in request["model"] else "completed"
    chunks: list[Chunk] = [
        {"type": "response.created", "response": _response(request, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": word} for word in WORDS),
        {"type": f"response.{status}", "response": _response(request, status)},
    ]
    return [{**chunk, "sequence_number": number} for number, chunk in enumerate(chunks)]


def _message(request: dict[str, Any]) -> Chunk:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": [{"type": "text", "text": "".join(WORDS)}],
        "stop_reason": "end_turn",
        "usage": MESSAGES_USAGE,
    }


def _message_chunks(request: dict[str, Any]) -> list[Chunk]:
    start = {**_message(request), "content": [], "stop_reason": None}
    start["usage"] = {**MESSAGES_USAGE, "output_tokens": 1}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in WORDS
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 100},
        },
        {"type": "message_stop"},
    ]


def _embedding(request: dict[str, Any]) -> Chunk:
    return {
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 40, "total_tokens": 40},
    }


def _gemini(request: dict[str, Any]) -> Chunk:
    parts = [{"text": "".join(WORDS)}]
    return {
        "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": GEMINI_USAGE,
        "modelVersion": request["model"],
        "responseId": "gem-1",
    }


WHOLE: Final = {
    "completions": _chat,
    "responses": _response,
    "messages": _message,
    "embeddings": _embedding,
}
STREAMED: Final = {
    "completions": _chat_chunks,
    "responses": _response_chunks,
    "messages": _message_chunks,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: FakeProvider

    def do_POST(self) -> None:
        """Answer one call."""
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = self.path.rpartition("/")[2]
        if ":" in name:
            request.setdefault("model", name.partition(":")[0])
        model = request.get("model", "")
        self.provider.asked.append(request)
        self.provider.headers.append({key.lower(): value for key, value in self.headers.items()})
        if model.startswith("slow"):
            sleep(SLOW_SECONDS)
        if model.startswith("status-"):
            self._fail(int(model.removeprefix("status-")))
        elif model == "once-429" and self.provider.count(model) == 1:
            self._fail(429)
        elif ":" in name:
            self._answer(_gemini(request))
        elif request.get("stream"):
            self._stream(STREAMED[name](request), model)
        else:
            self._answer(WHOLE[name](request))

    def do_GET(self) -> None:
        """Answer something that is no call."""
        self._answer({"ok": True})

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _fail(self, status: int) -> None:
        body = json.dumps({"error": {"message": "no", "type": "error"}}).encode()
        self._begin(status, "application/json", len(body), {"retry-after-ms": "1"})
        self.wfile.write(body)

    def _answer(self, body: Chunk) -> None:
        content = json.dumps(body).encode()
        self._begin(200, "application/json", len(content))
        self.wfile.write(content)

    def _stream(self, chunks: list[Chunk], model: str) -> None:
        lines = [
            (f"event: {chunk['type']}\n" if "type" in chunk else "")
            + f"data: {json.dumps(chunk)}\n\n"
            for chunk in chunks
        ]
        content = "".join([*lines, "data: [DONE]\n\n"]).encode()
        self._begin(200, "text/event-stream", len(content))
        if model.startswith("cut"):
            content = "".join(lines[:3]).encode()
            self.close_connection = True
        if model != "trickle":
            self.wfile.write(content)
            return
        for line in [*lines, "data: [DONE]\n\n"]:
            self.wfile.write(line.encode())
            sleep(TRICKLE_SECONDS)

    def _begin(
        self, status: int, kind: str, length: int, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who hang up, as they do here on purpose."""


@contextmanager
def providing() -> Iterator[FakeProvider]:
    """Give a provider that answers until the block ends."""
    provider = FakeProvider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = _Server(("127.0.0.1", 0), handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
