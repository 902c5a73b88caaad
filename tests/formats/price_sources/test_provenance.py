"""Where prices come from is kept beside them, and read from files of our own schema too."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.price_sources import (
    SOURCES_HEADER,
    Provenance,
    parse_provenance,
    render_provenance,
    replace_provenance,
)
from tokenbudget.formats.price_sources.files import read_price_files

FIRST = Provenance("a", "1.0", "a/data.py", "00ff", date(2026, 1, 2), "MIT", "somebody")
SECOND = Provenance("b", "2.0", "b/data.json", "11ff", date(2026, 3, 4), "MIT", "somebody else")
FILE = """\
schema = 1
provider = "acme"
[model.m]
price = [{ input = 1 }, { tier = "batch", input = 2, src = "a page" }]
"""


def test_sources_are_written_as_they_are_read() -> None:
    text = render_provenance([FIRST, SECOND])

    assert text == (
        SOURCES_HEADER + "\n[[source]]\n"
        'package = "a"\nversion = "1.0"\nfile = "a/data.py"\nsha256 = "00ff"\n'
        'date = 2026-01-02\nlicence = "MIT"\ncopyright = "somebody"\n'
        "\n[[source]]\n"
        'package = "b"\nversion = "2.0"\nfile = "b/data.json"\nsha256 = "11ff"\n'
        'date = 2026-03-04\nlicence = "MIT"\ncopyright = "somebody else"\n'
    )
    assert parse_provenance(text) == [FIRST, SECOND]
    assert parse_provenance("") == []


def test_a_source_read_again_keeps_its_day_unless_it_changed() -> None:
    same = replace(FIRST, date=date(2026, 5, 6))
    newer = replace(same, version="1.1", sha256="22ff")

    assert replace_provenance([FIRST, SECOND], same) == [FIRST, SECOND]
    assert replace_provenance([FIRST, SECOND], newer) == [newer, SECOND]
    assert replace_provenance([FIRST], SECOND) == [FIRST, SECOND]


@pytest.mark.parametrize("text", ["[[source]]\npackage = 'a'", "nonsense", "source = 3"])
def test_a_source_without_its_facts_is_an_error(text: str) -> None:
    with pytest.raises(BadFile, match=r"SOURCES.toml: "):
        parse_provenance(text)


def test_a_price_file_is_a_source_whose_rows_keep_their_own_provenance(tmp_path: Path) -> None:
    file = tmp_path / "acme.toml"
    file.write_text(FILE, encoding="utf-8")

    one, whole = read_price_files(file), read_price_files(tmp_path)

    (provider,) = one.source.providers
    assert [row.source for row in provider.models[0].prices] == ["acme.toml", "a page"]
    assert (one.source.label, one.source.is_whole, one.provenance) == ("acme.toml", False, None)
    assert [each.provider for each in whole.source.providers] == ["acme"]


def test_a_price_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"acme.toml: cannot be read"):
        read_price_files(tmp_path / "acme.toml")
