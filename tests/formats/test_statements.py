"""Statements on the wire and in CSV."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.domain.statement_cases import CENT, make_line
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.statements import (
    Invoice,
    Refusal,
    StatedInvoice,
    StatedTotal,
    StatementHeader,
    StatementState,
)
from tokenbudget.formats.statements import (
    CloseDraft,
    describe_header,
    describe_line,
    describe_refusal,
    describe_totals,
    lines_csv,
    parse_close,
    parse_reason,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEADER = StatementHeader(
    statement_id="s-2",
    month=202609,
    version=1,
    state=StatementState.DRAFT,
    currency="USD",
    known_at=NOW,
    recorded_at=NOW,
    recorded_by="key-1",
    grace_ends_at=NOW + timedelta(days=3),
    closed_at=None,
    approved_by=None,
    reason=None,
    rules_version=4,
    total_nanos=67 * CENT,
    invoices=(
        StatedInvoice(202609, Invoice("acme", "a", 60 * CENT)),
        StatedInvoice(202608, Invoice("acme", "", 7 * CENT, is_billed=False)),
    ),
    notes=(Refusal("over_counted", "acme plain", -CENT), Refusal("unconverted", "EUR")),
    digest=None,
)


def test_a_month_to_close_is_named_and_its_grace_may_be() -> None:
    assert parse_close({"period": "2026-09"}) == CloseDraft(202609, None)
    assert parse_close({"period": "2026-09", "grace_hours": 0}) == CloseDraft(202609, 0)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "period", "period must be a text such as 2026-09"),
        ({"period": 202609}, "period", "period must be a text"),
        ({"period": "September"}, "period", "period 'September' is not a month"),
        ({"period": "2026-09", "grace_hours": -1}, "grace_hours", "whole number from 0 to 744"),
        ({"period": "2026-09", "grace_hours": 745}, "grace_hours", "whole number from 0 to 744"),
        ({"period": "2026-09", "grace_hours": True}, "grace_hours", "whole number from 0 to 744"),
        ({"period": "2026-09", "colour": 1}, "colour", "unknown field 'colour'"),
    ],
)
def test_a_request_to_close_is_refused_by_field(
    body: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_close(body)

    assert caught.value.facts["field"] == field


def test_a_reason_is_a_text_that_can_be_stored() -> None:
    assert parse_reason({"reason": "The bill was restated."}) == "The bill was restated."
    for reason in (None, 5, "a\x00b", "\ud800"):
        with pytest.raises(InvalidInput, match="reason must be a text that can be stored"):
            parse_reason({"reason": reason})
    with pytest.raises(InvalidInput, match="unknown field 'by'"):
        parse_reason({"by": "me"})


def test_a_header_tells_what_of_its_total_corrects_other_months() -> None:
    assert describe_header(HEADER) == {
        "id": "s-2",
        "period": "2026-09",
        "version": 1,
        "state": "draft",
        "currency": "USD",
        "total": "0.670000000",
        "corrections": "0.070000000",
        "invoiced": [
            {
                "service_month": "2026-09",
                "provider": "acme",
                "account": "a",
                "amount": "0.600000000",
                "is_billed": True,
            },
            {
                "service_month": "2026-08",
                "provider": "acme",
                "account": "",
                "amount": "0.070000000",
                "is_billed": False,
            },
        ],
        "rules_version": 4,
        "known_at": "2026-11-20T12:00:00Z",
        "recorded_at": "2026-11-20T12:00:00Z",
        "recorded_by": "key-1",
        "grace_ends_at": "2026-11-23T12:00:00Z",
        "closed_at": None,
        "approved_by": None,
        "reason": None,
        "notes": [
            {"code": "over_counted", "detail": "acme plain", "amount": "-0.010000000"},
            {"code": "unconverted", "detail": "EUR", "amount": None},
        ],
        "digest": None,
    }
    closed = replace(HEADER, closed_at=NOW)
    assert describe_header(closed)["closed_at"] == "2026-11-20T12:00:00Z"
    assert describe_refusal(HEADER.notes[1])["amount"] is None


def test_totals_are_by_the_name_of_their_dimension() -> None:
    totals = [StatedTotal(None, CENT, 5, 1, 2)]

    assert describe_totals(totals, "tenant") == [
        {
            "tenant": None,
            "amount": "0.010000000",
            "metered_cost": "0.000000005",
            "requests": 1,
            "tokens": 2,
        }
    ]


def test_a_row_has_the_cells_that_its_digest_is_of() -> None:
    line = make_line(metered_nanos=None, corrects="s-1", service_month=202608)

    assert describe_line(7, line) == {
        "row_number": 7,
        "service_month": "2026-08",
        "corrects": "s-1",
        "team": "growth",
        "feature": None,
        "tenant": None,
        "cost_center": "CC-1",
        "provider": "acme",
        "account": "a",
        "model": "plain",
        "origin": "usage",
        "method": "spread",
        "rule": None,
        "requests": 2,
        "tokens": 3,
        "metered_cost": None,
        "amount": "0.600000000",
    }


def test_rows_are_written_as_csv_that_no_spreadsheet_runs() -> None:
    text = lines_csv([(1, make_line("=team", -5))])

    header, row = text.splitlines()
    assert header.startswith("row_number,service_month,corrects,team,")
    assert row == (
        "1,2026-09,,'=team,,,CC-1,acme,a,plain,usage,spread,,2,3,0.000000001,-0.050000000"
    )
