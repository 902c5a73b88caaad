"""OpenAI's and Anthropic's admin APIs for billing, as documented, on a socket of this machine.

It owns what the two APIs promise: keys, queries, limits, buckets and pages. A test gives it the
days it tells of and the faults of its next answers, and reads what it was asked.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

BILLING = Path(__file__).parent / "data" / "billing"
OPENAI_KEY = "sk-admin-of-the-tests"
ANTHROPIC_KEY = "sk-ant-admin-of-the-tests"
POLL_SECONDS = 0.01

COSTS = "/v1/organization/costs"
USAGE = "/v1/organization/usage/"
COST_REPORT = "/v1/organizations/cost_report"
USAGE_REPORT = "/v1/organizations/usage_report/messages"
SAMPLES = {
    COSTS: ("openai-costs.page1", "openai-costs.page2"),
    USAGE + "completions": ("openai-usage-completions.page1", "openai-usage-completions.page2"),
    USAGE + "embeddings": ("openai-usage-embeddings",),
    USAGE + "images": ("openai-usage-images",),
    USAGE + "audio_transcriptions": ("openai-usage-audio_transcriptions",),
    USAGE + "web_search_calls": ("openai-usage-web_search_calls",),
    COST_REPORT: ("anthropic-cost-report.page1", "anthropic-cost-report.page2"),
    USAGE_REPORT: ("anthropic-usage-messages.page1", "anthropic-usage-messages.page2"),
}
OPENAI_GROUPS = {
    COSTS: {"project_id", "line_item", "api_key_id"},
    USAGE + "completions": {
        *("project_id", "user_id", "api_key_id", "model", "batch", "service_tier"),
    },
    USAGE + "embeddings": {"project_id", "user_id", "api_key_id", "model"},
    USAGE + "moderations": {"project_id", "user_id", "api_key_id", "model"},
    USAGE + "images": {"project_id", "user_id", "api_key_id", "model", "size", "source"},
    USAGE + "audio_speeches": {"project_id", "user_id", "api_key_id", "model"},
    USAGE + "audio_transcriptions": {"project_id", "user_id", "api_key_id", "model"},
    USAGE + "vector_stores": {"project_id"},
    USAGE + "code_interpreter_sessions": {"project_id"},
    USAGE + "file_search_calls": {"project_id", "user_id", "api_key_id", "vector_store_id"},
    USAGE + "web_search_calls": {
        *("project_id", "user_id", "api_key_id", "model", "context_level"),
    },
}
ANTHROPIC_GROUPS = {
    COST_REPORT: {"workspace_id", "description"},
    USAGE_REPORT: {
        *("account_id", "api_key_id", "context_window", "inference_geo", "model"),
        *("service_account_id", "service_tier", "workspace_id"),
    },
}
MOST_DAYS = {COSTS: 180}
USUAL_MOST_DAYS = 31

Results = list[dict[str, Any]]
ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class Fault:
    """What one request is answered with instead; ``cut_at`` ends the body after so many bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_at: int | None = None


@dataclass(frozen=True)
class Asked:
    """One request: its path, its query with every value, and its headers in lower case."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class FakeProviders:
    """Both APIs: ``days`` has the results by path and day, every other day being empty.

    ``page_days`` bounds the buckets of a page and ``page_results`` the results of a bucket on one
    page, so that a bucket goes on over pages. ``faults`` are spent one a request.
    """

    days: dict[str, dict[date, Results]] = field(default_factory=dict)
    faults: deque[Fault | None] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    keys: set[str] = field(default_factory=lambda: {OPENAI_KEY, ANTHROPIC_KEY})
    page_days: int | None = None
    page_results: int | None = None
    url: str = ""

    def tell_samples(self) -> None:
        """Tell what the sample pages say."""
        for path, names in SAMPLES.items():
            for name in names:
                self.tell_page(path, f"{name}.json")

    def tell_page(self, path: str, file_name: str) -> None:
        """Tell what one saved page says of its days, in place of what was told of them."""
        page = json.loads((BILLING / file_name).read_bytes(), parse_float=Decimal)
        told = self.days.setdefault(path, {})
        for bucket in page["data"]:
            start = bucket.get("start_time", bucket.get("starting_at"))
            if isinstance(start, int):
                day = datetime.fromtimestamp(start, tz=UTC).date()
            else:
                day = datetime.fromisoformat(start).date()
            told[day] = bucket["results"]

    def asked_of(self, path: str) -> list[Asked]:
        """Give the requests of one path."""
        return [asked for asked in self.asked if asked.path == path]

    def answer(self, asked: Asked) -> Fault:
        """Give the documented answer to a request."""
        is_openai = asked.path in OPENAI_GROUPS
        if not is_openai and asked.path not in ANTHROPIC_GROUPS:
            return _error(404, "Not found")
        if self._key(asked, is_openai) not in self.keys:
            return _error(401, f"Incorrect API key provided: {self._key(asked, is_openai)}")
        wrong = _find_wrong(asked, is_openai)
        if wrong is not None:
            return _error(400, wrong)
        return Fault(body=ENCODER.encode(self._page(asked, is_openai)))

    def _key(self, asked: Asked, is_openai: bool) -> str:
        if is_openai:
            return asked.headers.get("authorization", "").removeprefix("Bearer ")
        has_version = asked.headers.get("anthropic-version") == "2023-06-01"
        return asked.headers.get("x-api-key", "") if has_version else ""

    def _page(self, asked: Asked, is_openai: bool) -> dict[str, Any]:
        first, after = _bounds(asked, is_openai)
        days = [first + timedelta(days=n) for n in range((after - first).days)]
        told = self.days.get(asked.path, {})
        pieces = [(day, piece) for day in days for piece in self._pieces(told.get(day.date(), []))]
        limit = int(asked.query["limit"][0])
        count = min(limit, self.page_days or limit)
        begin = int(asked.query.get("page", ["page_0"])[0].removeprefix("page_"))
        has_more = begin + count < len(pieces)
        page: dict[str, Any] = {
            "data": [
                _bucket(day, piece, is_openai) for day, piece in pieces[begin : begin + count]
            ],
            "has_more": has_more,
            "next_page": f"page_{begin + count}" if has_more else None,
        }
        return {"object": "page", **page} if is_openai else page

    def _pieces(self, results: Results) -> list[Results]:
        size = self.page_results or max(1, len(results))
        return [results[n : n + size] for n in range(0, max(1, len(results)), size)]


@contextmanager
def running_providers() -> Iterator[FakeProviders]:
    """Give both APIs on a free port of loopback while the block runs."""
    providers = FakeProviders()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body go out one after the other, which would each wait for the other side.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(address.path, parse_qs(address.query), headers)
            providers.asked.append(asked)
            fault = providers.faults.popleft() if providers.faults else None
            told = providers.answer(asked) if fault is None or fault.body is None else fault
            body = told.body or b""
            self.send_response(told.status if fault is None else fault.status)
            for name, value in (fault or told).headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if fault is None else body[: fault.cut_at])
            if fault is not None and fault.cut_at is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of the test run clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
    thread.start()
    providers.url = f"http://127.0.0.1:{server.server_port}"
    yield providers
    server.shutdown()
    thread.join()
    server.server_close()


def _find_wrong(asked: Asked, is_openai: bool) -> str | None:
    """Give what the documentation does not allow about a query, None when nothing."""
    limit = int(asked.query.get("limit", ["7"])[0])
    most = MOST_DAYS.get(asked.path, USUAL_MOST_DAYS)
    if not 1 <= limit <= most:
        return f"limit must be between 1 and {most}"
    if asked.query.get("bucket_width") != ["1d"]:
        return "bucket_width must be 1d"
    groups = OPENAI_GROUPS if is_openai else ANTHROPIC_GROUPS
    given = asked.query.get("group_by" if is_openai else "group_by[]", [])
    unknown = set(given) - groups[asked.path]
    return f"unknown group_by {sorted(unknown)}" if unknown else None


def _bounds(asked: Asked, is_openai: bool) -> tuple[datetime, datetime]:
    names = ("start_time", "end_time") if is_openai else ("starting_at", "ending_at")
    first, after = (asked.query[name][0] for name in names)
    if is_openai:
        return datetime.fromtimestamp(int(first), tz=UTC), datetime.fromtimestamp(
            int(after), tz=UTC
        )
    return datetime.fromisoformat(first), datetime.fromisoformat(after)


def _bucket(day: datetime, results: Sequence[dict[str, Any]], is_openai: bool) -> dict[str, Any]:
    end = day + timedelta(days=1)
    if is_openai:
        times: dict[str, Any] = {
            "object": "bucket",
            "start_time": int(day.timestamp()),
            "end_time": int(end.timestamp()),
        }
    else:
        times = {
            "starting_at": day.isoformat().replace("+00:00", "Z"),
            "ending_at": end.isoformat().replace("+00:00", "Z"),
        }
    return {**times, "results": list(results)}


def _error(status: int, message: str) -> Fault:
    return Fault(status, body=json.dumps({"error": {"message": message}}).encode())
