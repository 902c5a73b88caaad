"""Recorded LiteLLM callbacks, and records of the same shape with boring contents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DIRECTORY: Final = Path(__file__).parent / "data" / "litellm"
RUNS: Final = ("json_array", "ndjson")
CALLBACK_PATH: Final = "/v1/integrations/litellm"
PROMPT: Final = "the words of the prompt"


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """One request as it was recorded."""

    body: bytes
    headers: dict[str, str]


def recorded_requests(run: str) -> list[CallbackRequest]:
    """Give the requests of a run in the order they came."""
    requests = []
    for path in sorted((DIRECTORY / run).glob("*.hdr.json")):
        headers = json.loads(path.read_text(encoding="utf-8"))["headers"]
        body = path.with_name(path.name.replace(".hdr", "")).read_bytes()
        # The recording was redacted afterwards, so its length is no longer the one it states.
        kept = {name: text for name, text in headers.items() if name != "content-length"}
        requests.append(CallbackRequest(body, kept))
    return requests


def recorded_calls(run: str) -> list[dict[str, Any]]:
    """Give what the provider sent in a run, one entry a call."""
    lines = (DIRECTORY / run / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def make_record(**overrides: Any) -> dict[str, Any]:
    """Give a record of a call to ``acme/plain`` that costs two cents, with a prompt in it."""
    return {
        "id": "chatcmpl-1",
        "litellm_call_id": "call-1",
        "trace_id": "trace-1",
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": None,
        "status": "success",
        "custom_llm_provider": "acme",
        "startTime": 1795176000.25,
        "endTime": 1795176001.5,
        "completionStartTime": 1795176000.75,
        "model": "acme/plain",
        "model_group": "the-plain-one",
        "response_cost": 0.02,
        "prompt_tokens": 10_000,
        "completion_tokens": 5_000,
        "total_tokens": 15_000,
        "request_tags": ["team:growth", "User-Agent: curl"],
        "end_user": "u-1",
        "api_base": "https://api.acme.test/v1?key=secret",
        "messages": [{"role": "user", "content": PROMPT}],
        "response": {"choices": [{"message": {"content": PROMPT}}], "service_tier": "default"},
        "error_str": PROMPT,
        "error_information": {"error_code": "", "error_class": "", "error_message": PROMPT},
        "hidden_params": {"additional_headers": {"x-litellm-attempted-retries": 0}},
        "metadata": {
            "requester_metadata": {"headers": {"authorization": PROMPT}},
            "usage_object": {
                "prompt_tokens": 10_000,
                "completion_tokens": 5_000,
                "total_tokens": 15_000,
            },
        },
        **overrides,
    }
