"""What the typesetter is told: no name is markup, no character is a silent box."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.statement_reporting import make_line, make_statement
from tokenbudget.formats.statement_report import StatementFacts, compose_statement
from tokenbudget.formats.statement_typeset import Typeset, typeset_statement


def typeset(team: str, *families: str) -> Typeset:
    """Give what is told of a statement with one team."""
    report = compose_statement(StatementFacts(make_statement(make_line(team, 100))))
    return typeset_statement(report, families)


def title_of(told: Typeset) -> Any:
    """Give the name of the team as the typesetter gets it."""
    return json.loads(told.text)["chapters"][0]["title"]


@pytest.mark.parametrize(
    "name", ["Żółć & Söhne", "Ελληνικά", "Кириллица", "שלום", "مرحبا", "#eval"]
)
def test_names_that_bundled_fonts_show_stay_as_they_are(name: str) -> None:
    told = typeset(name)

    assert title_of(told) == name
    assert (told.fonts, told.is_spelled_out) == ((), False)


def test_names_that_no_font_shows_are_spelled_out() -> None:
    told = typeset("小猫 co")

    assert title_of(told) == "[U+5C0F U+732B] co"
    assert told.is_spelled_out


def test_a_font_of_the_system_that_shows_them_is_used() -> None:
    told = typeset("小猫", "Noto Sans CJK JP", "Comic Sans")

    assert title_of(told) == "小猫"
    assert (told.fonts, told.is_spelled_out) == (("Noto Sans CJK JP",), False)


def test_what_turns_text_around_or_cannot_be_seen_is_spelled_out() -> None:
    assert title_of(typeset("p\u202er\x07")) == "p[U+202E]r[U+0007]"
    assert title_of(typeset("🚀", "Noto Sans CJK JP")) == "[U+1F680]"


def test_long_names_may_break_behind_their_marks() -> None:
    assert title_of(typeset("platform-engineering-shared")).split("\u200b") == [
        "platform-",
        "engineering-",
        "shared",
    ]
    assert title_of(typeset("x" * 30)).split("\u200b") == ["x" * 12, "x" * 12, "x" * 6]


def test_amounts_are_texts_and_flags_are_flags() -> None:
    told = json.loads(typeset("growth").text)

    assert told["total"] == "1.00"
    assert told["invoices"]["is_tied"] is True
    assert told["views"]["hidden"] == 0
