"""What a call of a provider's API asks for, and how its arguments are lowered to what is granted.

One ``Endpoint`` a shape of call, whether it is made through an SDK or as plain JSON. It never
changes the caller's own objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbudget.client._errors import QuotaDenied
from tokenbudget.client._estimates import Counter, bound_input
from tokenbudget.client._models import Call, Decision, Permit, Reason
from tokenbudget.client._responses import tier_of

UNSPECIFIED: Final = "unspecified"
LEAST_THINKING: Final = 1_024
TOO_LITTLE: Final = "too_little_output"
OTHER_MODEL: Final = "model_not_replaceable"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One shape of call: where its text, its bound of output and its number of answers stand.

    Fields may be paths of objects inside each other, joined by dots. The first of ``limit_fields``
    is written where the caller bounded nothing; none of them means that nothing is put out.
    """

    operation: str
    text_fields: tuple[str, ...]
    limit_fields: tuple[str, ...] = ()
    least_output: int = 1
    count_field: str = ""
    is_usage_asked_for: bool = False


CHAT: Final = Endpoint(
    "chat",
    ("messages", "tools", "functions", "response_format", "prediction"),
    ("max_completion_tokens", "max_tokens"),
    count_field="n",
    is_usage_asked_for=True,
)
COMPLETIONS: Final = Endpoint(
    "text_completion",
    ("prompt", "suffix"),
    ("max_tokens",),
    count_field="n",
    is_usage_asked_for=True,
)
RESPONSES: Final = Endpoint(
    "chat",
    ("input", "instructions", "tools", "text", "text_format", "prompt"),
    ("max_output_tokens",),
    # OpenAI answers less with an error.
    least_output=16,
)
EMBEDDINGS: Final = Endpoint("embeddings", ("input",))
MESSAGES: Final = Endpoint(
    "chat",
    ("system", "messages", "tools", "mcp_servers", "output_format", "output_config"),
    ("max_tokens",),
)
GEMINI: Final = Endpoint(
    "chat",
    ("contents", "systemInstruction", "system_instruction", "tools"),
    ("generationConfig.maxOutputTokens", "generation_config.max_output_tokens"),
    count_field="generationConfig.candidateCount",
)
GEMINI_EMBEDDINGS: Final = Endpoint("embeddings", ("content", "requests"))
CONVERSE: Final = Endpoint(
    "chat", ("messages", "system", "toolConfig"), ("inferenceConfig.maxTokens",)
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A call before it is made: what the check is told of it, and its arguments."""

    endpoint: Endpoint
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any]
    answers: int
    is_streamed: bool = False
    is_usage_added: bool = False
    is_model_fixed: bool = False

    @property
    def expects_usage(self) -> bool:
        """Tell whether an extra event at the end of the stream will carry the usage."""
        is_asked = _at(self.arguments, "stream_options.include_usage") is True
        return self.is_streamed and self.endpoint.is_usage_asked_for and is_asked

    def granted(self, call: Call, permit: Permit) -> dict[str, Any]:
        """Give the arguments to call with: the caller's, lowered where the permit says so.

        Raises QuotaDenied when what is left is less than the provider takes, and when it is left
        for a model that such a call cannot name: of another provider, or where the caller's own
        is part of the address.
        """
        arguments = dict(self.arguments)
        if permit.provider is not None or (permit.model != call.model and self.is_model_fixed):
            raise _other_model(call, permit)
        if permit.model != call.model:
            arguments["model"] = permit.model
        if permit.decision is Decision.ALLOW or permit.max_output_tokens is None:
            return arguments
        asked = call.max_output_tokens
        if not self.endpoint.limit_fields or (asked or 0) == permit.max_output_tokens:
            return arguments
        limit = permit.max_output_tokens // self.answers
        if limit < self.endpoint.least_output:
            raise _too_little(permit, limit)
        return _lowered(arguments, self.endpoint, limit, permit)


def plan_call(
    endpoint: Endpoint,
    arguments: Mapping[str, Any],
    count: Counter,
    *,
    provider: str,
    hold_seconds: int,
    is_streamed: bool,
) -> Plan:
    """Give the plan of a call with these arguments; what can be read only once is read here."""
    chosen = dict(arguments)
    for name in endpoint.text_fields:
        if _is_read_once(chosen.get(name)):
            chosen[name] = list(chosen[name])
    is_usage_added = is_streamed and endpoint.is_usage_asked_for and _ask_for_usage(chosen)
    model = chosen.get("model")
    if not isinstance(model, str) or not model:
        model = UNSPECIFIED
    answers = max(1, _whole(_at(chosen, endpoint.count_field)) or 1)
    limit = next((_whole(_at(chosen, name)) for name in _given_limits(endpoint, chosen)), None)
    facts = {
        "provider": provider,
        "model": model,
        "operation": endpoint.operation,
        "input_tokens": bound_input(
            (chosen[name] for name in endpoint.text_fields if name in chosen), model, count
        ),
        "max_output_tokens": _output_bound(endpoint, limit, answers),
        "service_tier": tier_of(chosen.get("service_tier")),
        "ttl_seconds": hold_seconds,
    }
    return Plan(endpoint, chosen, facts, answers, is_streamed, is_usage_added)


def _output_bound(endpoint: Endpoint, limit: int | None, answers: int) -> int | None:
    if not endpoint.limit_fields:
        return 0
    return None if limit is None else limit * answers


def _given_limits(endpoint: Endpoint, arguments: Mapping[str, Any]) -> list[str]:
    return [name for name in endpoint.limit_fields if _whole(_at(arguments, name)) is not None]


def _lowered(
    arguments: dict[str, Any], endpoint: Endpoint, limit: int, permit: Permit
) -> dict[str, Any]:
    """Give the arguments with every bound of output at most at ``limit``."""
    for name in _given_limits(endpoint, arguments) or endpoint.limit_fields[:1]:
        given = _whole(_at(arguments, name))
        arguments = _with(arguments, name, limit if given is None else min(given, limit))
    thinking = _whole(_at(arguments, "thinking.budget_tokens"))
    if thinking is None or thinking < limit:
        return arguments
    # Thinking is inside the output, and Anthropic takes no budget for it below the least.
    if limit <= LEAST_THINKING:
        raise _too_little(permit, limit)
    return _with(arguments, "thinking.budget_tokens", limit - 1)


def _too_little(permit: Permit, limit: int) -> QuotaDenied:
    detail = f"{limit} tokens of output are left for this call, less than the provider takes"
    return _denied(permit, Reason(TOO_LITTLE, detail))


def _other_model(call: Call, permit: Permit) -> QuotaDenied:
    allowed = f"{permit.provider or call.provider}/{permit.model}"
    detail = f"the call may be made with {allowed} only, which this call cannot name"
    return _denied(permit, Reason(OTHER_MODEL, detail))


def _denied(permit: Permit, reason: Reason) -> QuotaDenied:
    return QuotaDenied(
        Permit(
            Decision.DENY,
            permit.model,
            estimate=permit.estimate,
            currency=permit.currency,
            binding=permit.binding,
            reasons=(reason,),
            fail_mode=permit.fail_mode,
            provider=permit.provider,
        )
    )


def _ask_for_usage(arguments: dict[str, Any]) -> bool:
    """Ask for the usage at the end of a stream, unless the caller said otherwise; tell if so."""
    options = arguments.get("stream_options")
    known = options if isinstance(options, Mapping) else {}
    if "include_usage" in known:
        return False
    arguments["stream_options"] = {**known, "include_usage": True}
    return True


def _is_read_once(value: object) -> bool:
    return (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes | bytearray | Mapping | list | tuple)
        and not hasattr(value, "model_dump")
        and not isinstance(value, type)
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _at(arguments: Mapping[str, Any], path: str) -> object:
    value: object = arguments
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _with(arguments: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """Give the arguments with the value at a path, every object on its way a copy."""
    name, _, rest = path.partition(".")
    inner = arguments.get(name)
    known = inner if isinstance(inner, Mapping) else {}
    return {**arguments, name: _with(known, rest, value) if rest else value}
