"""The invented part of the replay: which feature, team and model a recorded request stands for.

It owns that table and refuses to hold traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Feature:
    """What a recorded request is said to belong to.

    ``name`` and ``team`` are None for traffic nobody owns; ``provider`` and ``model`` are None
    where the trace has its own.
    """

    name: str | None
    team: str | None
    provider: str | None
    model: str | None
    operation: str = "chat"
    environment: str = "prod"
    request_type: str = "production"


CODE_COMPLETION: Final = Feature(
    "code-completion", "developer-tools", "openai", "gpt-5-mini", operation="text_completion"
)
CHAT_ASSISTANT: Final = Feature("chat-assistant", "support", "anthropic", "claude-sonnet-4-5")
DOCUMENT_CHAT: Final = Feature("document-chat", "search", "openai", "gpt-5.2")
PAIR_PROGRAMMING: Final = Feature("pair-programming", "developer-tools", None, None)


@dataclass(frozen=True, slots=True)
class ClientModel:
    """How one ServeGen model is replayed.

    ``events`` of its requests are kept, ``recorded_hours`` is the length of its trace, and its
    clients are dealt to ``features``.
    """

    events: int
    recorded_hours: int
    features: tuple[Feature, ...]

    def feature_of(self, client_id: int) -> Feature:
        """Give the feature a client belongs to; always the same one."""
        return self.features[client_id % len(self.features)]


CLIENT_MODELS: Final = {
    "m-large": ClientModel(
        38_000,
        240,
        (
            Feature("campaign-writer", "growth", "anthropic", "claude-opus-4-5"),
            Feature("reply-drafts", "support", "anthropic", "claude-sonnet-4-5"),
        ),
    ),
    "m-mid": ClientModel(
        16_000,
        240,
        (
            Feature("lead-scoring", "growth", "gcp.gemini", "gemini-2.5-pro"),
            Feature("fraud-screening", "risk", "mistral_ai", "mistral-large-2512"),
        ),
    ),
    "m-small": ClientModel(
        18_000,
        240,
        (
            Feature("ticket-triage", "support", "openai", "gpt-5.2"),
            Feature("query-rewriting", "search", "gcp.gemini", "gemini-2.5-flash"),
            Feature(
                "data-labelling",
                "research",
                "mistral_ai",
                "mistral-small-latest",
                environment="staging",
            ),
            Feature(None, None, "anthropic", "claude-sonnet-4-5"),
        ),
    ),
    "deepseek-r1": ClientModel(
        9_000,
        24,
        (
            Feature("contract-review", "risk", "aws.bedrock", "deepseek.r1-v1:0"),
            Feature(
                "model-evaluation",
                "research",
                "openrouter",
                "deepseek/deepseek-r1",
                environment="staging",
                request_type="evaluation",
            ),
        ),
    ),
    "mm-image": ClientModel(
        9_000,
        24,
        (
            Feature("identity-documents", "risk", "x_ai", "grok-4-0709"),
            Feature("product-image-search", "search", "gcp.gemini", "gemini-2.5-flash"),
        ),
    ),
}
