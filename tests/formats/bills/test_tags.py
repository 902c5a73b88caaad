"""Tags in the ways that clouds write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.formats.bills.lines import Place
from tokenbudget.formats.bills.tags import tags_cell

PLACE = Place(Path("bill.csv"), "row 3")


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        (None, {}),
        ("{}", {}),
        ('{"team": "search", "n": 1.50}', {"team": "search", "n": "1.50"}),
        ('"team": "search","env": "prod"', {"team": "search", "env": "prod"}),
        ('[{"key": "team", "value": "search"}, {"key": "bare"}]', {"team": "search", "bare": ""}),
        ('{"on": true, "off": null}', {"on": "true", "off": ""}),
    ],
)
def test_tags_are_read_in_every_way_they_are_written(
    cell: str | None, tags: dict[str, str]
) -> None:
    assert tags_cell(cell, PLACE, "Tags") == tags


@pytest.mark.parametrize(
    "cell", ["team=search", "7", '{"a": {"b": 1}}', '[{"name": "team"}]', "[7]", "[" * 5_000]
)
def test_what_is_no_flat_object_is_refused(cell: str) -> None:
    with pytest.raises(
        BadFile, match=r"bill\.csv: row 3, column Tags: .* is not a flat JSON object"
    ):
        tags_cell(cell, PLACE, "Tags")
