"""A statement as CSV and as a workbook: every row, exact amounts, the same bytes again."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from tests.statement_reporting import CAT, make_line, make_statement, sample_facts, sample_statement
from tokenbudget.domain.errors import TooLarge
from tokenbudget.domain.statements import StatementState
from tokenbudget.formats import statement_sheets, statement_totals
from tokenbudget.formats.statement_csv import statement_csv
from tokenbudget.formats.statement_report import StatementFacts, compose_statement
from tokenbudget.formats.statement_sheets import statement_xlsx
from tokenbudget.formats.statement_words import Scope

NAMESPACE = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
Sheet = dict[str, str]


def rows_of(facts: StatementFacts) -> list[dict[str, str]]:
    """Give the rows of the CSV."""
    return list(csv.DictReader(io.StringIO(statement_csv(facts))))


def sheets_of(facts: StatementFacts) -> dict[str, Sheet]:
    """Give the cells of each sheet by place: text, number, or ``=formula -> value``."""
    content = statement_xlsx(facts, compose_statement(facts))
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        strings = [
            "".join(node.itertext())
            for node in ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
        ]
        names = [
            node.attrib["name"]
            for node in ElementTree.fromstring(book.read("xl/workbook.xml")).iterfind(
                ".//x:sheet", NAMESPACE
            )
        ]
        return {
            name: cells_of(book.read(f"xl/worksheets/sheet{number}.xml"), strings)
            for number, name in enumerate(names, start=1)
        }


def cells_of(xml: bytes, strings: list[str]) -> Sheet:
    """Give the cells of one sheet."""
    cells: Sheet = {}
    for cell in ElementTree.fromstring(xml).iterfind(".//x:c", NAMESPACE):
        value = cell.findtext("x:v", None, NAMESPACE)
        if value is None:
            continue
        formula = cell.findtext("x:f", None, NAMESPACE)
        text = strings[int(value)] if cell.attrib.get("t") == "s" else value
        cells[cell.attrib["r"]] = text if formula is None else f"={formula} -> {value}"
    return cells


def column(sheet: Sheet, letter: str) -> list[str]:
    """Give a column below its heading."""
    return [text for place, text in sheet.items() if place[0] == letter and int(place[1:]) > 2]


def test_rows_of_the_csv_add_up_to_its_total_and_so_do_its_invoices() -> None:
    rows = rows_of(sample_facts())

    sums = {
        table: sum(Decimal(row["amount"]) for row in rows if row["table"] == table)
        for table in ("total", "invoice", "line", "difference")
    }
    assert sums == {
        "total": Decimal("233.32"),
        "invoice": Decimal("233.32"),
        "line": Decimal("233.32"),
        "difference": Decimal("12.34"),
    }
    assert {row["period"] for row in rows} == {"2026-10"}


def test_a_row_of_the_csv_tells_all_of_its_key() -> None:
    [row] = [row for row in rows_of(sample_facts()) if row["rule"] == "double sender"]

    assert (row["team"], row["cost_center"], row["origin"], row["method"]) == (
        "search",
        "CC-200",
        "usage",
        "accepted",
    )
    assert (row["metered_cost"], row["amount"]) == ("9.750000000", "9.00")


def test_names_are_never_formulas_in_either_file() -> None:
    [row] = [row for row in rows_of(sample_facts()) if row["amount"] == "0.42"]

    assert row["tenant"] == "'=HYPERLINK(1)"
    assert "'=HYPERLINK(1)" in column(sheets_of(sample_facts())["Lines"], "F")
    assert "'=HYPERLINK(1)" in column(sheets_of(sample_facts())["By tenant"], "A")


def test_files_of_one_bearer_have_its_rows_only() -> None:
    facts = sample_facts(scope=Scope("team", "growth"))

    assert {row["team"] for row in rows_of(facts)} == {"", "growth"}
    assert {row["table"] for row in rows_of(facts)} == {"total", "line", "difference"}
    assert set(column(sheets_of(facts)["Lines"], "D")) == {"growth"}


def test_sheets_have_exact_numbers_under_sums_that_follow_the_filter() -> None:
    sheets = sheets_of(sample_facts())

    assert list(sheets) == [
        "Summary",
        "By team",
        "By cost centre",
        "By tenant",
        "Lines",
        "Differences",
    ]
    assert sheets["By team"]["G1"] == "=SUBTOTAL(9,G3:G8) -> 233.32"
    assert column(sheets["By team"], "A")[-2:] == [CAT, "Untracked"]
    assert column(sheets["By team"], "G") == ["0.42", "127.89", "5.50", "94.11", "1.00", "4.40"]
    assert sheets["Lines"]["P1"] == "=SUBTOTAL(9,P3:P17) -> 233.32"
    assert sheets["Differences"]["Q1"] == "=SUBTOTAL(9,Q3:Q7) -> 12.34"


def test_the_summary_adds_up_by_formulas() -> None:
    summary = sheets_of(sample_facts())["Summary"]

    sums = [text.split(" -> ")[1] for text in summary.values() if text.startswith("=SUM(")]
    assert sums == ["233.32", "233.32", "233.32", "0.00"]
    assert summary["A1"] == "LLM cost statement, October 2026"


def test_an_empty_statement_is_a_workbook_too() -> None:
    sheets = sheets_of(StatementFacts(make_statement()))

    assert sheets["Lines"]["P1"] == "=SUBTOTAL(9,P3) -> 0"


def test_a_draft_says_so_in_the_workbook() -> None:
    draft = sample_statement(state=StatementState.DRAFT, closed_at=None, digest=None)

    summary = sheets_of(sample_facts(statement=draft))["Summary"]

    assert summary["A3"] == "DRAFT These figures may still change; they are not for posting."


def test_bearers_that_are_not_shown_are_in_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_totals, "MAX_BEARERS", 1)
    statement = make_statement(*(make_line(team, 100) for team in ("a", "b", "c")))

    sheet = sheets_of(StatementFacts(statement))["By team"]

    assert column(sheet, "A") == ["a", "2 more"]
    assert sheet["G1"] == "=SUBTOTAL(9,G3:G4) -> 3.00"


def test_more_rows_than_a_sheet_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_sheets, "MAX_ROWS", 14)
    facts = sample_facts()

    with pytest.raises(TooLarge, match="15 rows are more than a sheet holds: take csv"):
        statement_xlsx(facts, compose_statement(facts))


def test_the_same_statement_gives_the_same_bytes() -> None:
    facts = sample_facts()
    again = sample_facts()
    later = datetime(2026, 12, 24, tzinfo=UTC)
    other = replace(facts, statement=sample_statement(closed_at=later))

    assert statement_xlsx(facts, compose_statement(facts)) == statement_xlsx(
        again, compose_statement(again)
    )
    assert statement_xlsx(other, compose_statement(other)) != statement_xlsx(
        again, compose_statement(again)
    )


def test_yen_have_no_decimals() -> None:
    line = replace(make_line("growth", 0), amount_nanos=1_234 * 10**9)
    statement = make_statement(line, currency="JPY")

    assert sheets_of(StatementFacts(statement))["Lines"]["P3"] == "1234"
    assert rows_of(StatementFacts(statement))[0]["amount"] == "1234"
