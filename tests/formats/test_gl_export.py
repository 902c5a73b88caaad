"""The journal: balanced to the cent, by the accounts of a file, corrections on their own."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.statement_reporting import (
    OF_OCTOBER,
    OF_SEPTEMBER,
    make_line,
    make_statement,
    sample_statement,
)
from tokenbudget.domain.errors import Conflict, InvalidInput
from tokenbudget.domain.statements import Statement, StatementState
from tokenbudget.formats.gl_accounts import USUAL_ACCOUNTS, GlAccounts, parse_gl_toml
from tokenbudget.formats.gl_export import Journal, compose_journal

ACCOUNTS = """
suspense = "9999"

[[expense]]
account = "6510"
origin = ["usage", "untracked"]
provider = ["openai*", "anthropic"]

[[expense]]
account = "6530"
origin = "credit"

[[liability]]
account = "2110"
provider = "openai"
"""


def rows_of(journal: Journal) -> list[dict[str, str]]:
    """Give the lines of the journal."""
    return list(csv.DictReader(io.StringIO(journal.text)))


def sides_of(journal: Journal) -> tuple[Decimal, Decimal]:
    """Give the sums of debits and of credits."""
    rows = rows_of(journal)
    debit = sum((Decimal(row["debit"] or 0) for row in rows), Decimal(0))
    return debit, sum((Decimal(row["credit"] or 0) for row in rows), Decimal(0))


def short(row: dict[str, str]) -> tuple[str, str, str, str]:
    """Give cost centre, account, debit and credit."""
    return row["cost_center"], row["account_code"], row["debit"], row["credit"]


def parse(text: str) -> GlAccounts:
    """Give the accounts of a file of this text."""
    return parse_gl_toml(text, file_name="gl.toml")


def test_debits_are_credits_to_the_cent_with_the_usual_accounts() -> None:
    journal = compose_journal(sample_statement(), USUAL_ACCOUNTS)

    # Debits: 124 + 10 + 85 + 10 + 7.40 + 5.50 + 0.42 + 1 + 3 + 0.09 of corrections.
    assert sides_of(journal) == (Decimal("246.41"), Decimal("246.41"))
    assert journal.total == "246.41"
    assert [short(row) for row in rows_of(journal)] == [
        ("", "llm-untracked", "7.40", ""),
        ("", "llm-usage", "0.42", ""),
        ("CC-100", "llm-credits", "", "6.20"),
        ("CC-100", "llm-fees", "10.00", ""),
        ("CC-100", "llm-usage", "124.00", ""),
        ("CC-200", "llm-credits", "", "3.80"),
        ("CC-200", "llm-fees", "10.00", ""),
        ("CC-200", "llm-usage", "85.00", ""),
        ("CC-300", "llm-usage", "1.00", ""),
        ("CC-400", "llm-own-capacity", "5.50", ""),
        ("", "accrued-liabilities", "", "227.82"),
        ("", "own-capacity-recovered", "", "5.50"),
        ("", "llm-untracked", "", "3.00"),
        ("CC-100", "llm-credits", "0.09", ""),
        ("CC-200", "llm-credits", "", "0.09"),
        ("CC-200", "llm-usage", "3.00", ""),
    ]
    assert journal.suspended == ()
    assert journal.uncentered == ("<script>alert(1)</script>", "Untracked")


def test_lines_are_dated_on_the_last_day_and_name_what_they_correct() -> None:
    rows = rows_of(compose_journal(sample_statement(), USUAL_ACCOUNTS))

    assert {(row["period"], row["posting_date"], row["currency"]) for row in rows} == {
        ("2026-10", "2026-10-31", "USD")
    }
    assert {row["statement"] for row in rows} == {OF_OCTOBER}
    assert rows[4]["description"] == "Usage openai, October 2026"
    assert rows[4]["reference"] == "openai/org-1"
    assert rows[-1]["description"] == "Correction of September 2026: Usage openai"
    assert rows[-1]["reference"] == OF_SEPTEMBER
    assert [row["line"] for row in rows] == [str(number) for number in range(1, 17)]


def test_a_change_of_an_earlier_invoice_is_a_correction_on_both_sides() -> None:
    late = make_line("growth", 50, service_month=202609, corrects=OF_SEPTEMBER, account="")

    rows = rows_of(compose_journal(make_statement(late), USUAL_ACCOUNTS))

    assert [(row["description"], row["debit"], row["credit"]) for row in rows] == [
        ("Correction of September 2026: Usage openai", "0.50", ""),
        ("Correction of September 2026: Invoice openai", "", "0.50"),
    ]
    assert {row["reference"] for row in rows} == {OF_SEPTEMBER}


def test_accounts_of_a_file_are_used_and_what_they_leave_out_is_listed() -> None:
    journal = compose_journal(sample_statement(), parse(ACCOUNTS))

    accounts = {row["account_code"] for row in rows_of(journal)}
    assert accounts == {"6510", "6530", "2110", "9999"}
    assert journal.suspended == (
        "expense purchase openai",
        "expense unbilled self-hosted",
        "internal self-hosted",
    )
    debit, credit = sides_of(journal)
    assert debit == credit


def test_a_restatement_is_posted_as_what_it_changes() -> None:
    first = make_statement(
        make_line("growth", 100), make_line("search", 50), state=StatementState.SUPERSEDED
    )
    second = make_statement(
        make_line("growth", 90), make_line("search", 60), version=2, statement_id="second"
    )

    journal = compose_journal(second, USUAL_ACCOUNTS, before=first)

    assert [short(row) for row in rows_of(journal)] == [
        ("CC-100", "llm-usage", "", "0.10"),
        ("CC-200", "llm-usage", "0.10", ""),
    ]
    assert {(row["statement"], row["reference"]) for row in rows_of(journal)} == {
        ("second", OF_OCTOBER)
    }
    assert rows_of(journal)[0]["description"] == (
        "Restatement of October 2026, version 1: Usage openai"
    )


@pytest.mark.parametrize("state", [StatementState.DRAFT, StatementState.PROPOSED])
def test_what_is_not_closed_is_not_posted(state: StatementState) -> None:
    with pytest.raises(Conflict, match=f"is {state.value}: only what was closed is posted"):
        compose_journal(sample_statement(state=state), USUAL_ACCOUNTS)


def test_a_statement_that_does_not_balance_is_not_posted() -> None:
    whole = make_statement(make_line("growth", 100))
    broken = Statement(whole.header, (replace(whole.lines[0], amount_nanos=1),))

    with pytest.raises(Conflict, match="does not balance"):
        compose_journal(broken, USUAL_ACCOUNTS)


def test_an_all_zero_statement_is_an_empty_journal() -> None:
    journal = compose_journal(make_statement(make_line("growth", 0)), USUAL_ACCOUNTS)

    assert (rows_of(journal), journal.total) == ([], "0.00")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("suspense = ", "gl.toml: not TOML"),
        ("suspence = '1'", "gl.toml: Object contains unknown field `suspence`"),
        ("[[expense]]\nacount = '1'", "gl.toml: expense 1: "),
        ("[[expense]]\naccount = ''", "gl.toml: expense 1: .*account"),
        ("[[expense]]\naccount = '1'\norigin = 'use'", "expense 1: origin 'use' is not one of"),
        (
            "[[liability]]\naccount = '1'\norigin = 'tax'",
            "liability 1: only an expense has an origin",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_place_and_name(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse(text)


def test_a_file_of_one_account_each_takes_everything() -> None:
    accounts = parse(
        "[[expense]]\naccount = '1'\n[[liability]]\naccount = '2'\n[[internal]]\naccount = '3'\n"
    )

    journal = compose_journal(sample_statement(), accounts)

    assert {row["account_code"] for row in rows_of(journal)} == {"1", "2", "3"}
    assert journal.suspended == ()
