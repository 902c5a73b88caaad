"""Which source a file is of is told from its beginning, and no other source claims it."""

from __future__ import annotations

import pytest

from tests.formats.bills.samples import BILLING
from tokenbudget.formats.bills.sources import SHAPES

SAMPLES = {
    "anthropic-analytics-cost_report.json": "anthropic-costs",
    "anthropic-claude-code.json": "anthropic-claude-code",
    "anthropic-console-cost.csv": "anthropic-costs",
    "anthropic-console-usage.csv": "anthropic-usage",
    "anthropic-cost-report.page2.json": "anthropic-costs",
    "anthropic-usage-messages.page1.json": "anthropic-usage",
    "cursor-usage-events.csv": "cursor",
    "github-ai-usage.csv": "github-ai",
    "github-copilot-premium-requests.csv": "github-copilot",
    "openai-costs.page1.json": "openai-costs",
    "openai-dashboard-completions.csv": "openai-usage-completions",
    "openai-dashboard-cost.csv": "openai-costs",
    "openai-dashboard-empty.csv": "openai-costs",
    "openai-usage-completions.page2.json": "openai-usage-completions",
    "openai-usage-embeddings.json": "openai-usage-embeddings",
    "openai-usage-images.json": "openai-usage-images",
    "openrouter-activity.csv": "openrouter-activity",
    "openrouter-activity.json": "openrouter-activity",
}
OTHERS = [
    "aws-focus-1.2-bedrock.csv",
    "focus-1.0-official-rows.csv",
    "litellm-focus.csv",
    "litellm-spend-logs.json",
    "langfuse-observations-v2.jsonl",
    "openrouter-generations.csv",
]


def sources_of(name: str) -> set[str]:
    head = (BILLING / name).read_bytes()
    return {shape.source for shape in SHAPES if shape.recognises(head)}


@pytest.mark.parametrize(("name", "source"), SAMPLES.items())
def test_a_sample_is_claimed_by_its_own_source_alone(name: str, source: str) -> None:
    assert sources_of(name) == {source}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_something_else_is_claimed_by_none(name: str) -> None:
    assert sources_of(name) == set()


def test_pages_of_an_api_come_before_other_shapes_of_their_source() -> None:
    firsts = {source: next(s for s in SHAPES if s.source == source) for source in SAMPLES.values()}

    assert firsts["openai-costs"].recognises((BILLING / "openai-costs.page1.json").read_bytes())
    assert firsts["anthropic-costs"].recognises(
        (BILLING / "anthropic-cost-report.page1.json").read_bytes()
    )
