"""The sources beside FOCUS and the clouds, each with what recognises it and what reads it.

It owns that list. Shapes that tell of the same money or the same usage have the same source, so
that what was imported last for an account and day replaces the others; pages of an API come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tokenbudget.formats.bills import (
    anthropic_console,
    anthropic_costs,
    anthropic_usage,
    claude_code,
    cursor,
    deepseek,
    github,
    litellm_daily,
    openai_costs,
    openai_dashboard,
    openai_usage,
    openrouter,
)
from tokenbudget.formats.bills.lines import BillEntry


class Shape(NamedTuple):
    """One shape of a source's files."""

    source: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Path], Iterator[BillEntry]]


SHAPES: Final = (
    Shape(openai_costs.SOURCE, openai_costs.recognises, openai_costs.read),
    Shape(openai_costs.SOURCE, openai_dashboard.recognises_costs, openai_dashboard.read_costs),
    *(
        Shape(endpoint.source, openai_usage.recogniser(endpoint), openai_usage.reader(endpoint))
        for endpoint in openai_usage.ENDPOINTS
    ),
    Shape(
        openai_usage.COMPLETIONS.source,
        openai_dashboard.recognises_completions,
        openai_dashboard.read_completions,
    ),
    Shape(anthropic_costs.SOURCE, anthropic_costs.recognises, anthropic_costs.read),
    Shape(anthropic_costs.SOURCE, anthropic_console.recognises_costs, anthropic_console.read_costs),
    Shape(anthropic_usage.SOURCE, anthropic_usage.recognises, anthropic_usage.read),
    Shape(anthropic_usage.SOURCE, anthropic_console.recognises_usage, anthropic_console.read_usage),
    Shape(claude_code.SOURCE, claude_code.recognises, claude_code.read),
    Shape(openrouter.SOURCE, openrouter.recognises_json, openrouter.read_json),
    Shape(openrouter.SOURCE, openrouter.recognises_csv, openrouter.read_csv),
    Shape(litellm_daily.SOURCE, litellm_daily.recognises, litellm_daily.read),
    Shape(cursor.SOURCE, cursor.recognises, cursor.read),
    Shape(github.PREMIUM_SOURCE, github.recognises_premium_requests, github.read),
    Shape(github.CREDIT_SOURCE, github.recognises_credits, github.read),
    Shape(deepseek.COST_SOURCE, deepseek.recognises_costs, deepseek.read_costs),
    Shape(deepseek.USAGE_SOURCE, deepseek.recognises_usage, deepseek.read_usage),
)
