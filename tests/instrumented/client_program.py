"""A program of a customer: calls OpenAI's SDK, traced by the instrumentation that is named.

Run as ``python -m tests.instrumented.client_program INSTRUMENTATION``; the SDK and the exporter
take their addresses from the environment, as in production. Nothing in it knows of tokenbudget.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import openai
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MESSAGES: list[Any] = [{"role": "user", "content": "Summarise this ticket."}]


def instrument(name: str) -> None:
    """Trace every call of OpenAI's SDK by one of the two instrumentations."""
    if name == "official":
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument()


def call_provider() -> None:
    """Make a call of each kind: whole, streamed with and without usage, embedding and refused."""
    client = openai.OpenAI(max_retries=0)
    client.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)
    streams: list[dict[str, Any]] = [{"stream_options": {"include_usage": True}}, {}]
    for options in streams:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, **options
        )
        for _ in stream:
            pass
    client.embeddings.create(model="text-embedding-3-small", input="A ticket.")
    with suppress(openai.NotFoundError):
        client.chat.completions.create(model="does-not-exist", messages=MESSAGES)


def main() -> None:
    """Trace one ticket and send its spans before the end."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    instrument(sys.argv[1])
    attributes = {"feature": "triage", "tenant.id": "acme"}
    with trace.get_tracer("customer").start_as_current_span("handle_ticket", attributes=attributes):
        call_provider()
    provider.shutdown()


if __name__ == "__main__":
    main()
