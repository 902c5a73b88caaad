"""The names that emitters use, as data: one line a field, first found wins.

It owns which attribute means what and which emitters are known to miscount. It refuses to read a
span. GenAI conventions are in development and several generations of them arrive side by side, with
those of OpenInference, Traceloop, Vercel, Langfuse, OpenRouter and Claude Code; the schema URL does
not tell them apart. Sources: open-telemetry/semantic-conventions-genai, docs/gen-ai;
Arize-ai/openinference, spec/semantic_conventions.md; and captured payloads (tests/data/otlp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Names = tuple[str, ...]

PROVIDER: Final = "provider"
REQUEST_MODEL: Final = "request_model"
RESPONSE_MODEL: Final = "response_model"
INVOCATION: Final = "invocation"
RESPONSE_ID: Final = "response_id"
SERVICE_TIER: Final = "service_tier"
STREAM: Final = "stream"
ADDRESS: Final = "address"
WRITTEN_TOKENS: Final = "written_tokens"
TOTAL_TOKENS: Final = "total_tokens"
EMITTER_COST: Final = "emitter_cost"
FIRST_TOKEN_SECONDS: Final = "first_token_seconds"
FIRST_TOKEN_MS: Final = "first_token_ms"
HTTP_STATUS: Final = "http_status"
ATTEMPT: Final = "attempt"

FIELDS: Final[Mapping[str, Names]] = {
    PROVIDER: (
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "ai.model.provider",
    ),
    REQUEST_MODEL: (
        "gen_ai.request.model",
        "llm.request.model_name",
        "ai.model.id",
        "langfuse.observation.model.name",
        "embedding.model_name",
        "llm.model_name",
        "llm.request.model",
    ),
    RESPONSE_MODEL: (
        "gen_ai.response.model",
        "llm.response.model_name",
        "llm.model_name",
        "ai.response.model",
    ),
    # Where a failed call has no other trace of the model it asked for.
    INVOCATION: ("llm.invocation_parameters", "embedding.invocation_parameters"),
    RESPONSE_ID: ("gen_ai.response.id", "ai.response.id"),
    SERVICE_TIER: (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "anthropic.response.service_tier",
    ),
    STREAM: ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming"),
    ADDRESS: ("gen_ai.openai.api_base", "server.address", "url.full", "http.url"),
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        "llm.usage.completion_tokens",
    ),
    "cached_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
        "ai.usage.cachedInputTokens",
        "ai.usage.inputTokenDetails.cacheReadTokens",
    ),
    WRITTEN_TOKENS: (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
    ),
    "cache_write_5m_tokens": ("anthropic.usage.cache_creation.ephemeral_5m_input_tokens",),
    "cache_write_1h_tokens": ("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "llm.usage.reasoning_tokens",
        "ai.usage.reasoningTokens",
    ),
    "input_audio_tokens": (
        "gen_ai.usage.audio.input_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    "input_image_tokens": ("gen_ai.usage.image.input_tokens",),
    "input_video_tokens": ("gen_ai.usage.video.input_tokens",),
    "cached_audio_tokens": ("gen_ai.usage.audio.cache_read.input_tokens",),
    "cached_image_tokens": ("gen_ai.usage.image.cache_read.input_tokens",),
    "output_audio_tokens": (
        "gen_ai.usage.audio.output_tokens",
        "llm.token_count.completion_details.audio",
    ),
    "output_image_tokens": ("gen_ai.usage.image.output_tokens",),
    "output_video_tokens": ("gen_ai.usage.video.output_tokens",),
    TOTAL_TOKENS: (
        "gen_ai.usage.total_tokens",
        "llm.token_count.total",
        "llm.usage.total_tokens",
        "ai.usage.totalTokens",
        "gen_ai.client.token.usage",
    ),
    EMITTER_COST: (
        "gen_ai.usage.cost",
        "operation.cost",
        "llm.cost.total",
        "gen_ai.usage.total_cost",
    ),
    FIRST_TOKEN_SECONDS: (
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
    ),
    FIRST_TOKEN_MS: ("ai.response.msToFirstChunk", "ttft_ms"),
    HTTP_STATUS: ("http.response.status_code", "http.status_code", "status_code"),
    ATTEMPT: ("attempt",),
}
"""The attributes that may hold a field, best first. Units of ours name the fields of their counts;
cache writes by lifetime, if told, are parts of those that are written."""

MODALITIES: Final[Names] = (
    "input_audio_tokens",
    "input_image_tokens",
    "input_video_tokens",
    "cached_audio_tokens",
    "cached_image_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "output_video_tokens",
)

OPERATION: Final[Names] = (
    "gen_ai.operation.name",
    "openinference.span.kind",
    "ai.operationId",
    "langfuse.observation.type",
    "llm.request.type",
)
EMBEDDINGS: Final = "embeddings"
COUNTED_OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "chat",
    "text_completion": "text_completion",
    "generate_content": "generate_content",
    "embeddings": "embeddings",
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "ai.generateText.doGenerate": "chat",
    "ai.streamText.doStream": "chat",
    "ai.generateObject.doGenerate": "chat",
    "ai.streamObject.doStream": "chat",
    "ai.embed.doEmbed": "embeddings",
    "ai.embedMany.doEmbed": "embeddings",
    "generation": "chat",
    "embedding": "embeddings",
    "completion": "text_completion",
}
"""Operations that are one billable call, as they are recorded; every other one is a wrapper."""

CLAUDE_CODE_CALL: Final = "claude_code.llm_request"
CLAUDE_CODE_UNITS: Final[Mapping[str, str]] = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_creation_tokens",
    "output_tokens": "output_tokens",
}
"""Token counts of Claude Code (https://code.claude.com/docs/en/monitoring-usage); its input holds
neither cache reads nor cache writes."""

EXCLUSIVE_INPUT_SCOPES: Final = frozenset({"openlit.instrumentation.anthropic"})
"""Emitters whose input tokens leave out what was read from and written to the cache."""

WITHOUT_REASONING_SCOPES: Final = frozenset({"opentelemetry.instrumentation.google_generativeai"})
"""Emitters whose output tokens leave out thoughts; what the total has more gives them away."""

INEXACT_OUTPUT_SCOPES: Final = frozenset({"opentelemetry.instrumentation.anthropic"})
"""Emitters that add the first count of a streamed reply to the last: one token and more too high.
The first count is not told, so that nothing can be taken off again."""

ESTIMATING_SCOPES: Final = frozenset({"openlit.instrumentation.openai"})
"""Emitters that write a guess of their own where a stream came without usage. Where it came with
usage they also write how much of it was cached, if only zero."""

CACHE_REPORTING_SCOPES: Final = (
    "opentelemetry.instrumentation.genai.",
    "opentelemetry.instrumentation.google_genai",
    "opentelemetry.instrumentation.openai.v1",
    "opentelemetry.instrumentation.anthropic",
    "opentelemetry.instrumentation.google_generativeai",
    "openinference.instrumentation.",
    "openlit.instrumentation.",
    "com.anthropic.sdk.",
    "pydantic-ai",
    "langfuse-sdk",
)
"""How the scopes of emitters begin that tell of cached tokens when there were any."""

LOGFIRE_SCOPES: Final = "logfire."
LOGFIRE_SPAN_TYPE: Final = "logfire.span_type"
LOGFIRE_LOG: Final = "log"
"""Logfire ends a stream's span before the stream: its usage comes on a span of this type."""
