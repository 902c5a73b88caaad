"""Attributes become tags, from wherever a tracing library keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.formats.otlp.span_builders import chat, event_of, make_span
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.formats.otlp import DEFAULT_TAG_RULES, Reading, parse_tag_rules

RULES = parse_tag_rules(DEFAULT_TAG_RULES)


@pytest.mark.parametrize(
    ("attributes", "tags"),
    [
        ({"team": "support", "cost_center": "cc-1"}, {"team": "support", "cost_center": "cc-1"}),
        ({"deployment.environment": "prod"}, {"environment": "prod"}),
        ({"tenant.id": 4711}, {"tenant": "4711"}),
        ({"ai.telemetry.metadata.userId": "u-1"}, {"user": "u-1"}),
        ({"ai.telemetry.functionId": "summarise"}, {"feature": "summarise"}),
        (
            {"metadata": '{"feature": "search", "tenant": "acme"}'},
            {"feature": "search", "tenant": "acme"},
        ),
        ({"metadata": '{"feature": {"deep": 1}, "tenant": null}'}, {}),
        ({"metadata": "none"}, {}),
        ({"tag.tags": ("team:support", "urgent", 7)}, {"team": "support"}),
        ({"tag.tags": "team:support"}, {}),
        ({"langfuse.trace.metadata.tenant": '"globex"'}, {"tenant": "globex"}),
        ({"langfuse.trace.metadata": '{"tenant": "globex"}'}, {"tenant": "globex"}),
        ({"langfuse.trace.tags": ("team:support",)}, {"team": "support"}),
        ({"traceloop.association.properties.user_id": "u-2"}, {"user": "u-2"}),
        ({"trace.metadata.feature": "search"}, {"feature": "search"}),
        ({"team": ""}, {}),
        ({"team": "a\0b"}, {}),
        ({"team": "  padded "}, {"team": "padded"}),
        ({"team": True}, {"team": "true"}),
        ({"team": ("a", "b")}, {}),
        ({"team": "x" * 300}, {"team": "x" * 256}),
        ({"colour": "blue"}, {}),
    ],
)
def test_tags_are_found(attributes: dict[str, Any], tags: dict[str, str]) -> None:
    assert RULES.tags_of(attributes) == tags


def test_an_attribute_of_its_own_beats_metadata_and_an_earlier_rule_a_later_one() -> None:
    attributes = {"team": "a", "metadata": '{"team": "b"}', "user.email": "c", "user.id": "d"}

    assert RULES.tags_of(attributes) == {"team": "a", "user": "d"}


def test_the_span_beats_its_resource() -> None:
    span = make_span(
        attributes=chat({"team": "growth"}), resource={"team": "platform", "tenant": "acme"}
    )

    assert event_of(span).tags == {"team": "growth", "tenant": "acme"}


def test_the_operator_says_what_becomes_a_tag() -> None:
    reading = Reading(tag_rules=parse_tag_rules(["app=feature", "a=b=team", "app=product"]))

    event = event_of(make_span(attributes=chat({"app": "x", "a=b": "y", "team": "z"})), reading)

    assert event.tags == {"feature": "x", "product": "x", "team": "y"}


@pytest.mark.parametrize("rule", ["", "team", "=team", "team=", "a=" + "t" * 300])
def test_a_rule_that_is_none_is_named(rule: str) -> None:
    with pytest.raises(InvalidInput, match="is not attribute=tag"):
        parse_tag_rules([rule])
