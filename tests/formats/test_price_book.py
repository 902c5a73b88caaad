"""Price files are read exactly and strictly: what is not understood is an error that says where."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.prices import DailyHours, Price
from tokenbudget.formats.price_book import (
    build_price_list,
    digest_sources,
    load_price_book,
    parse_price_file,
    read_sources,
)

HEAD = 'schema = 1\nprovider = "acme"\n'
MINIMAL = HEAD + '[model."m"]\nprice = [{ input = 3, output = 15 }]\n'


def with_rows(*rows: str) -> str:
    """Give a file of one model with these rows."""
    return HEAD + '[model."m"]\nprice = [\n' + ",\n".join(rows) + "\n]\n"


def rows_of(*rows: str) -> tuple[Price, ...]:
    """Give the rows of the one model in a file with these rows."""
    return parse_price_file("acme.toml", with_rows(*rows)).models[0].prices


def test_a_minimal_file_has_defaults_for_the_rest() -> None:
    provider = parse_price_file("acme.toml", MINIMAL)

    model = provider.models[0]
    assert provider.names == ("acme",)
    assert model.patterns == ("m",)
    assert model.sunset is None
    assert model.prices[0].currency == "USD"
    assert model.prices[0].selector.tier == "standard"
    assert model.prices[0].rates == {"input_tokens": 3_000_000, "output_tokens": 15_000_000}


def test_a_full_file_keeps_everything_it_says() -> None:
    text = """
    schema = 1
    provider = "acme"
    names = ["acme-ai"]
    currency = "CNY"
    fallback = ["maker"]
    src = "the package"
    [model."M-1"]
    match = ["M-1", "m-1-*", '/^ft:m-\\d+$/']
    sunset = 2027-03-01
    sunset_src = "another page"
    pin = true
    note = "ours"
    price = [
      { to = 2026-01-01, input = 2 },
      { from = 2026-01-01T02:00:00+02:00, above = 9, input = 4, src = "a page", note = "seen" },
      { tier = "Batch", region = "EU", recorded = 2026-02-03T04:05:06Z, input = 1 },
      { times = 1.1, region = "us", pin = true },
    ]
    [[alias]]
    name = "Latest"
    to = [{ model = "m-1" }, { from = 2026-05-01, model = "M-1" }]
    """

    provider = parse_price_file("acme.toml", text)

    model = provider.models[0]
    first, second, third, fourth = model.prices
    assert provider.names == ("acme", "acme-ai")
    assert provider.fallback == ("maker",)
    assert model.patterns == ("m-1", "m-1-*", "/^ft:m-\\d+$/")
    assert model.sunset == datetime(2027, 3, 1, tzinfo=UTC)
    assert model.sunset_source == "another page"
    assert (model.is_pinned, model.note) == (True, "ours")
    assert (first.valid_from, first.valid_to) == (None, datetime(2026, 1, 1, tzinfo=UTC))
    assert (first.currency, first.source) == ("CNY", "the package")
    assert second.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert (second.selector.above, second.source, second.note) == (9, "a page", "seen")
    assert (third.selector.tier, third.selector.region) == ("batch", "eu")
    assert third.recorded_at == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert (fourth.times, fourth.selector.tier, fourth.rates) == ((11, 10), None, {})
    assert [row.is_pinned for row in model.prices] == [False, False, False, True]
    assert [target.model for target in provider.aliases["latest"]] == ["m-1", "M-1"]


@pytest.mark.parametrize(
    ("row", "unit", "picos"),
    [
        ("{ input = 0.000001 }", "input_tokens", 1),
        ("{ cached = 0.0028 }", "cached_input_tokens", 2_800),
        ("{ web_search = 10 }", "web_searches", 10_000_000_000),
        ("{ image = 0.04 }", "images", 40_000_000_000),
        ("{ chars_in = 15 }", "input_characters", 15_000_000),
        ("{ audio_second = 0.0001 }", "audio_seconds", 100_000_000),
        ("{ chars_in = 0.015, unit.chars_in = 1000 }", "input_characters", 15_000_000),
        ("{ input = 0 }", "input_tokens", 0),
    ],
)
def test_a_rate_is_read_exactly_in_its_own_unit(row: str, unit: str, picos: int) -> None:
    price = rows_of(row)[0]

    assert price.rates == {unit: picos}
    assert price.divisor == 1


@pytest.mark.parametrize(
    ("row", "unit", "rate", "divisor"),
    [
        ("{ audio_hour = 0.04 }", "audio_seconds", 100_000_000, 9),
        ('{ input = "1/12" }', "input_tokens", 250_000, 3),
        ("{ input = 0.0000001 }", "input_tokens", 1, 10),
    ],
)
def test_a_rate_that_is_no_whole_pico_keeps_a_divisor_and_is_not_rounded(
    row: str, unit: str, rate: int, divisor: int
) -> None:
    price = rows_of(row)[0]

    assert (price.rates, price.divisor) == ({unit: rate}, divisor)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (
            'hours = ["16:30-00:30", "22:00-24:00"], days = "mon-fri"',
            DailyHours(((990, 30), (1320, 1440)), (0, 1, 2, 3, 4)),
        ),
        (
            'days = "sat-mon", tz = "Asia/Shanghai"',
            DailyHours(((0, 1440),), (0, 5, 6), "Asia/Shanghai"),
        ),
        ('hours = ["00:00-01:00"], days = "sun"', DailyHours(((0, 60),), (6,))),
    ],
)
def test_hours_days_and_zone_select_the_time_of_day(selector: str, expected: DailyHours) -> None:
    price = rows_of("{ input = 1 }", f"{{ {selector}, input = 2 }}")[1]

    assert price.selector.hours == expected


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("schema = ", "acme.toml: this is no TOML"),
        ('provider = "acme"', "acme.toml: schema must be 1"),
        ("schema = 2", "acme.toml: schema must be 1"),
        ("schema = 1", "acme.toml: provider must be a text"),
        (HEAD + "price = 3", "acme.toml: unknown key 'price'"),
        (HEAD + 'names = "acme"', "acme.toml: names must be a list of texts"),
        (HEAD + "names = [1]", "acme.toml: names must be a list of texts"),
        (HEAD + "[model.m]\nprice = []", "acme.toml: model m: price must be a list of rows"),
        (HEAD + "[model.m]\nprice = 3", "acme.toml: model m: price must be a list of rows"),
        (HEAD + "[model.m]\nprice = [3]", "acme.toml: model m: row 1: a row must be an inline"),
        (HEAD + "[model.m]\nrow = 3", "acme.toml: model m: unknown key 'row'"),
        (
            HEAD + '[model.m]\nmatch = ["/(/"]\nprice = [{ input = 1 }]',
            r"acme.toml: model m: match '/\(/' is no regular expression",
        ),
        (HEAD + "[[alias]]\nto = []", "acme.toml: alias: name must be a text"),
        (MINIMAL + '[[alias]]\nname = "x"', "alias: x: to must list at least one model"),
        (
            MINIMAL + '[[alias]]\nname = "x"\nto = [{ model = "n" }]',
            "alias: x: there is no model 'n' in this file",
        ),
        (
            MINIMAL
            + '[[alias]]\nname = "x"\nto = [{ from = 2026-01-01, model = "m" }, { model = "m" }]',
            "alias: x: to must list at least one model, in ascending order of from",
        ),
        (with_rows('{ input = 1, pin = "yes" }'), "row 1: pin must be true or false"),
        (with_rows("{ inputs = 1 }"), "acme.toml: model m: row 1: unknown key 'inputs'"),
        (with_rows('{ mode = "marginal", input = 1 }'), "row 1: unknown key 'mode'"),
        (with_rows("{ input = 1 }", "{ input = -1 }"), "row 2: input Decimal.*|row 2: input -1"),
        (with_rows("{ input = true }"), "row 1: input True must be a number"),
        (with_rows("{ input = nan }"), "row 1: input .* must be a number"),
        (with_rows('{ input = "0.5" }'), "row 1: input '0.5' must be a number or a fraction"),
        (with_rows("{ tier = 'batch' }"), "row 1: a row holds either rates or times"),
        (with_rows("{ times = 2, input = 1 }"), "row 1: a row holds either rates or times"),
        (with_rows("{ times = 0 }"), "row 1: times must be above zero"),
        (with_rows("{ audio_hour = 1, audio_second = 1 }"), "audio_seconds has two rates"),
        (with_rows("{ image = 1, unit.image = 0 }"), "unit.image must be a positive integer"),
        (with_rows("{ above = 1.5, input = 1 }"), "above must be a whole number of tokens"),
        (with_rows("{ tier = 3, input = 1 }"), "row 1: tier must be a text"),
        (with_rows("{ from = 2026-01-01T00:00:00, input = 1 }"), "from .* has no UTC offset"),
        (with_rows('{ from = "2026-01-01", input = 1 }'), "from must be a date"),
        (
            with_rows("{ from = 2026-01-02, to = 2026-01-02, input = 1 }"),
            "row 1: to must be later than from",
        ),
        (with_rows('{ tz = "UTC", input = 1 }'), "tz needs hours or days"),
        (with_rows('{ days = "mon", tz = "Mars", input = 1 }'), "'Mars' is not an IANA zone"),
        (with_rows('{ days = "workdays", input = 1 }'), "days 'workdays' must look like mon-fri"),
        (with_rows('{ hours = ["9-10"], input = 1 }'), "hours '9-10' must look like 16:30-00:30"),
        (with_rows('{ hours = ["24:00-01:00"], input = 1 }'), "are no hours of a day"),
        (with_rows('{ hours = ["01:00-01:00"], input = 1 }'), "are no hours of a day"),
        (
            with_rows("{ input = 1 }", "{ input = 2 }"),
            "model m: row 2: an earlier row has the same selector and beginning",
        ),
        (
            with_rows(
                *(f'{{ hours = ["0{hour}:00-0{hour}:30"], input = 1 }}' for hour in range(5))
            ),
            "model m: there are more than 4 different daily hours",
        ),
    ],
)
def test_what_is_wrong_is_one_error_that_names_file_place_and_rule(text: str, rule: str) -> None:
    with pytest.raises(BadFile, match=rule):
        parse_price_file("acme.toml", text)


def test_two_files_may_not_claim_one_provider_name() -> None:
    other = MINIMAL.replace('"acme"', '"other"\nnames = ["ACME"]')

    with pytest.raises(BadFile, match=r"b.toml: the provider name 'acme' is taken by a.toml"):
        build_price_list({"a.toml": MINIMAL, "b.toml": other})


def test_a_fallback_must_be_a_provider_of_the_book() -> None:
    text = HEAD + 'fallback = ["acme", "nobody"]'

    with pytest.raises(BadFile, match=r"a.toml: fallback 'nobody' is no provider of this price"):
        build_price_list({"a.toml": text})


def test_the_version_changes_with_any_text_and_not_with_their_order() -> None:
    other = MINIMAL.replace("acme", "other")
    sources = {"a.toml": MINIMAL, "b.toml": other}

    assert build_price_list(sources).version == digest_sources({"b.toml": other, "a.toml": MINIMAL})
    assert digest_sources(sources) != digest_sources({**sources, "b.toml": other + "\n"})
    assert digest_sources({"a": "b\n"}) != digest_sources({"a\nb": ""})


def test_a_directory_is_read_without_the_files_that_are_not_prices(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(MINIMAL, encoding="utf-8")
    (tmp_path / "SOURCES.toml").write_text("anything", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("anything", encoding="utf-8")

    price_list = load_price_book(tmp_path, currency="EUR")

    assert list(read_sources(tmp_path)) == ["acme.toml"]
    assert [provider.provider for provider in price_list.providers] == ["acme"]
    assert price_list.currency == "EUR"


def test_a_directory_without_price_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there are no price files"):
        load_price_book(tmp_path)


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(BadFile, match="the price files cannot be read"):
        load_price_book(tmp_path)
