"""Asking providers' admin APIs: pages, limits of rate, failures, and how long to bear with them.

It owns when a request is made again and when it is given up; it refuses to know what an answer says
beyond its buckets. A key goes into the header of a request and nowhere else: no error and no line
of the log quotes it, and an answer that repeats it is not quoted either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx
import structlog

from tokenbudget import __version__
from tokenbudget.domain.errors import (
    BadFile,
    ConfigurationError,
    InvalidInput,
    TokenbudgetError,
    Unavailable,
)
from tokenbudget.domain.periods import Period, format_instant
from tokenbudget.formats.bill_requests import (
    AdminApi,
    DayBucket,
    Page,
    Query,
    Report,
    load_answer,
    page_query,
    read_page,
)

USER_AGENT: Final = f"tokenbudget/{__version__}"
MAX_TRIES: Final = 8
MAX_PAUSE_SECONDS: Final = 600
"""How long one client may wait in all, over every report of a pull."""
LONGEST_BACKOFF_SECONDS: Final = 60
REQUEST_TIMEOUT_SECONDS: Final = 60
MAX_PAGES: Final = 1_000
MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
MAX_SHOWN_LENGTH: Final = 300
KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
PASSING_REFUSALS: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """Where a provider is asked and with which key; ``repr`` leaves the key out."""

    api: AdminApi
    base_url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pacing:
    """What a client lets time pass by.

    ``pause`` waits so many seconds and may raise to end the pull; ``clock`` gives the time, for
    answers that name a date; ``jitter`` gives a number from 0 up to and without 1.
    """

    pause: Callable[[float], object]
    clock: Callable[[], datetime]
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why an attempt failed although the next may not, and how long the provider asks to wait."""

    reason: str
    asked_seconds: int = 0


class ProviderClient:
    """Asks one provider; its patience is for one pull."""

    def __init__(self, http: httpx.Client, access: Access, pacing: Pacing) -> None:
        self.api = access.api
        self._http = http
        self._access = access
        self._pacing = pacing
        self._paused_seconds = 0

    def iterate_days(self, report: Report, period: Period) -> Iterator[DayBucket]:
        """Give the buckets of the period in order, each once and whole, as they come.

        A bucket that goes on over several pages is given when its last page was read. Raises
        BadFile when the provider tells buckets out of order or pages without end.
        """
        held: DayBucket | None = None
        for bucket in self._iterate_told(report, period):
            if held is not None and bucket.period == held.period:
                held = held.joined_with(bucket)
                continue
            if held is not None:
                _require_order(held, bucket, report)
                yield held
            held = bucket
        if held is not None:
            yield held

    def _iterate_told(self, report: Report, period: Period) -> Iterator[DayBucket]:
        mark, seen = None, set[str]()
        while True:
            page = self.get_page(report, page_query(self.api, report, period, mark))
            # A provider may widen what it was asked for.
            yield from (bucket for bucket in page.buckets if period.contains(bucket.period.start))
            mark = page.next_page
            if mark is None:
                return
            if mark in seen or len(seen) == MAX_PAGES:
                raise _refuse(report, f"the pages have no end: {len(seen)} were read")
            seen.add(mark)

    def get_page(self, report: Report, query: Query) -> Page:
        """Give one page, asking again while there is hope.

        Raises ConfigurationError when the key is refused, InvalidInput when the request is,
        BadFile when the answer is no page, and Unavailable when there is none after some tries.
        """
        tried = 0
        while True:
            # Also lets a server that is about to stop end the pull.
            self._pacing.pause(0)
            answer = self._try(report, query)
            if not isinstance(answer, _Refusal):
                return read_page(self.api, report, answer)
            tried += 1
            self._wait(report, answer, tried)

    def _try(self, report: Report, query: Query) -> object | _Refusal:
        try:
            status, headers, body = self._send(report, query)
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _Refusal(type(error).__name__)
        if status == HTTPStatus.OK:
            try:
                return load_answer(self.api, report, body)
            except BadFile as error:
                return _Refusal(error.detail)
        if status in PASSING_REFUSALS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            now = self._pacing.clock()
            return _Refusal(f"status {status}", retry_after(headers.get("retry-after"), now=now))
        raise self._final(report, status, body)

    def _send(self, report: Report, query: Query) -> tuple[int, httpx.Headers, bytes]:
        """Give status, headers and the body as far as a page may reach."""
        with self._http.stream(
            "GET",
            self._access.base_url + report.path,
            params=tuple(query),
            headers={"user-agent": USER_AGENT, **self.api.headers(self._access.key)},
            timeout=REQUEST_TIMEOUT_SECONDS,
            follow_redirects=False,
        ) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_PAGE_BYTES:
                    raise _refuse(report, f"a page is larger than {MAX_PAGE_BYTES} bytes")
            return response.status_code, response.headers, bytes(body)

    def _final(self, report: Report, status: int, body: bytes) -> TokenbudgetError:
        """Give the error for an answer that no further try would change."""
        name, variable = self.api.name, self.api.key_variable
        if status in KEY_REFUSED:
            return ConfigurationError(
                f"{name} refuses the key in {variable} for {report.path} (status {status}):"
                " it must be an admin key that may read usage and costs"
            )
        detail = f"{name} refuses GET {report.path} (status {status}): {self._quoted(body)}"
        return InvalidInput(detail, field="source")

    def _quoted(self, body: bytes) -> str:
        text = " ".join(body.decode(errors="replace").split())
        if self._access.key in text:
            return "its answer is not shown, since it repeats the key"
        return text[:MAX_SHOWN_LENGTH] or "without a word"

    def _wait(self, report: Report, refusal: _Refusal, tried: int) -> None:
        seconds = max(refusal.asked_seconds, self._backoff_seconds(tried))
        left = MAX_PAUSE_SECONDS - self._paused_seconds
        if tried == MAX_TRIES or seconds > left:
            raise Unavailable(
                f"{self.api.name} does not answer GET {report.path}: {refusal.reason},"
                f" after {tried} tries",
                retry_after_seconds=max(1, refusal.asked_seconds),
            )
        logger.warning(
            "provider_asked_again",
            provider=self.api.name,
            path=report.path,
            reason=refusal.reason,
            tried=tried,
            wait_seconds=seconds,
        )
        self._paused_seconds += seconds
        self._pacing.pause(seconds)

    def _backoff_seconds(self, tried: int) -> int:
        """Give a wait that doubles up to a bound, of which chance decides the second half."""
        longest = min(1 << tried, LONGEST_BACKOFF_SECONDS)
        return longest - int(self._pacing.jitter() * (longest // 2 + 1))


def retry_after(value: str | None, *, now: datetime) -> int:
    """Give the seconds that a ``Retry-After`` asks for, as a number or a date; 0 when it says none.

    RFC 9110, section 10.2.3. A text that is neither asks for nothing.
    """
    if value is None:
        return 0
    text = value.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, -((now - aware) // timedelta(seconds=1)))


def _require_order(held: DayBucket, bucket: DayBucket, report: Report) -> None:
    """Refuse a day that comes again after a later one: it would replace what was read of it."""
    if bucket.period.start < held.period.end:
        start = format_instant(bucket.period.start)
        raise _refuse(report, f"the bucket of {start} comes after that of a later time")


def _refuse(report: Report, rule: str) -> BadFile:
    return BadFile(f"{report.path}: {rule}", file=report.path, rule=rule)
