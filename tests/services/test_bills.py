"""Importing bills: exact totals, once each, restated by day, and all or nothing."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from tests.services.bill_cases import BILLING, NOW, stored_lines, total_in_force
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.services.bills import BillImport, import_bills
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow

PAGE_1 = BILLING / "openai-costs.page1.json"
PAGE_2 = BILLING / "openai-costs.page2.json"
RESTATED = BILLING / "openai-costs.restated-day2.json"
GOLDEN = BILLING / "focus-1.2-llm-golden.csv"
FIRST_OF_SEPTEMBER = 1_788_220_800


def import_now(database: Database, *paths: Path, **options: Any) -> list[BillImport]:
    return import_bills(database, paths, now=NOW, **options)


def write_page(path: Path, *amounts: str, day: int = 1, **facts: Any) -> Path:
    """Write a page of one bucket with a result for each amount."""
    start = FIRST_OF_SEPTEMBER + (day - 1) * 86_400
    results = [
        {
            "object": "organization.costs.result",
            "amount": {"value": amount, "currency": "usd"},
            "line_item": "gpt-4.1, input",
            **facts,
        }
        for amount in amounts
    ]
    bucket = {"start_time": start, "end_time": start + 86_400, "results": results}
    path.write_text(json.dumps({"object": "page", "data": [bucket]}))
    return path


def write_focus(path: Path, replacements: dict[str, str]) -> Path:
    """Write the golden file with texts replaced, one after the other."""
    text = GOLDEN.read_text()
    for old, new in replacements.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


def count_imports(database: Database) -> int:
    with database.reading() as session:
        return (
            session.connection().scalar(
                sa.select(sa.func.count()).select_from(table_of(BillImportRow))
            )
            or 0
        )


def test_two_pages_in_one_call_import_to_the_published_total(database: Database) -> None:
    first, second = import_now(database, PAGE_1, PAGE_2)

    assert (first.line_count, second.line_count) == (17, 4)
    assert first.totals == {"USD": Decimal("15.9693225")}
    assert second.totals == {"USD": Decimal("-2.1941105")}
    assert total_in_force(database) == Decimal("13.7752120")


def test_the_same_bytes_twice_change_nothing(database: Database, tmp_path: Path) -> None:
    [first] = import_now(database, PAGE_1)
    renamed = Path(shutil.copy(PAGE_1, tmp_path / "again.json"))

    [again, same] = import_now(database, renamed, PAGE_1)

    assert (first.is_new, again.is_new, same.is_new) == (True, False, False)
    assert again == BillImport("again.json", "openai-costs", first.import_id, False, 17, 0, {})
    assert len(stored_lines(database)) == 17
    assert count_imports(database) == 1


def test_a_restated_day_supersedes_the_earlier_lines_and_keeps_them(database: Database) -> None:
    import_now(database, PAGE_1, PAGE_2)

    [restated] = import_now(database, RESTATED)

    assert restated.superseded_lines == 8
    assert total_in_force(database) == Decimal("13.7752140")
    superseded = [line for line in stored_lines(database) if line.superseded_by is not None]
    assert {line.superseded_by for line in superseded} == {restated.import_id}
    assert {line.period_start for line in superseded} == {datetime(2026, 9, 2, tzinfo=UTC)}
    assert len(stored_lines(database)) == 29


def test_a_later_file_of_one_call_restates_an_earlier_one(database: Database) -> None:
    imports = import_now(database, PAGE_1, PAGE_2, RESTATED)

    assert [each.superseded_lines for each in imports] == [0, 0, 8]
    assert total_in_force(database) == Decimal("13.7752140")


def test_a_day_restated_as_empty_takes_its_lines_out_of_force(
    database: Database, tmp_path: Path
) -> None:
    import_now(database, write_page(tmp_path / "first.json", "5", "7"))

    [emptied] = import_now(database, write_page(tmp_path / "empty.json"), source="openai-costs")

    assert (emptied.line_count, emptied.superseded_lines) == (0, 2)
    assert total_in_force(database) == Decimal("0")


def test_another_account_and_another_day_are_not_superseded(
    database: Database, tmp_path: Path
) -> None:
    import_now(database, write_page(tmp_path / "a.json", "1", organization_id="org-a"))
    import_now(database, write_page(tmp_path / "b.json", "2", organization_id="org-b"))
    import_now(database, write_page(tmp_path / "c.json", "4"), account="org-c")
    import_now(database, write_page(tmp_path / "d.json", "8", day=2), account="org-c")

    [last] = import_now(database, write_page(tmp_path / "e.json", "16"), account="org-c")

    assert last.superseded_lines == 1
    assert total_in_force(database) == Decimal("27")


def test_a_focus_file_is_stored_with_every_fact(database: Database) -> None:
    [golden] = import_now(database, GOLDEN)

    assert golden.totals == {"EUR": Decimal("7.36"), "USD": Decimal("104.250831625")}
    line = stored_lines(database)[4]
    assert (line.provider, line.model, line.account) == (
        "anthropic",
        "claude-sonnet-4",
        "org-EXAMPLE2",
    )
    assert (line.billed_amount, line.billed_nanos) == ("0.236260125", 236_260_125)
    assert (line.list_nanos, line.quantity, line.unit) == (262_511_250, "70003", "Tokens")
    assert (line.tags, line.invoice_ref) == ({"team": "search", "env": "prod"}, "INV-ANT-09")
    assert (line.usage_type, line.billing_month) == ("cache_write_5m_tokens", 202609)
    assert (line.category, line.row_number) == ("usage", 5)


def test_the_parquet_of_a_bill_replaces_its_csv_line_for_line(database: Database) -> None:
    import_now(database, GOLDEN)

    [parquet] = import_now(database, GOLDEN.with_suffix(".parquet"))

    assert parquet.superseded_lines == 10
    assert total_in_force(database) == Decimal("104.250831625")


def test_a_correction_leaves_the_day_it_corrects_in_force(
    database: Database, tmp_path: Path
) -> None:
    august = {"2026-09-0": "2026-08-0", "2026-10-01": "2026-09-01"}
    [first] = import_now(database, write_focus(tmp_path / "august.csv", august))

    [second] = import_now(database, GOLDEN)

    assert (first.line_count, second.superseded_lines) == (10, 0)
    assert total_in_force(database) == Decimal("208.501663250")


def test_amounts_below_a_nano_are_rounded_half_even_and_kept_exactly(
    database: Database, tmp_path: Path
) -> None:
    amounts = ("0.0000000005", "0.0000000015", "-0.000000000500000000000000000001")

    [tiny] = import_now(database, write_page(tmp_path / "tiny.json", *amounts))

    lines = stored_lines(database)
    assert [line.billed_nanos for line in lines] == [0, 2, -1]
    assert [line.billed_amount for line in lines] == list(amounts)
    assert tiny.totals == {"USD": Decimal("0.000000001499999999999999999999")}


def test_nothing_of_any_file_is_stored_when_one_row_is_bad(
    database: Database, tmp_path: Path
) -> None:
    bad = write_page(tmp_path / "bad.json", *["1"] * 1500, "one dollar")

    with pytest.raises(BadFile, match=r"bad\.json: row 1501, column amount\.value: 'one dollar'"):
        import_now(database, PAGE_1, bad)

    assert count_imports(database) == 0
    assert stored_lines(database) == []


def test_a_file_that_is_not_there_is_one_clear_error(database: Database, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(BadFile, match=f"{path.name}: cannot be read: "):
            import_now(database, path)


def test_a_source_that_does_not_exist_or_does_not_fit_is_one_clear_error(
    database: Database,
) -> None:
    with pytest.raises(InvalidInput, match="source 'aws' is not one of"):
        import_now(database, GOLDEN, source="aws")
    with pytest.raises(BadFile, match=r"golden\.csv: is not JSON"):
        import_now(database, GOLDEN, source="openai-costs")
    with pytest.raises(BadFile, match=r"page1\.json: column BilledCost is missing"):
        import_now(database, PAGE_1, source="focus")


def test_progress_counts_the_lines_read(database: Database) -> None:
    counted: list[int] = []

    import_now(database, PAGE_1, PAGE_2, advance=counted.append)

    assert sum(counted) == 21


def test_an_import_is_recorded_with_its_file_and_time(database: Database) -> None:
    [imported] = import_now(database, PAGE_1)

    with database.reading() as session:
        row = session.exec(select(BillImportRow)).one()
    assert (row.id, row.file_name, row.source) == (
        imported.import_id,
        "openai-costs.page1.json",
        "openai-costs",
    )
    assert (row.line_count, row.imported_at) == (17, NOW)


def test_a_file_that_is_being_read_holds_nobody_up_and_restates_what_came_meanwhile(
    database: Database, tmp_path: Path
) -> None:
    first, second = (write_page(tmp_path / f"{n}.json", "3", str(n)) for n in (1, 2))

    [late] = import_now(database, first, advance=lambda _count: import_now(database, second))

    assert late.superseded_lines == 2
    assert total_in_force(database) == Decimal("4")


def test_the_same_bytes_imported_meanwhile_are_imported_once(database: Database) -> None:
    [late] = import_now(database, PAGE_1, advance=lambda _count: import_now(database, PAGE_1))

    assert (late.is_new, late.line_count) == (False, 17)
    assert total_in_force(database) == Decimal("15.9693225")


def test_two_imports_that_are_stored_at_once_come_one_after_the_other(
    database: Database, tmp_path: Path
) -> None:
    pages = [write_page(tmp_path / f"{n}.json", str(n)) for n in range(1, 9)]

    with ThreadPoolExecutor(max_workers=len(pages)) as pool:
        imports = [
            each
            for told in pool.map(lambda page: import_now(database, page), pages)
            for each in told
        ]

    assert sum(each.superseded_lines for each in imports) == 7
    assert len([line for line in stored_lines(database) if line.superseded_by is None]) == 1
