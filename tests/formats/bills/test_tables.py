"""Tables in every wrapping, and what is said when one is damaged."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills import plain_files, tables
from tokenbudget.formats.bills.plain_files import head_of
from tokenbudget.formats.bills.table_faults import find_fault
from tokenbudget.formats.bills.tables import (
    columns_of_head,
    open_table,
    read_objects,
    read_rows,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = 'day,note,cost\n1,"a, ""b""\nc",2.50\n2,NULL,\n'
ROWS = [
    (1, {"day": "1", "note": 'a, "b"\nc', "cost": "2.50"}),
    (2, {"day": "2", "note": None, "cost": None}),
]


def write(directory: Path, content: bytes | str) -> Path:
    path = directory / "table.bin"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, **options: object) -> list[tuple[int, dict[str, str | None]]]:
    return [(number, dict(row)) for number, row in read_rows(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: gzip.compress(text.encode()),
        lambda text: gzip.compress(text.encode("utf-16")),
        lambda text: zstd.compress(text.encode()),
        lambda text: text.rstrip("\n").encode(),
        lambda text: (text + "\n\n").encode(),
        lambda text: text.replace("\n2", "\r\n2").replace("cost\n", "cost\r\n").encode(),
    ],
)
def test_a_table_reads_the_same_in_every_wrapping(
    tmp_path: Path, wrap: Callable[[str], bytes]
) -> None:
    assert rows_of(write(tmp_path, wrap(TEXT))) == ROWS


def test_semicolons_and_tabs_separate_cells_as_well(tmp_path: Path) -> None:
    semicolons = write(tmp_path, "day;cost;list\n1;2,5;0,1\n2;-3;7\n")

    assert rows_of(semicolons, numbers=("cost",))[0] == (
        1,
        {"day": "1", "cost": "2.5", "list": "0,1"},
    )
    assert rows_of(write(tmp_path, "day\tcost\n1\t2,5\n")) == [(1, {"day": "1", "cost": "2,5"})]


@pytest.mark.parametrize(
    ("second", "third", "row"), [("1.5", "2,5", 2), ("2,5", "1.5", 1), ("1.5", "1.234,5", 2)]
)
def test_points_and_commas_in_one_column_are_refused(
    tmp_path: Path, second: str, third: str, row: int
) -> None:
    path = write(tmp_path, f"day;cost\n1;{second}\n2;{third}\n")

    with pytest.raises(BadFile, match=rf"row {row}, column cost: some numbers have decimal commas"):
        rows_of(path, numbers=("cost",))


def test_json_lines_and_documents_are_tables_too(tmp_path: Path) -> None:
    lines = write(
        tmp_path, '\ufeff{"a": 1.50, "b": {"x": [1]}, "c": true}\n\n{"a": null, "d": ""}\n'
    )
    first, second = rows_of(lines)

    assert first == (1, {"a": "1.50", "b": '{"x": [1]}', "c": "true"})
    assert second == (3, {"a": None, "d": None})
    assert rows_of(write(tmp_path, '[{"a": 1},\n {"a": false}]')) == [
        (1, {"a": "1"}),
        (2, {"a": "false"}),
    ]
    assert rows_of(write(tmp_path, '{\n "a": 1\n}')) == [(1, {"a": "1"})]


def test_batches_of_json_have_the_columns_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n{"b": 2}\n')

    with open_table(path) as table:
        [(first, batch)] = table.batches(["a", "b"])

    assert (first, batch.rows()) == (1, [("1", None), (None, "2")])
    assert table.columns == ("a",)


def test_objects_keep_their_decimals(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 0.1}\n')

    assert list(read_objects(path)) == [(1, {"a": Decimal("0.1")})]
    with pytest.raises(BadFile, match="is CSV where JSON is needed"):
        list(read_objects(write(tmp_path, TEXT)))


def test_every_type_of_parquet_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    moment = datetime(2026, 9, 1, 2)  # noqa: DTZ001 - as Parquet has it
    pl.DataFrame(
        {
            "zoned": pl.Series([moment]).dt.replace_time_zone("Europe/Berlin"),
            "bare": [moment],
            "day": [date(2026, 9, 1)],
            "cost": pl.Series([Decimal("1.50")], dtype=pl.Decimal(38, 4)),
            "count": [7],
            "tags": [[{"key": "team", "value": 'a "b"'}]],
            "sku": [{"id": "x"}],
            "null": pl.Series([None], dtype=pl.List(pl.String)),
            "word": ["NULL"],
        }
    ).write_parquet(path)

    assert rows_of(path) == [
        (
            1,
            {
                "zoned": "2026-09-01T00:00:00Z",
                "bare": "2026-09-01T02:00:00Z",
                "day": "2026-09-01",
                "cost": "1.5000",
                "count": "7",
                "tags": '[{"key":"team","value":"a \\"b\\""}]',
                "sku": '{"id":"x"}',
                "null": None,
                "word": None,
            },
        )
    ]


@pytest.mark.parametrize("count", [0, 3, 4, 5])
def test_a_parquet_file_is_read_a_slice_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(tables, "ROWS_PER_SLICE", 4)
    monkeypatch.setattr(tables, "ROWS_PER_BATCH", 3)
    path = tmp_path / "table.parquet"
    pl.DataFrame({"a": [str(n) for n in range(count)]}, schema={"a": pl.String}).write_parquet(path)

    assert rows_of(path) == [(n + 1, {"a": str(n)}) for n in range(count)]


def test_rows_may_end_early_where_a_source_lets_them(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,c\n1,2,3\n4\n")

    assert rows_of(path, may_be_short=True)[1] == (2, {"a": "4", "b": None, "c": None})
    with pytest.raises(BadFile, match=r"table\.bin: row 2: the row is too short: 1 cells of 3"):
        rows_of(path)


def test_empty_cells_at_the_end_and_commas_inside_are_no_short_rows(tmp_path: Path) -> None:
    path = write(tmp_path, '"a,x",b,c\n1,"2,2",\n\n3,"4\n4",\n,,\n')

    assert [row["b"] for _, row in rows_of(path)] == ["2,2", "4\n4"]


def test_a_table_of_one_column_has_no_short_rows(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path, "a\n1\n\n2\n")) == [(1, {"a": "1"}), (3, {"a": "2"})]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "has no header line of UTF-8 text"),
        (b"\n1,2\n", "has no header line"),
        (b"a\x00,b\x00\n", "has no header line"),
        (b"a,\xe9\n1,2\n", "the header is not UTF-8 text"),
        (b"a,b\n1,2\n3,4,5\n", "row 2: the row is too long: 3 cells of 2"),
        (b'a,b\n1,2\n3,"4', "row 2: the row is cut short or damaged: unexpected end"),
        (b"a,b\n1,2\n3,\xe9\n", "row 2: the text is not UTF-8"),
        (gzip.compress(b"a,b\n1,2\n" * 9, mtime=0)[:-9], "its compression ends early"),
        (zstd.compress(b"a,b\n1,2\n" * 9)[:-5], "its compression ends early"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "begins like UTF-16 and is cut short"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        (b'{"a": 1}\n{"a": ', "row 2 is not JSON, or is cut short"),
        (b'{"a": 1}\n7\n', "row 2 is no JSON object"),
        (b'[{"a": 1}, ', "the document is not JSON, or is cut short"),
        (b"[" * 100_000, "the document is not JSON"),
        (b"[1]", "row 1 is no JSON object"),
    ],
)
def test_what_is_damaged_is_one_error_that_says_where(
    tmp_path: Path, content: bytes, rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"table\.bin: .*{rule}|table\.bin: {rule}"):
        rows_of(write(tmp_path, content))


def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"a": ["x" * 1000]}).write_parquet(whole)
    path = write(tmp_path, whole.read_bytes()[:-20])

    for read in (rows_of, head_of):
        with pytest.raises(BadFile, match="is cut short or damaged; it cannot be read as Parquet"):
            read(path)


def test_a_parquet_file_whose_middle_is_damaged_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"a": [f"{n}" * 50 for n in range(2_000)]}).write_parquet(whole)
    content = bytearray(whole.read_bytes())
    content[200:260] = b"\xff" * 60
    path = write(tmp_path, bytes(content))

    with pytest.raises(BadFile, match="is cut short or damaged"):
        rows_of(path)


def test_a_text_without_a_fault_has_none_to_find(tmp_path: Path) -> None:
    with open_table(write(tmp_path, TEXT)) as table:
        find_fault(table.plain, ",", 3)


def test_columns_must_be_there_once(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,a\n1,2,3\n")

    with pytest.raises(BadFile, match=r"table\.bin: column a is there twice"):
        rows_of(path, required=("b", "a"))
    with pytest.raises(BadFile, match="column c is missing"):
        rows_of(path, required=("c",))


@pytest.mark.parametrize("read", [rows_of, head_of])
def test_a_file_that_is_not_there_is_one_error(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(BadFile, match=r"nowhere\.csv: cannot be read: No such file"):
        read(tmp_path / "nowhere.csv")


def test_a_compressed_head_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="its compression ends early"):
        head_of(write(tmp_path, gzip.compress(TEXT.encode(), mtime=0)[:12]))


def test_documents_and_archives_beyond_all_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_DOCUMENT_BYTES", 10)
    monkeypatch.setattr(plain_files, "MAX_PLAIN_BYTES", 10)

    with pytest.raises(BadFile, match="is a JSON document of more than 10 bytes"):
        rows_of(write(tmp_path, '[{"a": 1}, {"a": 2}]'))
    with pytest.raises(BadFile, match="holds more than 10 bytes when decompressed"):
        rows_of(write(tmp_path, gzip.compress(TEXT.encode())))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (b"a;b;c\n1;2;3", ("a", "b", "c")),
        (b'"a,b",c', ("a,b", "c")),
        (b'{"a": 1, "b": 2}\n', ("a", "b")),
        (b'[{"a": 1}\n', ("a",)),
        (b"{", ()),
        (b"[7", ()),
        (b"", ()),
    ],
)
def test_the_head_of_a_table_names_its_columns(head: bytes, names: tuple[str, ...]) -> None:
    assert columns_of_head(head) == names
