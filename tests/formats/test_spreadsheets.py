"""CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import pytest

from tokenbudget.formats.spreadsheets import Cell, escape_formula, write_csv


@pytest.mark.parametrize("text", ["=1", "+cmd", "-x", "@a", "\tx", "\rx", "\nx", "-1+1", "-"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["plain", "a=b", "-0.000000005", "+7", -3, 0, None, ""])
def test_numbers_and_plain_text_stay_as_they_are(cell: Cell) -> None:
    assert escape_formula(cell) == cell


def test_header_and_cells_are_quoted_and_empty_where_unknown() -> None:
    text = write_csv(["a", "=b"], [[None, 'say "hi"'], [1, "x,y"]])

    assert text == 'a,\'=b\r\n,"say ""hi"""\r\n1,"x,y"\r\n'
