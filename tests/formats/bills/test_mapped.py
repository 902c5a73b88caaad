"""Any table as a bill: dates, numbers and categories as a mapping file says they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.formats.bills.table_files import write_rows
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bill_mapping import load_bill_mapping
from tokenbudget.formats.bills import BillLine
from tokenbudget.formats.bills.mapped import mapped_format

PLAIN = """
[columns]
day = "Date"
amount = "Cost"
[constants]
provider = "acme"
currency = "usd"
"""
FULL = """
source = "contoso"
[columns]
start = "From"
end = "To"
amount = "Betrag"
listed = "Liste"
currency = "Währung"
provider = "Anbieter"
account = "Konto"
project = "Projekt"
model = "Modell"
quantity = "Menge"
month = "Rechnung"
[constants]
api_key = "key-1"
usage_type = "input_tokens"
description = "Nutzung"
unit = "tokens"
invoice_ref = "R-1"
[formats]
day = "%d.%m.%Y %H:%M"
decimal = ","
thousands = "."
amount_unit = "0.01"
quantity_unit = "1000"
[[category]]
column = "Art"
equals = "MWST"
category = "tax"
[[category]]
column = "Art"
contains = "gut"
category = "credit"
[tags]
cost_center = "Kostenstelle"
"""
ROW = {
    "From": "01.09.2026 00:00",
    "To": "03.09.2026 12:00",
    "Betrag": "-1.234.567,89",
    "Liste": "2,5",
    "Währung": "eur",
    "Anbieter": "acme",
    "Konto": "k-1",
    "Projekt": "p-1",
    "Modell": "plain",
    "Menge": "1,5",
    "Rechnung": "2026-10",
    "Art": "Nutzung",
    "Kostenstelle": "CC-1",
}


def read_lines(directory: Path, mapping: str, *rows: dict[str, str]) -> list[BillLine]:
    path = directory / "mapping.toml"
    path.write_text(mapping, encoding="utf-8")
    bill_format = mapped_format(load_bill_mapping(path))
    assert not bill_format.recognises(b"Date,Cost")
    entries = bill_format.read(write_rows(directory, *rows))
    return [entry for entry in entries if isinstance(entry, BillLine)]


def test_two_columns_and_two_constants_are_enough(tmp_path: Path) -> None:
    [line] = read_lines(tmp_path, PLAIN, {"Date": "2026-09-01", "Cost": "1.25"})

    start, end = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC)
    assert line == BillLine(
        row_number=1,
        provider="acme",
        account="",
        period=Period(start, end),
        category=ChargeCategory.USAGE,
        billed=Decimal("1.25"),
        currency="USD",
    )


def test_everything_a_mapping_may_say_is_read(tmp_path: Path) -> None:
    [line] = read_lines(tmp_path, FULL, ROW)

    end = datetime(2026, 9, 3, 12, tzinfo=UTC)
    assert line == BillLine(
        row_number=1,
        provider="acme",
        account="k-1",
        period=Period(datetime(2026, 9, 1, tzinfo=UTC), end),
        category=ChargeCategory.USAGE,
        billed=Decimal("-12345.6789"),
        currency="EUR",
        project="p-1",
        api_key="key-1",
        model="plain",
        usage_type="input_tokens",
        description="Nutzung",
        quantity=Decimal("1500"),
        unit="tokens",
        listed=Decimal("0.025"),
        invoice_ref="R-1",
        month=202610,
        tags={"cost_center": "CC-1"},
    )


@pytest.mark.parametrize(
    ("kind", "category"),
    [("MwSt", "tax"), ("Gutschrift", "credit"), ("", "usage")],
)
def test_the_first_rule_that_fits_says_the_category(
    tmp_path: Path, kind: str, category: str
) -> None:
    rows = {**ROW, "Art": kind, "Kostenstelle": "", "Rechnung": "", "Menge": "", "Liste": ""}

    [line] = read_lines(tmp_path, FULL, rows)

    assert line.category == category
    assert (line.tags, line.month, line.quantity, line.listed) == ({}, None, None, None)


def test_days_of_a_format_are_utc_days(tmp_path: Path) -> None:
    mapping = PLAIN + '[formats]\nday = "%m/%d/%Y"\nthousands = ","\n'

    [line] = read_lines(tmp_path, mapping, {"Date": "09/02/2026", "Cost": "1,000.5"})

    assert line.period.start == datetime(2026, 9, 2, tzinfo=UTC)
    assert line.billed == Decimal("1000.5")


def test_bounds_without_a_format_are_days_or_times(tmp_path: Path) -> None:
    mapping = PLAIN.replace('day = "Date"', 'start = "From"\nend = "To"')
    row = {"From": "2026-09-01", "To": "2026-09-01T06:00:00Z", "Cost": "1"}

    [line] = read_lines(tmp_path, mapping, row)

    assert line.period.end == datetime(2026, 9, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ({"From": "2026-09-01"}, "column From: '2026-09-01' is not of the form %d.%m.%Y %H:%M"),
        ({"To": "01.09.2026 00:00"}, "column To: the period must end after it starts"),
        ({"Betrag": ""}, "column Betrag: must not be null"),
        ({"Betrag": "1,2,3"}, "column Betrag: '1.2.3' is not a decimal number"),
        ({"Währung": "euro"}, "column Währung: 'EURO' is not a currency"),
        ({"Währung": ""}, "column Währung: must not be null"),
        ({"Anbieter": ""}, "column Anbieter: must not be null"),
        ({"Rechnung": "Oktober"}, "column Rechnung: 'Oktober' is not a month such as 2026-09"),
    ],
)
def test_a_cell_that_does_not_fit_is_refused_naming_row_and_column(
    tmp_path: Path, cells: dict[str, str], rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"table\.csv: row 1, {rule}"):
        read_lines(tmp_path, FULL, {**ROW, **cells})


def test_a_point_where_decimals_follow_a_comma_is_no_guess(tmp_path: Path) -> None:
    mapping = PLAIN + '[formats]\ndecimal = ","\n'

    with pytest.raises(BadFile, match=r"'1\.25' has a point where decimals follow a ','"):
        read_lines(tmp_path, mapping, {"Date": "2026-09-01", "Cost": "1.25"})


def test_a_column_of_the_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="column Kostenstelle is missing"):
        read_lines(
            tmp_path, FULL, {name: cell for name, cell in ROW.items() if name != "Kostenstelle"}
        )


@pytest.mark.parametrize(
    ("mapping", "rule"),
    [
        ("= 3", "not readable TOML"),
        ("other = 1", "the file: 'other' is not known; there are source, columns"),
        ("source = 7" + PLAIN, "source: must be a text"),
        ("columns = 7", "columns: must be a table"),
        ("[columns]\ncolour = 'c'", "columns: 'colour' is not known"),
        ("[columns]\nday = 7", "columns.day: must be a text"),
        ("[columns]\namount = 'a'", "columns: day, or both start and end, must be there"),
        ("[columns]\namount = 'a'\nstart = 's'", "columns: day, or both start and end"),
        ("[columns]\nday = 'd'\nend = 'e'\namount = 'a'", "columns: day, or both start and end"),
        ("[columns]\nday = 'd'\nstart = 's'\nend = 'e'", "columns: day, or both start and end"),
        ("[columns]\nday = 'd'", "columns.amount: must be there"),
        ("[columns]\nday = 'd'\namount = 'a'", "columns.provider or constants.provider: one must"),
        (PLAIN.replace('"Cost"', '"Cost"\nprovider = "P"'), "constants.provider: columns.provider"),
        (PLAIN + "[formats]\ndecimal = ';'", "formats.decimal: must be a point or a comma"),
        (PLAIN + "[formats]\nthousands = 'x'", "formats.thousands: 'x' is no mark"),
        (PLAIN + "[formats]\nthousands = '.'", "formats.thousands: must differ from the mark"),
        (PLAIN + "[formats]\nday = '%d %z'", "formats.day: times are UTC; no zone is read"),
        (PLAIN + "[formats]\namount_unit = 'cents'", "formats.amount_unit: 'cents' is no factor"),
        (PLAIN + "[formats]\namount_unit = '0'", "formats.amount_unit: '0' is no factor"),
        (PLAIN + f"[formats]\nquantity_unit = '{'1' * 31}'", "formats.quantity_unit: '1+' is no f"),
        (PLAIN + f"[formats]\nquantity_unit = '1.{'1' * 30}'", "formats.quantity_unit: .* is no f"),
        ("category = 7" + PLAIN, "category: must be a list of tables"),
        (PLAIN + "[[category]]\ncolumn = 7", "category 1: must be a table of texts"),
        (PLAIN + "[[category]]\ncolour = 'c'", "category 1: 'colour' is not known"),
        (PLAIN + "[[category]]\ncolumn = 'c'", "category 1: column and one of equals and contains"),
        (
            PLAIN + "[[category]]\ncolumn = 'c'\nequals = 'x'\ncategory = 'gift'",
            "category 1: category must be one of usage, purchase, tax",
        ),
    ],
)
def test_a_wrong_mapping_is_refused_naming_the_entry(
    tmp_path: Path, mapping: str, rule: str
) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(mapping)

    with pytest.raises(BadFile, match=rf"mapping\.toml: {rule}"):
        load_bill_mapping(path)


def test_a_mapping_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        load_bill_mapping(tmp_path / "none.toml")
