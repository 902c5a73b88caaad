"""Bills of clouds and FOCUS deliveries: whole months, parts, and nothing stored of a bad file."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from tests.services.bill_cases import BILLING, NOW, stored_lines, total_in_force
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills import BillEntry, BillLine, EmptyPeriod, UsageLine, detect_format
from tokenbudget.services import bill_spool
from tokenbudget.services.bills import (
    BillImport,
    Delivery,
    PulledEntries,
    import_bills,
    import_delivery,
    import_entries,
)
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow, ProviderUsageRow

AWS = BILLING / "aws-cur2-bedrock.csv"
EA = BILLING / "azure-openai-ea-actualcost.csv"
MCA = BILLING / "azure-openai-mca-actualcost.csv"
OFFICIAL = BILLING / "azure-ea-actualcost-official.csv"
GOOGLE = BILLING / "gcp-billing-export-detailed.jsonl"
GOLDEN = BILLING / "focus-1.2-llm-golden.csv"
AWS_FOCUS = BILLING / "aws-focus-1.2-bedrock.csv"
SAMPLES = {
    AWS: ("aws-cur", 14, "USD", "24.7176805200"),
    EA: ("azure", 10, "USD", "298.9993301"),
    MCA: ("azure", 4, "EUR", "7.5995680"),
    OFFICIAL: ("azure", 10, "USD", "8.5450077867419368"),
    GOOGLE: ("google-cloud", 16, "USD", "4.12942500"),
    AWS_FOCUS: ("focus", 13, "USD", "24.767063200"),
    BILLING / "focus-spec-virtual-currency-c.csv": ("focus", 2, "USD", "53000"),
}
FIRST = datetime(2026, 9, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """Give an empty ledger where the engine makes no difference."""
    database = Database(f"sqlite:///{tmp_path / 'other.db'}", sqlite_synchronous="OFF")
    SQLModel.metadata.create_all(database.engine)
    yield database
    database.close()


def import_now(database: Database, *paths: Path, **options: Any) -> list[BillImport]:
    return import_bills(database, paths, now=NOW, **options)


def rewrite(source: Path, target: Path, replacements: dict[str, str]) -> Path:
    text = source.read_text(encoding="utf-8-sig")
    for old, new in replacements.items():
        text = text.replace(old, new)
    target.write_text(text)
    return target


def first_rows(source: Path, target: Path, count: int) -> Path:
    """Write the header of a CSV sample and its first rows."""
    lines = source.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    target.write_text("".join(lines[: count + 1]))
    return target


def is_empty(database: Database) -> bool:
    with database.reading() as session:
        imports = sa.select(sa.func.count()).select_from(table_of(BillImportRow))
        return stored_lines(database) == [] and session.connection().scalar(imports) == 0


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_imports_to_its_published_total_and_twice_changes_nothing(
    database: Database, path: Path
) -> None:
    source, line_count, currency, total = SAMPLES[path]

    [first] = import_now(database, path)
    [again] = import_now(database, path)

    assert (first.source, first.line_count) == (source, line_count)
    assert first.totals[currency] == Decimal(total)
    assert (again.is_new, again.line_count) == (False, line_count)
    assert total_in_force(database, currency) == Decimal(total)


@pytest.mark.parametrize("path", [AWS, EA, GOOGLE], ids=lambda path: path.name)
def test_a_months_snapshot_replaces_the_month_wholly_and_keeps_the_old_one(
    database: Database, tmp_path: Path, path: Path
) -> None:
    [first] = import_now(database, path)
    shorter = tmp_path / path.name
    kept = 1 if path.suffix == ".jsonl" else 2
    shorter.write_text("".join(path.read_text(encoding="utf-8-sig").splitlines(True)[:kept]))

    [second] = import_now(database, shorter)

    assert second.superseded_lines == first.line_count
    in_force = [line for line in stored_lines(database) if line.superseded_by is None]
    assert len(in_force) == second.line_count == 1
    assert len(stored_lines(database)) == first.line_count + 1


def test_another_month_and_another_account_are_not_replaced(
    database: Database, tmp_path: Path
) -> None:
    august = {"09/01/2026": "08/01/2026", "09/30/2026": "08/31/2026", "09/02/2026": "08/02/2026"}
    import_now(database, rewrite(EA, tmp_path / "august.csv", august))
    import_now(database, rewrite(EA, tmp_path / "other.csv", {"\n1234567,": "\n7654321,"}))

    [september] = import_now(database, EA)

    assert september.superseded_lines == 0
    assert total_in_force(database) == 3 * Decimal("298.9993301")


def test_parts_of_one_delivery_never_replace_each_other(database: Database, tmp_path: Path) -> None:
    lines = AWS.read_text().splitlines(keepends=True)
    parts = [tmp_path / f"part-{n}.csv" for n in (1, 2)]
    parts[0].write_text("".join(lines[:8]))
    parts[1].write_bytes(gzip.compress("".join([lines[0], *lines[8:]]).encode()))
    import_now(database, AWS)

    imports = import_delivery(database, Delivery(parts), now=NOW)

    assert [each.superseded_lines for each in imports] == [14, 0]
    assert total_in_force(database) == Decimal("24.7176805200")


def test_a_delivery_of_which_one_part_is_known_keeps_it(database: Database, tmp_path: Path) -> None:
    lines = AWS.read_text().splitlines(keepends=True)
    parts = [tmp_path / f"part-{n}.csv" for n in (1, 2)]
    parts[0].write_text("".join(lines[:8]))
    parts[1].write_text("".join([lines[0], *lines[8:]]))
    import_delivery(database, Delivery(parts), now=NOW)
    parts[1].write_text("".join([lines[0], *lines[8:-1]]))

    known, changed = import_delivery(database, Delivery(parts), now=NOW)

    assert (known.is_new, changed.superseded_lines) == (False, 7)
    assert total_in_force(database) == Decimal("24.7176805200") + Decimal("0.04938268")


def test_a_part_that_comes_later_names_what_it_is_a_part_of(
    database: Database, tmp_path: Path
) -> None:
    lines = AWS.read_text().splitlines(keepends=True)
    parts = [tmp_path / f"part-{n}.csv" for n in (1, 2)]
    parts[0].write_text("".join(lines[:8]))
    parts[1].write_text("".join([lines[0], *lines[8:]]))
    [first] = import_now(database, parts[0])

    import_delivery(database, Delivery([parts[1]], part_of=[first.import_id]), now=NOW)

    assert total_in_force(database) == Decimal("24.7176805200")


def test_two_files_of_one_month_that_may_be_parts_are_refused_rather_than_guessed(
    database: Database, tmp_path: Path
) -> None:
    part = first_rows(AWS, tmp_path / "part.csv", 3)

    with pytest.raises(BadFile, match=r"part\.csv: covers 2026-09 as another file of this call"):
        import_now(database, AWS, part)

    assert is_empty(database)
    imports = import_now(database, AWS, EA, GOLDEN)
    assert [each.superseded_lines for each in imports] == [0, 0, 0]


def test_the_first_hours_of_a_google_month_leave_the_last_of_the_month_before(
    database: Database, tmp_path: Path
) -> None:
    import_now(database, GOOGLE)
    october = {'"month": "202609"': '"month": "202610"', "2026-09-01": "2026-10-01"}
    first = tmp_path / "first.jsonl"
    first.write_text(GOOGLE.read_text().partition("\n")[0])

    [later] = import_now(database, rewrite(first, tmp_path / "october.jsonl", october))

    assert later.superseded_lines == 0
    assert total_in_force(database) == Decimal("4.12942500") + Decimal("0.319512")


def test_a_focus_day_is_replaced_within_its_own_billing_month_only(
    database: Database, tmp_path: Path
) -> None:
    usage = first_rows(GOLDEN, tmp_path / "september.csv", 3)
    longer = {
        "2026-10-01T00:00:00Z": "2026-10-01T07:00:00Z",
        "2026-09-03T00": "2026-10-01T00",
        "2026-09-04T00": "2026-10-01T07",
    }
    import_now(database, rewrite(usage, tmp_path / "a.csv", longer))
    october = {
        "2026-10-01T00:00:00Z": "2026-11-01T07:00:00Z",
        "2026-09-01T00:00:00Z": "2026-10-01T07:00:00Z",
        "2026-09-03T00": "2026-10-01T07",
        "2026-09-04T00": "2026-10-01T08",
    }

    [second] = import_now(database, rewrite(usage, tmp_path / "b.csv", october))

    assert (second.line_count, second.superseded_lines) == (3, 0)
    assert {line.period_start.day for line in stored_lines(database)} == {1}
    assert {line.billing_month for line in stored_lines(database)} == {202609, 202610}


def cut(content: bytes) -> bytes:
    return content.rstrip()[: -len(content) // 12]


@pytest.mark.parametrize(
    "path", [*SAMPLES, GOLDEN.with_suffix(".parquet")], ids=lambda path: path.name
)
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda content: gzip.compress(content)[:-9],
    ],
    ids=["cut", "cut gzip"],
)
def test_of_a_damaged_file_nothing_is_stored_and_one_error_names_it(
    sqlite: Database, tmp_path: Path, path: Path, damage: Callable[[bytes], bytes]
) -> None:
    damaged = tmp_path / f"damaged{path.suffix}"
    damaged.write_bytes(damage(path.read_bytes()))

    with pytest.raises(BadFile, match=r"^damaged\.\w+: "):
        import_now(sqlite, GOLDEN, damaged)

    assert is_empty(sqlite)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_mislabelled_file_is_one_error_and_nothing_is_stored(
    sqlite: Database, path: Path
) -> None:
    own = detect_format(path).source
    for source in {"focus", "aws-cur", "azure", "google-cloud", "openai-costs"} - {own}:
        with pytest.raises(BadFile, match=path.name):
            import_now(sqlite, path, source=source)

    assert is_empty(sqlite)


def usage_line(tokens: int, day: int = 1) -> UsageLine:
    start = FIRST + (day - 1) * ONE_DAY
    return UsageLine(
        row_number=1,
        provider="openai",
        account="",
        period=Period(start, start + timedelta(hours=1)),
        quantities={"input_tokens": tokens, "images": 3},
        requests=7,
        model="gpt-4.1",
        tags={"user_id": "u"},
    )


def pull(database: Database, digit: str, *entries: BillEntry) -> BillImport:
    told = PulledEntries("openai-usage-completions", "org-1", "2026-09-01", digit * 64, entries)
    return import_entries(database, told, now=NOW)


def usage_in_force(database: Database) -> list[tuple[object, ...]]:
    row = table_of(ProviderUsageRow)
    statement = sa.select(
        row.c.account, row.c.input_tokens, row.c.output_tokens, row.c.requests, row.c.other_units
    ).where(row.c.superseded_by.is_(None))
    with database.reading() as session:
        return [tuple(each) for each in session.connection().execute(statement.order_by(row.c.id))]


def test_what_a_provider_says_was_used_is_kept_apart_and_replaced_by_day(
    database: Database,
) -> None:
    first = pull(database, "a", usage_line(10), usage_line(20, day=2))

    again = pull(database, "a", usage_line(99))
    restated = pull(database, "b", usage_line(11))

    assert (first.line_count, first.totals) == (2, {})
    assert (again.is_new, restated.superseded_lines) == (False, 1)
    assert usage_in_force(database) == [
        ("org-1", 20, None, 7, {"images": 3}),
        ("org-1", 11, None, 7, {"images": 3}),
    ]
    assert stored_lines(database) == []


def test_an_empty_day_takes_what_was_used_on_it_out_of_force(database: Database) -> None:
    pull(database, "a", usage_line(10), usage_line(20, day=2))

    emptied = pull(database, "b", EmptyPeriod("", Period(FIRST, FIRST + ONE_DAY)))

    assert (emptied.line_count, emptied.superseded_lines) == (0, 1)
    assert [row[1] for row in usage_in_force(database)] == [20]


def test_what_does_not_fit_into_memory_goes_through_a_file(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bill_spool, "ROWS_PER_PART", 2)
    monkeypatch.setattr(bill_spool, "MAX_MEMORY_BYTES", 100)
    counted: list[int] = []

    import_now(database, AWS, advance=counted.append)

    assert counted == [2] * 7
    assert total_in_force(database) == Decimal("24.7176805200")
    assert [line.row_number for line in stored_lines(database)] == list(range(1, 15))


def test_a_cloud_bill_is_stored_with_its_folding_and_its_month(database: Database) -> None:
    import_now(database, OFFICIAL)

    line = next(line for line in stored_lines(database) if line.folded_rows == 2)

    assert (line.billing_month, line.provider, line.billed_amount) == (202309, "microsoft", "0")
    assert isinstance(detect_format(OFFICIAL).read(OFFICIAL).__next__(), BillLine)
