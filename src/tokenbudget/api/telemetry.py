"""OTLP over HTTP: traces, logs and metrics of instrumented programs (formats/otlp).

It owns the protocol's manners: an answer in the encoding of its request, errors as
``google.rpc.Status``, 503 when nothing could be stored, since exporters drop their data on most
other errors. What cannot be counted is refused in part, never as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, TypeAlias

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from starlette.concurrency import run_in_threadpool

from tokenbudget.api.access import (
    AppState,
    KeyScheme,
    ServicesIn,
    authorize_on_loop,
    require_scope,
    state_of,
)
from tokenbudget.api.bodies import parse_body, read_body
from tokenbudget.api.problems import headers_of
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import TokenbudgetError
from tokenbudget.domain.periods import Period, parse_instant
from tokenbudget.domain.usage import Witness
from tokenbudget.formats.events import Door, check_event
from tokenbudget.formats.otlp import (
    DEFAULT_TAG_RULES,
    Encoding,
    Reading,
    ReadRecords,
    ReadSpans,
    Signal,
    decode_log_records,
    decode_metric_points,
    decode_spans,
    encode_error,
    encode_success,
    encoding_of,
    parse_tag_rules,
    read_log_records,
    read_metric_points,
    read_spans,
)
from tokenbudget.services.keys import KeyFacts
from tokenbudget.services.metric_checks import check_metrics, record_totals
from tokenbudget.services.traces import RecordSpans
from tokenbudget.services.usage import RecordAnswer, RecordUsage

INGEST = [Security(KeyScheme(), scopes=["ingest"])]
LANGFUSE_PREFIX: Final = "/api/public/otel/v1"
"""Where the Langfuse SDK exports to, below the base URL it is given."""
PROBE_HEADER: Final = "x-test-connection"
MAX_REASONS: Final = 3

EXPORT: Final = {
    Encoding.PROTOBUF.value: {"schema": {"type": "string", "format": "binary"}},
    Encoding.JSON.value: {"schema": {"type": "object"}},
}
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Stored; partial_success says what will never be", "content": EXPORT},
    "4XX": {"description": "Refused, as google.rpc.Status; do not send again", "content": EXPORT},
    "5XX": {"description": "Not stored, as google.rpc.Status; send again", "content": EXPORT},
}

router = APIRouter(tags=["telemetry"])


Taken: TypeAlias = tuple[int, Sequence[str]]
"""How much of a request was refused for good, and why."""
Take: TypeAlias = Callable[[AppState, KeyFacts, bytes, Encoding], Awaitable[Taken]]


async def take_traces(request: Request) -> Response:
    """Record the model calls among the spans of an OTLP export; all other spans are ignored."""
    return await _take(request, Signal.TRACES, _take_spans)


async def take_logs(request: Request) -> Response:
    """Record the requests of coding agents among the log records of an OTLP export."""
    return await _take(request, Signal.LOGS, _take_records)


async def take_metrics(request: Request) -> Response:
    """Keep token totals of an OTLP export to check the ledger by; they are never counted."""
    return await _take(request, Signal.METRICS, _take_points)


def _add_door(path: str, method: str, handler: Callable[..., Any], name: str) -> None:
    router.add_api_route(
        path,
        handler,
        methods=[method],
        name=name,
        dependencies=INGEST,
        response_class=Response,
        responses=ANSWERS,
        openapi_extra={"requestBody": {"required": True, "content": EXPORT}},
    )


for signal, handler in (
    (Signal.TRACES, take_traces),
    (Signal.LOGS, take_logs),
    (Signal.METRICS, take_metrics),
):
    _add_door(f"/v1/{signal}", "POST", handler, f"export_{signal}")
    _add_door(f"{LANGFUSE_PREFIX}/{signal}", "POST", handler, f"export_langfuse_{signal}")
# OpenRouter's Broadcast may put what others post.
_add_door("/v1/traces", "PUT", take_traces, "put_traces")


@router.get(
    "/v1/metric-checks",
    operation_id="check_metrics",
    dependencies=[Depends(require_scope("read"))],
)
def show_metric_checks(
    services: ServicesIn,
    start: Annotated[str, Query(description="First instant, RFC 3339, on a quarter-hour")],
    end: Annotated[str, Query(description="Instant after the last, on a quarter-hour")],
) -> dict[str, Any]:
    """Compare what emitters' metrics told in a period with what the ledger counted in it."""
    period = Period(parse_instant(start, field="start"), parse_instant(end, field="end"))
    return {
        "checks": [
            {
                "source": check.source,
                "metric": check.metric,
                "provider": check.provider,
                "model": check.model,
                "kind": check.kind,
                "told": format(check.told, "f"),
                "counted": check.counted,
            }
            for check in check_metrics(services.database, period)
        ]
    }


async def _take(request: Request, signal: Signal, take: Take) -> Response:
    """Answer an export in its own encoding, whatever becomes of it."""
    encoding = Encoding.JSON
    try:
        key = await authorize_on_loop(request, "ingest")
        encoding = encoding_of(request.headers.get("content-type"))
        state = state_of(request)
        body = await read_body(request, limit=state.services.settings.otlp_body_bytes)
        is_probe = PROBE_HEADER in request.headers and not body.strip(b" {}")
        refused, reasons = (0, ()) if is_probe else await take(state, key, body, encoding)
    except TokenbudgetError as error:
        return Response(
            encode_error(error.status, error.detail, encoding),
            status_code=error.status,
            media_type=encoding,
            headers=headers_of(error),
        )
    message = "; ".join(dict.fromkeys(reasons[:MAX_REASONS]))
    return Response(
        encode_success(signal, encoding, rejected=refused, message=message), media_type=encoding
    )


async def _take_spans(state: AppState, key: KeyFacts, body: bytes, encoding: Encoding) -> Taken:
    reading = _reading_of(state.services)

    def parse(text: bytes) -> ReadSpans:
        return read_spans(decode_spans(text, encoding), reading)

    read = await parse_body(parse, body)
    if not read.spans:
        return read.unusable, _unusable(read.unusable)
    work = RecordSpans(read, _door_of(state.services), key.caller)
    return _taken(await state.writer.submit(work), read.unusable)


async def _take_records(state: AppState, key: KeyFacts, body: bytes, encoding: Encoding) -> Taken:
    reading = _reading_of(state.services)

    def parse(text: bytes) -> ReadRecords:
        return read_log_records(decode_log_records(text, encoding), reading)

    read = await parse_body(parse, body)
    if not read.events:
        return read.unusable, _unusable(read.unusable)
    door = _door_of(state.services)
    items = [check_event(event, index, door) for index, event in enumerate(read.events)]
    return _taken(await state.writer.submit(RecordUsage(items, key.caller)), read.unusable)


async def _take_points(state: AppState, _key: KeyFacts, body: bytes, encoding: Encoding) -> Taken:
    services = state.services
    reading = _reading_of(services)

    def keep(text: bytes) -> None:
        totals = read_metric_points(decode_metric_points(text, encoding), reading)
        record_totals(services.database, totals)

    await run_in_threadpool(keep, body)
    return 0, ()


def _taken(answer: object, unusable: int) -> Taken:
    if not isinstance(answer, RecordAnswer):
        raise TypeError(f"recording telemetry was answered with {type(answer).__name__}")
    reasons = [f"{each.code}: {each.detail}" for each in answer.rejected]
    return len(answer.rejected) + unusable, [*reasons, *_unusable(unusable)]


def _unusable(count: int) -> list[str]:
    return [f"{count} without ids or times"] if count else []


def _door_of(services: Services) -> Door:
    tolerance = timedelta(seconds=services.settings.future_tolerance_seconds)
    return Door(services.clock(), tolerance, witness=Witness.OTLP)


def _reading_of(services: Services) -> Reading:
    settings = services.settings
    return _make_reading(
        tuple(settings.otlp_tags), tuple(settings.otlp_hosts), settings.otlp_accepts_guesses
    )


@lru_cache(maxsize=8)
def _make_reading(tags: tuple[str, ...], hosts: tuple[str, ...], accepts_guesses: bool) -> Reading:
    """Give how telemetry is read; the operator's rules stand before the usual ones."""
    rules = parse_tag_rules((*tags, *DEFAULT_TAG_RULES))
    providers = {host: provider for host, _, provider in (each.partition("=") for each in hosts)}
    return Reading(rules, providers, accepts_guesses)
