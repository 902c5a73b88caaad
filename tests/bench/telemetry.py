"""What the load generator sends to OTLP: exports as the official instrumentation makes them.

A trace is a business span that carries feature and tenant, an agent's span in it, and the model
calls of the agent; team and environment are on the resource. An export holds 512 spans, which is
what an SDK's batch processor sends at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from tests.bench.traffic import START

SPANS_PER_EXPORT: Final = 512
CALLS_PER_TRACE: Final = 6
SPANS_PER_TRACE: Final = CALLS_PER_TRACE + 2
TRACES_PER_EXPORT: Final = SPANS_PER_EXPORT // SPANS_PER_TRACE
SCOPE: Final = "opentelemetry.instrumentation.genai.openai"
MODELS: Final = ("gpt-5.2", "gpt-5-mini", "gpt-4o", "gpt-4o-mini")
FEATURES, TENANTS = 15, 200
PREPARED: Final = 8
# Both are replaced in the finished bytes by something as long that no other export has.
TRACE_MARK: Final = b"\xfe\xdc\xba\x98\x76\x54\x32\x10"
RESPONSE_MARK: Final = b"@@@@@@@@@@"
SECOND: Final = 1_000_000_000
SEED: Final = 2026


def span_bodies(first_number: int) -> Iterator[bytes]:
    """Give exports without end; with the same numbers they are the same."""
    random = Random(SEED)
    prepared = [_export(random) for _ in range(PREPARED)]
    for number in count(first_number):
        body = prepared[number % PREPARED]
        trace = (number + 1).to_bytes(len(TRACE_MARK), "big")
        response = b"%010d" % number
        yield body.replace(TRACE_MARK, trace).replace(RESPONSE_MARK, response)


def _export(random: Random) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _set(
        resource.resource.attributes,
        {
            "service.name": "tickets",
            "team": f"team-{random.randrange(6)}",
            "deployment.environment.name": "prod",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": "1.45.0",
        },
    )
    calls = resource.scope_spans.add()
    calls.scope.name = SCOPE
    business = resource.scope_spans.add()
    business.scope.name = "customer"
    for number in range(TRACES_PER_EXPORT):
        _add_trace(random, number, calls, business)
    return request.SerializeToString()


def _add_trace(random: Random, number: int, calls: ScopeSpans, business: ScopeSpans) -> None:
    trace = TRACE_MARK + (number + 1).to_bytes(8, "big")
    root, agent = (place.to_bytes(8, "big") for place in (1, 2))
    started = int(START.timestamp()) * SECOND + number * SECOND
    for place in range(CALLS_PER_TRACE):
        span = _span(calls, trace, place.to_bytes(4, "big") + b"call", agent, started)
        model = random.choice(MODELS)
        span.name = f"chat {model}"
        used = random.randrange(200, 20_000)
        _set(
            span.attributes,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": model,
                "gen_ai.response.model": model,
                "gen_ai.response.id": f"chatcmpl-{RESPONSE_MARK.decode()}{number:03}{place}",
                "gen_ai.usage.input_tokens": used,
                "gen_ai.usage.cache_read.input_tokens": used // 2,
                "gen_ai.usage.output_tokens": random.randrange(20, 2_000),
                "gen_ai.usage.reasoning.output_tokens": random.randrange(20),
                "server.address": "api.openai.com",
                "server.port": 443,
            },
        )
    agents = _span(business, trace, agent, root, started)
    agents.name = "invoke_agent"
    _set(agents.attributes, {"gen_ai.operation.name": "invoke_agent"})
    ticket = _span(business, trace, root, b"", started)
    ticket.name = "handle_ticket"
    _set(
        ticket.attributes,
        {
            "feature": f"feature-{random.randrange(FEATURES)}",
            "tenant.id": f"tenant-{random.randrange(TENANTS)}",
        },
    )


def _span(scope: ScopeSpans, trace: bytes, span_id: bytes, parent: bytes, started: int) -> Span:
    span = scope.spans.add()
    span.trace_id, span.span_id, span.parent_span_id = trace, span_id, parent
    span.start_time_unix_nano, span.end_time_unix_nano = started, started + SECOND
    return span


def _set(attributes: object, values: dict[str, str | int]) -> None:
    for name, value in values.items():
        any_value = AnyValue(
            **{"int_value": value} if isinstance(value, int) else {"string_value": value}
        )
        attributes.append(KeyValue(key=name, value=any_value))  # type: ignore[attr-defined]
