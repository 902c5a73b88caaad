"""Mappings and rules as files spell them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.contract.source_files import REPOSITORY
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.tag_rules import Condition, TagRule
from tokenbudget.formats.tag_rules import (
    parse_tag_rules,
    parse_tag_rules_toml,
    require_known_tags,
)

TOML = """
[[mapping]]
match = { provider = "openai", account = ["proj_1", "proj_2"] }
tags = { team = "growth" }
valid_from = 2026-11-01
valid_to = 2026-12-01T06:00:00+06:00

[[rule]]
name = "batch of the searchers"
when = { feature = "search-*", environment = ["prod", "stag*"], team = { not = "*" } }
set = { team = "search", "tag:experiment" = "b" }
"""


def test_a_mapping_and_a_rule_are_read_as_written() -> None:
    draft = parse_tag_rules_toml(TOML, file_name="rules.toml")

    assert draft.mappings == (
        TagRule(
            "rules.toml: mapping 1",
            (
                Condition("account", frozenset({"proj_1", "proj_2"})),
                Condition("provider", frozenset({"openai"})),
            ),
            {"team": "growth"},
            datetime(2026, 11, 1, tzinfo=UTC),
            datetime(2026, 12, 1, tzinfo=UTC),
        ),
    )
    assert draft.rules == (
        TagRule(
            "batch of the searchers",
            (
                Condition("environment", frozenset({"prod"}), ("stag*",)),
                Condition("feature", globs=("search-*",)),
                Condition("team", globs=("*",), is_negated=True),
            ),
            {"experiment": "b", "team": "search"},
        ),
    )


def test_what_is_kept_of_a_file_reads_the_same() -> None:
    draft = parse_tag_rules_toml(TOML, file_name="rules.toml")

    kept = parse_tag_rules(draft.content, where="rules.toml")

    assert kept == draft
    assert draft.content["mapping"][0]["valid_to"] == "2026-12-01T00:00:00Z"


def test_an_empty_file_has_no_rules() -> None:
    draft = parse_tag_rules_toml("", file_name="rules.toml")

    assert (draft.mappings, draft.rules) == ((), ())


def test_the_example_that_comes_with_the_project_is_sound() -> None:
    text = (REPOSITORY / "tags" / "rules.toml").read_text(encoding="utf-8")

    draft = parse_tag_rules_toml(text, file_name="tags/rules.toml")

    assert draft.mappings
    assert draft.rules


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[rule", "r.toml: not TOML"),
        ("[[rules]]", "r.toml: 'rules' is not known; there are 'mapping' and 'rule'"),
        ("[rule]", "r.toml: 'rule' must be a list of tables"),
        ("[[rule]]\nname='x'\nset={a='b'}", "r.toml: rule 1: .*`when`"),
        ("[[rule]]\nname='x'\nwhen={}\nset={}", "r.toml: rule 1: .*`set`"),
        ("[[rule]]\nname='x'\nwhen={a=[]}\nset={b='c'}", "r.toml: rule 1: "),
        ("[[rule]]\nname='x'\nwhen={a={is='b'}}\nset={b='c'}", "r.toml: rule 1: "),
        ("[[rule]]\nname='x'\nwhen={}\nset={team=''}", "r.toml: rule 1: "),
        ("[[rule]]\nname='x'\nwhen={}\nset={model='y'}", "'model' is a fact of the call"),
        ("[[rule]]\nname='x'\nwhen={}\nset={'tag:api_key'='y'}", "'api_key' is a fact"),
        (
            "[[rule]]\nname='x'\nwhen={}\nset={a='b'}\n" * 2,
            "r.toml: rule 2 has the name 'x' of rule 1",
        ),
        ("[[mapping]]\nmatch={}\ntags={a='b'}", "r.toml: mapping 1: .*`match`"),
        (
            "[[mapping]]\nmatch={account='proj_*'}\ntags={a='b'}",
            r"mapping 1: match.account is exact, 'proj_\*' belongs in a rule",
        ),
        (
            "[[mapping]]\nmatch={a='b'}\ntags={c='d'}\nvalid_from=2026-11-02\nvalid_to=2026-11-02",
            "mapping 1: valid_to must be after valid_from",
        ),
        (
            "[[mapping]]\nmatch={a='b'}\ntags={c='d'}\nvalid_from=7",
            "mapping 1: valid_from must be a date or an RFC 3339 time",
        ),
        (
            "[[mapping]]\nmatch={a='b'}\ntags={c='d'}\nvalid_from=2026-11-02T00:00:00",
            "mapping 1: valid_from .*has no UTC offset",
        ),
        ('[[mapping]]\nmatch={a="b\\u0000"}\ntags={c="d"}', "mapping 1: match holds a NUL"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_entry(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_tag_rules_toml(text, file_name="r.toml")


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 20000 entries of 'mapping'"):
        parse_tag_rules({"mapping": [{}] * 20_001})


def test_a_tag_that_is_not_rolled_up_cannot_be_ruled_by() -> None:
    by_value = {"name": "r", "when": {"tag:user": "u"}, "set": {"team": "x"}}
    draft = parse_tag_rules({"rule": [by_value]})

    require_known_tags(draft, ("session_id",))
    with pytest.raises(InvalidInput, match="r: 'user' cannot be ruled by"):
        require_known_tags(draft, ("user",))
