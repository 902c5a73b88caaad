"""``policies.toml``: what it says, and one clear sentence for whatever it may not say."""

from __future__ import annotations

from typing import Any

import pytest

from tokenbudget.domain.budgets import Mode
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.policies import Action, ModelClass, Policy, Rung
from tokenbudget.formats.policies import (
    MAX_POLICIES,
    MAX_RUNGS,
    parse_policies,
    parse_policies_toml,
    require_asked_tags,
)

FILE = """
[classes]
small = ["*-mini", "claude-haiku-*"]
standard = ["GPT-5*"]

[[policy]]
id = "growth"
mode = "hard"
selector = { team = "growth", environment = ["prod", "staging"] }
allowed_classes = ["small", "standard"]
denied_models = ["openai/gpt-5.2-pro*"]
ladder = ["gpt-5.2", "openai/gpt-5.2-mini", "openrouter/meta-llama/llama-3"]
min_output_tokens = 200
require_owner = true
on_retired = "deny"
on_sunset = "deny"

[[policy]]
id = "all"
"""


def parse(**entry: Any) -> Policy:
    """Give the policy of one table."""
    [policy] = parse_policies({"policy": [{"id": "p", **entry}]}).policies
    return policy


def test_a_file_says_what_its_policies_demand() -> None:
    growth, everything = parse_policies_toml(FILE, file_name="policies.toml").policies

    assert growth == Policy(
        id="growth",
        mode=Mode.HARD,
        selector={"team": frozenset({"growth"}), "environment": frozenset({"prod", "staging"})},
        denied_models=("openai/gpt-5.2-pro*",),
        allowed_classes=(
            ModelClass("small", ("*-mini", "claude-haiku-*")),
            ModelClass("standard", ("gpt-5*",)),
        ),
        ladder=(
            Rung("gpt-5.2"),
            Rung("gpt-5.2-mini", "openai"),
            Rung("meta-llama/llama-3", "openrouter"),
        ),
        min_output_tokens=200,
        requires_owner=True,
        on_retired=Action.DENY,
        on_sunset=Action.DENY,
    )
    assert everything == Policy(id="all", mode=Mode.SOFT)


def test_what_is_described_reads_back_the_same() -> None:
    draft = parse_policies_toml(FILE, file_name="policies.toml")

    again = parse_policies(draft.content)

    assert again == draft
    assert draft.content["classes"] == {
        "small": ["*-mini", "claude-haiku-*"],
        "standard": ["gpt-5*"],
    }
    assert draft.content["policy"][1] == {
        "id": "all",
        "mode": "soft",
        "selector": {},
        "allowed_models": None,
        "allowed_classes": None,
        "denied_models": None,
        "ladder": None,
        "min_output_tokens": 1,
        "require_owner": False,
        "on_retired": "warn",
        "on_sunset": "warn",
    }


def test_an_empty_document_has_no_policies() -> None:
    assert parse_policies({}).policies == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": ""}, "policy 1"),
        ({"id": "a b"}, "policy 1"),
        ({"mode": "strict"}, "mode"),
        ({"color": "red"}, "color"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": ["/gpt.*/"]}, "'/gpt.*/' is a regular expression"),
        ({"allowed_classes": ["huge"]}, "'huge' is not in [classes]"),
        ({"selector": {"team": []}}, "selector.team needs at least one value"),
        ({"selector": {"owner": "ana"}}, "'owner' is not available"),
        ({"selector": {"region": "eu"}}, "selector 'region' never holds"),
        ({"ladder": ["gpt-*"]}, "'gpt-*' must be a model or provider/model"),
        ({"ladder": ["/mini"]}, "'/mini' must be a model or provider/model"),
        ({"ladder": ["openai/"]}, "'openai/' must be a model or provider/model"),
        ({"ladder": ["mini", "mini"]}, "ladder names a model twice"),
        ({"ladder": ["mini"] * (MAX_RUNGS + 1)}, "ladder"),
        ({"min_output_tokens": 0}, "min_output_tokens"),
        ({"on_sunset": "ignore"}, "on_sunset"),
        ({"denied_models": ["a\x00b"]}, "NUL"),
    ],
)
def test_a_fault_names_the_policy_and_the_rule(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(**entry)

    assert words in raised.value.detail
    assert raised.value.detail.startswith("policies:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[policy]", "not TOML"),
        ("[policies]", "policies"),
        ("[policy]\nid = 'p'", "policy"),
        ("[[policy]]\nid = 'p'\n[[policy]]\nid = 'p'", "policy 2: id 'p' is used twice"),
        ("[classes]\nsmall = ['/x/']", "class 'small': '/x/' is a regular expression"),
        ("[classes]\nsmall = []", "class 'small' needs 1 to 1000 patterns, not 0"),
    ],
)
def test_a_fault_of_a_file_names_it(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_policies_toml(text, file_name="policies.toml")

    assert raised.value.detail.startswith("policies.toml: ")
    assert words in raised.value.detail


def test_there_are_not_more_policies_than_a_worker_looks_at() -> None:
    with pytest.raises(InvalidInput, match="policy"):
        parse_policies({"policy": [{"id": f"p{each}"} for each in range(MAX_POLICIES + 1)]})


def test_a_tag_that_is_no_dimension_cannot_be_selected_by() -> None:
    draft = parse_policies({"policy": [{"id": "p", "selector": {"user": "u-17"}}]})

    require_asked_tags(draft, ["session_id"])
    with pytest.raises(InvalidInput, match="'user' cannot be selected by"):
        require_asked_tags(draft, ["user"])
