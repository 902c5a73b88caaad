"""Rows of a statement, what they add up to, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.statement_cases import CENT, make_line
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.statements import (
    Bearer,
    LineKey,
    Method,
    Origin,
    StatedTotal,
    Statement,
    StatementHeader,
    StatementLine,
    StatementState,
    canonical_row,
    digest_lines,
    total_lines,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def digest(lines: Sequence[StatementLine], **overrides: Any) -> str:
    """Give the digest of rows of September's first version."""
    return digest_lines(lines, **{"month": 202609, "version": 1, "currency": "USD", **overrides})


def test_the_digest_can_be_worked_out_from_the_words_of_its_description() -> None:
    lines = [make_line("search", 40, metered_nanos=None), make_line('gröw"th', corrects="s-1")]

    text = (
        '["tokenbudget-statement-1","2026-09",1,"USD"]\n'
        '["2026-09","gröw\\"th",null,null,"CC-1","acme","a","plain","usage","spread",null,"s-1",'
        '2,3,"0.000000001","0.600000000"]\n'
        '["2026-09","search",null,null,"CC-1","acme","a","plain","usage","spread",null,null,'
        '2,3,null,"0.400000000"]\n'
    )
    assert digest(lines) == hashlib.sha256(text.encode()).hexdigest()


@given(st.permutations([make_line(str(number), number) for number in range(6)]))
def test_the_digest_ignores_the_order_of_rows(lines: list[StatementLine]) -> None:
    assert digest(lines) == digest([make_line(str(number), number) for number in range(6)])


@pytest.mark.parametrize(
    "change",
    [
        {"service_month": 202608},
        {"team": "search"},
        {"feature": "chat"},
        {"tenant": "t"},
        {"cost_center": None},
        {"provider": "other"},
        {"account": "b"},
        {"model": None},
        {"origin": Origin.TAX},
        {"method": Method.DIRECT},
        {"rule": "tax"},
        {"corrects": "s-1"},
        {"amount_nanos": 61 * CENT},
        {"metered_nanos": None},
        {"requests": 3},
        {"tokens": 4},
    ],
)
def test_the_digest_changes_with_any_cell(change: dict[str, Any]) -> None:
    assert digest([make_line(**change)]) != digest([make_line()])


def test_the_digest_changes_with_month_version_currency_and_number_of_rows() -> None:
    lines = [make_line()]

    digests = {
        digest(lines),
        digest(lines, month=202610),
        digest(lines, version=2),
        digest(lines, currency="EUR"),
        digest([]),
        digest([*lines, *lines]),
    }

    assert len(digests) == 6


def test_a_canonical_row_has_every_cell_of_a_row() -> None:
    assert len(canonical_row(make_line())) == len(LineKey._fields) + 5


def test_rows_add_up_by_dimension_with_the_absent_first() -> None:
    lines = [
        make_line("growth", 60),
        make_line("search", 30, cost_center=None, metered_nanos=None),
        make_line("search", -10, service_month=202608),
    ]
    header = StatementHeader(
        "s", 202609, 2, StatementState.CLOSED, "USD", NOW, NOW, None, None, NOW, None, None, 1,
        80 * CENT, (), (), "d",
    )  # fmt: skip
    statement = Statement(header, tuple(lines))

    assert header.name == "2026-09 version 2"
    assert statement.totals_by("cost_center") == (
        StatedTotal(None, 30 * CENT, 0, 2, 3),
        StatedTotal("CC-1", 50 * CENT, 2, 4, 6),
    )
    assert [(each.value, each.amount_nanos) for each in statement.totals_by("service_month")] == [
        ("2026-08", -10 * CENT),
        ("2026-09", 90 * CENT),
    ]
    assert total_lines(lines, "team", lambda key: key.team.upper())[1].value == "SEARCH"


def test_a_dimension_that_rows_do_not_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match="by 'colour' is not one of service_month, team"):
        total_lines([], "colour")


def test_own_rows_come_before_corrections_and_absent_values_first() -> None:
    lines = [
        make_line("b", corrects="s", service_month=202607),
        make_line("a", corrects="s", service_month=202608),
        make_line("b"),
        make_line("a", feature="chat"),
        make_line("a"),
    ]

    ordered = sorted(lines, key=lambda line: line.order)

    assert ordered == [lines[4], lines[3], lines[2], lines[1], lines[0]]
    assert replace(lines[4]).order == lines[4].order
    assert Bearer("a", "f").order == ("a", "f", "")
