"""What is added to a price file is one line; what stands there stays byte for byte."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import pytest

from tests.price_builders import day, make_model, make_price
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.price_differences import AddModel, AddNames, AddRow, FileChange, SetSunset
from tokenbudget.domain.prices import DailyHours, Price, ProviderPrices
from tokenbudget.formats.price_book import parse_price_file
from tokenbudget.formats.price_lint import lint_price_book
from tokenbudget.formats.price_writer import apply_changes, render_provider, render_row

FILE = """\
# Prices of Acme, kept by hand.
schema = 1
provider = "acme"
src = "package 1.0"

# The first one.
[model."m"]
price = [
  { input = 3, output = 15 },
  { above = 200000, input = 6, output = 30 },
  # Batch is half.
  { tier = "batch", input = 1.5, output = 7.5 },
]

# The second one.
[model."n"]
match = ["n", "n-*"]
src = "page 1.0"
price = [{ input = 1 }]

[[alias]]
name = "latest"
to = [{ model = "m" }]
"""


def price(rate: int, **overrides: Any) -> Price:
    """Give a row of ``acme`` that costs so many dollars a million tokens in."""
    fields = {"source": "package 1.0", **overrides}
    return make_price({"input_tokens": rate * 1_000_000}, **fields)


def changed_lines(*changes: FileChange, text: str = FILE) -> list[str]:
    """Give the lines that the changes add (+) and take away (-)."""
    written = apply_changes("acme.toml", text, changes)
    lines = difflib.unified_diff(text.splitlines(), written.splitlines(), n=0, lineterm="")
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def test_without_changes_a_file_stays_as_it_is() -> None:
    assert apply_changes("acme.toml", FILE, []) == FILE


@pytest.mark.parametrize(
    ("row", "line", "follows"),
    [
        (
            price(2, valid_from=day("2026-09-01")),
            "  { from = 2026-09-01T00:00:00Z, input = 2 },",
            "  { above = 200000, input = 6, output = 30 },",
        ),
        (
            price(2, valid_from=day("2026-09-01"), tier="batch", source="package 2.0"),
            '  { from = 2026-09-01T00:00:00Z, tier = "batch", input = 2, src = "package 2.0" },',
            '  { tier = "batch", input = 1.5, output = 7.5 },',
        ),
        (
            replace(price(0, tier=None, region="eu"), rates={}, times=(11, 10)),
            '  { region = "eu", times = 1.1 },',
            '  { tier = "batch", input = 1.5, output = 7.5 },',
        ),
    ],
)
def test_a_row_is_one_more_line_behind_those_it_comes_after(
    row: Price, line: str, follows: str
) -> None:
    written = apply_changes("acme.toml", FILE, [AddRow(row)]).splitlines()

    assert changed_lines(AddRow(row)) == [f"+{line}"]
    assert written[written.index(line) - 1] == follows


def test_a_row_may_come_before_all_others() -> None:
    text = FILE.replace("{ input = 3, output = 15 }", "{ from = 2026-01-01, input = 3 }").replace(
        "  { above = 200000, input = 6, output = 30 },\n", ""
    )

    written = apply_changes("acme.toml", text, [AddRow(price(2, valid_to=day("2026-01-01")))])

    assert "price = [\n  { input = 2 },\n  { from = 2026-01-01, input = 3 }," in written


def test_rows_that_stand_in_one_line_are_spread_first() -> None:
    row = price(2, model="n", valid_from=day("2026-09-01"))

    assert changed_lines(AddRow(row)) == [
        "-price = [{ input = 1 }]",
        "+price = [",
        "+  { input = 1 },",
        '+  { from = 2026-09-01T00:00:00Z, input = 2, src = "package 1.0" },',
        "+]",
    ]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"valid_to": day("2026-09-01")}, "{ to = 2026-09-01T00:00:00Z, input = 2 }"),
        ({"region": "eu", "above": 9}, '{ region = "eu", above = 9, input = 2 }'),
        (
            {"hours": DailyHours(((60, 240), (1_410, 30)), (0, 1, 2, 3, 4), "Asia/Shanghai")},
            '{ hours = ["01:00-04:00", "23:30-00:30"], days = "mon-fri", tz = "Asia/Shanghai", '
            "input = 2 }",
        ),
        ({"hours": DailyHours(weekdays=(0, 5, 6))}, '{ days = "sat-mon", input = 2 }'),
        ({"hours": DailyHours(weekdays=(6,))}, '{ days = "sun", input = 2 }'),
        ({"hours": DailyHours(((0, 60),))}, '{ hours = ["00:00-01:00"], input = 2 }'),
        ({"divisor": 3}, '{ input = "2/3" }'),
        (
            {"recorded_at": day("2026-02-03"), "is_pinned": True, "note": 'so "they" said'},
            "{ input = 2, recorded = 2026-02-03T00:00:00Z, pin = true, "
            'note = "so \\"they\\" said" }',
        ),
    ],
)
def test_a_row_reads_back_as_what_was_written(overrides: dict[str, Any], text: str) -> None:
    row = price(2, **overrides)

    written = render_row(row, [row], "package 1.0")

    head = 'schema = 1\nprovider = "acme"\nsrc = "package 1.0"\n[model."m"]\nprice = ['
    assert written == text
    assert parse_price_file("acme.toml", f"{head}{written}]").models[0].prices == (row,)


def test_an_end_is_left_out_where_the_next_row_of_the_selector_begins() -> None:
    first = price(2, valid_to=day("2026-09-01"))
    second = price(3, valid_from=day("2026-09-01"))
    other = price(3, valid_from=day("2026-09-01"), tier="batch")

    assert render_row(first, [first, second], "package 1.0") == "{ input = 2 }"
    assert "to = " in render_row(first, [first, other], "package 1.0")


def test_a_multiplier_for_the_standard_tier_alone_says_so() -> None:
    row = replace(price(0), rates={}, times=(3, 2))

    assert render_row(row, [row], "package 1.0") == '{ tier = "standard", times = 1.5 }'


def test_a_model_stands_before_its_follower_and_its_comment() -> None:
    model = make_model(price(2, model="k"), price(1, model="k", tier="batch"), model="k")

    assert changed_lines(AddModel(model, before="n")) == [
        '+[model."k"]',
        "+price = [",
        "+  { input = 2 },",
        '+  { tier = "batch", input = 1 },',
        "+]",
        "+",
    ]
    written = apply_changes("acme.toml", FILE, [AddModel(model, before="n")])
    assert ']\n\n# The second one.\n[model."n"]' in written


def test_a_model_without_a_follower_stands_behind_all_models_and_before_moving_names() -> None:
    model = make_model(
        price(2, model="Z", source="package 2.0"),
        model="Z",
        patterns=("z", "z-*"),
        sunset=day("2027-01-01"),
        sunset_source="page 2.0",
    )

    written = apply_changes("acme.toml", FILE, [AddModel(model, before=None)])

    assert (
        "price = [{ input = 1 }]\n"
        "\n"
        '[model."Z"]\n'
        'match = ["z", "z-*"]\n'
        "sunset = 2027-01-01\n"
        'sunset_src = "page 2.0"\n'
        "price = [\n"
        '  { input = 2, src = "package 2.0" },\n'
        "]\n"
        "\n"
        "[[alias]]\n"
    ) in written


def test_a_model_may_be_the_first_of_a_file_or_the_last_line_of_it() -> None:
    head = 'schema = 1\nprovider = "acme"\nsrc = "package 1.0"\n'
    model = AddModel(make_model(price(2)), before=None)
    block = '\n[model."m"]\nprice = [\n  { input = 2 },\n]\n'

    first = apply_changes("acme.toml", head, [model])
    last = apply_changes("acme.toml", head + block.replace('"m"', '"a"'), [model])

    assert first == head + block
    assert last == head + block.replace('"m"', '"a"') + block


def test_names_replace_the_line_of_names_or_make_one() -> None:
    assert changed_lines(AddNames("n", ("n", "n-*", "n2")), AddNames("m", ("m", "m2"))) == [
        '+match = ["m", "m2"]',
        '-match = ["n", "n-*"]',
        '+match = ["n", "n-*", "n2"]',
    ]


def test_a_sunset_is_two_lines_above_the_prices() -> None:
    noon = day("2027-01-01").replace(hour=12)

    assert changed_lines(SetSunset("n", noon, "page 2.0")) == [
        "+sunset = 2027-01-01T12:00:00Z",
        '+sunset_src = "page 2.0"',
    ]


@pytest.mark.parametrize(
    ("text", "change", "rule"),
    [
        (FILE, AddRow(price(2, model="x")), r'there is no line \[model."x"\]'),
        (
            FILE.replace("price = [{ input = 1 }]", "price = [\n{ input = 1 }]"),
            AddRow(price(2, model="n", tier="flex")),
            "rows must stand one a line",
        ),
        (
            FILE.replace("price = [{ input = 1 }]", "price=[{ input = 1 }]"),
            AddRow(price(2, model="n", tier="flex")),
            "rows must stand one a line",
        ),
        (
            FILE,
            AddRow(price(2, tier="flex", currency="EUR")),
            "the rows would not be those that are meant",
        ),
    ],
)
def test_a_file_laid_out_otherwise_is_an_error_and_no_guess(
    text: str, change: FileChange, rule: str
) -> None:
    with pytest.raises(BadFile, match=rf"acme.toml: .*{rule}"):
        apply_changes("acme.toml", text, [change])


def test_the_file_of_a_new_provider_reads_back_and_has_no_findings() -> None:
    provider = ProviderPrices(
        provider="new_one",
        names=("new_one", "new-one.ai"),
        models=(
            make_model(price(2, provider="new_one"), provider="new_one"),
            make_model(
                price(1, provider="new_one", model="n", source="page 1.0"),
                provider="new_one",
                model="n",
            ),
        ),
        fallback=("acme",),
    )

    text = render_provider(provider)

    assert text == (
        "# Prices of new_one. One row is one price; rows are added, never edited. "
        "Schema: docs/decisions/0003.\n"
        "schema = 1\n"
        'provider = "new_one"\n'
        'names = ["new-one.ai"]\n'
        'currency = "USD"\n'
        'fallback = ["acme"]\n'
        'src = "package 1.0"\n'
        "\n"
        '[model."m"]\n'
        "price = [\n"
        "  { input = 2 },\n"
        "]\n"
        "\n"
        '[model."n"]\n'
        "price = [\n"
        '  { input = 1, src = "page 1.0" },\n'
        "]\n"
    )
    assert parse_price_file("new_one.toml", text).models == provider.models
    assert lint_price_book({"new_one.toml": text}) == []


def test_the_file_of_a_provider_without_models_is_a_head() -> None:
    provider = ProviderPrices(provider="empty", names=("empty",), models=())

    assert parse_price_file("empty.toml", render_provider(provider)) == replace(
        provider, names=("empty",)
    )
