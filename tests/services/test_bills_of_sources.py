"""Every further source through the import: to the published total, once, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.services.bill_cases import (
    BILLING,
    NOW,
    stored_lines,
    total_in_force,
)
from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bill_mapping import load_bill_mapping
from tokenbudget.formats.bills import detect_format
from tokenbudget.formats.bills.mapped import mapped_format
from tokenbudget.services.bills import BillImport, import_bills
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow, BillLineRow, ProviderUsageRow

FILES = [
    ("openai-costs", "openai-costs.page1.json", "15.9693225"),
    ("openai-costs", "openai-costs.page2.json", "-2.1941105"),
    ("openai-costs", "openai-dashboard-cost.csv", "13.7752120"),
    ("openai-usage-completions", "openai-usage-completions.page1.json", "0"),
    ("openai-usage-completions", "openai-dashboard-completions.csv", "0"),
    ("openai-usage-embeddings", "openai-usage-embeddings.json", "0"),
    ("openai-usage-images", "openai-usage-images.json", "0"),
    ("openai-usage-audio_transcriptions", "openai-usage-audio_transcriptions.json", "0"),
    ("openai-usage-web_search_calls", "openai-usage-web_search_calls.json", "0"),
    ("anthropic-costs", "anthropic-cost-report.page1.json", "22.99160075"),
    ("anthropic-costs", "anthropic-cost-report.page2.json", "-2.499282"),
    ("anthropic-costs", "anthropic-analytics-cost_report.json", "18.934"),
    ("anthropic-costs", "anthropic-console-cost.csv", "22.42"),
    ("anthropic-usage", "anthropic-usage-messages.page1.json", "0"),
    ("anthropic-usage", "anthropic-console-usage.csv", "0"),
    ("anthropic-claude-code", "anthropic-claude-code.json", "0"),
    ("openrouter-activity", "openrouter-activity.json", "4.3051"),
    ("openrouter-activity", "openrouter-activity.csv", "4.3051"),
    ("cursor", "cursor-usage-events.csv", "0.13"),
    ("github-copilot", "github-copilot-premium-requests.csv", "0.4"),
    ("github-ai", "github-ai-usage.csv", "0.035"),
]
TABLES = [name for _, name, _ in FILES if name.endswith(".csv")]
FIRST_COLUMNS = {
    "openai-dashboard-cost.csv": "start_time",
    "openai-dashboard-completions.csv": "start_time",
    "anthropic-console-cost.csv": "usage_date_utc",
    "anthropic-console-usage.csv": "usage_date_utc",
    "openrouter-activity.csv": "Date",
    "cursor-usage-events.csv": "Date",
    "github-copilot-premium-requests.csv": "date",
    "github-ai-usage.csv": "date",
}
MAPPING = """
source = "contoso"
[columns]
day = "Datum"
amount = "Betrag"
[constants]
provider = "together"
currency = "USD"
[formats]
day = "%d.%m.%Y"
decimal = ","
"""


@pytest.fixture
def light_database(sqlite_database: Database) -> Database:
    """Give a ledger on one engine, for what no engine has a part in."""
    return sqlite_database


def import_now(database: Database, *paths: Path, **options: Any) -> list[BillImport]:
    return import_bills(database, paths, now=NOW, **options)


def count_rows(database: Database) -> list[int]:
    """Give how many imports, lines and rows of usage there are."""
    with database.reading() as session:
        return [
            session.connection()
            .execute(sa.select(sa.func.count()).select_from(table_of(model)))
            .scalar_one()
            for model in (BillImportRow, BillLineRow, ProviderUsageRow)
        ]


def rows_of_usage(database: Database) -> list[sa.RowMapping]:
    table = table_of(ProviderUsageRow)
    with database.reading() as session:
        statement = sa.select(table).where(table.c.superseded_by.is_(None)).order_by(table.c.id)
        return list(session.connection().execute(statement).mappings())


def with_columns_reversed(path: Path, target: Path) -> Path:
    with path.open(encoding="utf-8", newline="") as source:
        rows = [row for row in csv.reader(source)]
    width = len(rows[0])
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*row, *[""] * (width - len(row))][::-1] for row in rows])
    return target


def with_semicolons(path: Path, target: Path) -> Path:
    with path.open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    numbers = {"amount_value", "cost_usd", "list_price_usd", "Usage", "BYOK Usage", "Cost"}
    numbers |= {"quantity", "gross_amount", "discount_amount", "net_amount"}
    changed = [
        {
            name: (cell or "").replace(".", ",") if name in numbers else cell
            for name, cell in row.items()
        }
        for row in rows
    ]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(changed)
    return target


@pytest.mark.parametrize(("source", "name", "total"), FILES)
def test_a_sample_is_told_by_its_content_and_imports_to_its_total(
    light_database: Database, source: str, name: str, total: str
) -> None:
    [imported] = import_now(light_database, BILLING / name)

    assert imported.source == source
    assert total_in_force(light_database) == Decimal(total)
    assert imported.line_count > 0


def test_the_samples_of_all_sources_import_at_once_and_only_once(database: Database) -> None:
    paths = [BILLING / name for _, name, _ in FILES]
    first = import_now(database, *paths)
    before = count_rows(database)

    again = import_now(database, *paths)

    assert [each.is_new for each in first] == [True] * len(FILES)
    assert [each.is_new for each in again] == [False] * len(FILES)
    assert count_rows(database) == before


def test_shapes_of_the_same_money_replace_each_other_by_day(database: Database) -> None:
    pages = [BILLING / f"anthropic-cost-report.page{number}.json" for number in (1, 2)]
    console = BILLING / "anthropic-console-cost.csv"
    import_now(database, console)

    import_now(database, *pages)

    assert total_in_force(database) == Decimal("20.49231875")


def test_endpoints_of_usage_do_not_replace_each_other(database: Database) -> None:
    names = ("images", "audio_transcriptions", "web_search_calls")

    import_now(database, *(BILLING / f"openai-usage-{name}.json" for name in names))

    units = [row["other_units"] for row in rows_of_usage(database)]
    assert units == [{"images": 14}, {"audio_seconds": 5410}, {"web_searches": 40}]


def test_usage_is_stored_with_every_fact(database: Database) -> None:
    import_now(database, BILLING / "anthropic-usage-messages.page1.json")

    row = rows_of_usage(database)[0]
    stored = {name: row[name] for name in ("project", "api_key", "model", "service_tier", "region")}
    assert stored == {
        "project": "wrkspc_01Research",
        "api_key": "apikey_01Research",
        "model": "claude-sonnet-4-5-20250929",
        "service_tier": "standard",
        "region": "global",
    }
    assert (row["input_tokens"], row["cached_input_tokens"]) == (5_470_000, 4_200_000)
    assert (row["output_tokens"], row["requests"]) == (310_000, None)
    assert row["other_units"]["web_searches"] == 12


@pytest.mark.parametrize(("source", "name", "total"), FILES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_sample_in_another_encoding_imports_alike(
    light_database: Database, tmp_path: Path, source: str, name: str, total: str, encoding: str
) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress((BILLING / name).read_text(encoding="utf-8").encode(encoding)))

    [imported] = import_now(light_database, path)

    assert (imported.source, total_in_force(light_database)) == (source, Decimal(total))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("change", [with_columns_reversed, with_semicolons])
def test_a_table_with_other_separators_or_order_says_the_same(
    tmp_path: Path, name: str, change: Callable[[Path, Path], Path]
) -> None:
    changed = change(BILLING / name, tmp_path / name)

    expected = detect_format(BILLING / name).read(BILLING / name)
    assert list(detect_format(changed).read(changed)) == list(expected)


@pytest.mark.parametrize("name", [name for _, name, _ in FILES])
def test_a_file_that_was_cut_off_stores_nothing(
    light_database: Database, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    content = (BILLING / name).read_bytes().rstrip()
    last_row = content.rfind(b"\n")
    # Within the last row, before its second cell ends.
    end = content.find(b",", last_row) + 1 if name in TABLES else len(content) - 5
    path.write_bytes(content[:end])

    with pytest.raises(BadFile, match=name.replace(".", r"\.")):
        import_now(light_database, path)

    assert count_rows(light_database) == [0, 0, 0]


@pytest.mark.parametrize(("source", "name", "total"), FILES)
def test_a_file_under_the_name_of_another_source_stores_nothing(
    light_database: Database, source: str, name: str, total: str
) -> None:
    other = "deepseek-costs" if name in TABLES else "openai-usage-moderations"

    with pytest.raises(BadFile, match=name.replace(".", r"\.")):
        import_now(light_database, BILLING / name, source=other)

    assert count_rows(light_database) == [0, 0, 0]


@pytest.mark.parametrize("name", TABLES)
def test_a_needed_column_that_is_missing_or_doubled_is_named(tmp_path: Path, name: str) -> None:
    column = FIRST_COLUMNS[name]
    with (BILLING / name).open(encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))
    known = detect_format(BILLING / name)
    place = rows[0].index(column)
    for heading, fault in ((column, "is there twice"), ("Other", "is missing")):
        changed = tmp_path / f"{fault}.csv"
        header = list(rows[0])
        header[place] = heading if heading != column else column
        text = io.StringIO()
        extra = [heading] if heading == column else []
        csv.writer(text).writerows([[*header, *extra], *([*row, *extra] for row in rows[1:])])
        changed.write_text(text.getvalue(), encoding="utf-8")

        with pytest.raises(BadFile, match=f"column {column} {fault}"):
            list(known.read(changed))


def test_amounts_of_thirty_decimals_are_stored_as_they_are(
    database: Database, tmp_path: Path
) -> None:
    digits = "0.123456789012345678901234567891"
    page = json.loads((BILLING / "anthropic-cost-report.page1.json").read_text())
    page["data"] = page["data"][:1]
    page["data"][0]["results"] = page["data"][0]["results"][:1]
    page["data"][0]["results"][0]["amount"] = digits
    path = tmp_path / "page.json"
    path.write_text(json.dumps(page))

    import_now(database, path)

    [line] = stored_lines(database)
    assert line.billed_amount == "0.00123456789012345678901234567891"


def test_any_table_is_a_bill_by_a_mapping_and_again_by_a_better_one(
    database: Database, tmp_path: Path
) -> None:
    table, mapping = tmp_path / "t.csv", tmp_path / "m.toml"
    table.write_text("Datum;Betrag\n01.09.2026;1,25\n")
    mapping.write_text(MAPPING)
    [first] = import_now(database, table, source=mapped_format(load_bill_mapping(mapping)))
    [again] = import_now(database, table, source=mapped_format(load_bill_mapping(mapping)))
    mapping.write_text(MAPPING + 'amount_unit = "-1"\n')

    [better] = import_now(database, table, source=mapped_format(load_bill_mapping(mapping)))

    assert (first.source, first.is_new, again.is_new, better.is_new) == (
        "contoso",
        True,
        False,
        True,
    )
    assert better.superseded_lines == 1
    assert total_in_force(database) == Decimal("-1.25")
