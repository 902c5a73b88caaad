"""The price data of genai-prices become rows of ours, exactly, and what is left out is named."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from tokenbudget.domain.errors import ConfigurationError
from tokenbudget.domain.prices import DailyHours, ModelPrices, Price, ProviderPrices
from tokenbudget.formats.price_sources import Provenance, Snapshot
from tokenbudget.formats.price_sources.genai import read_genai, translate_providers

TODAY = date(2026, 11, 21)
PROVENANCE = Provenance("package", "1.0", "data.py", "00", TODAY, "MIT", "somebody")
AUGUST = StartDateConstraint(date(2026, 8, 17))
OCTOBER = StartDateConstraint(date(2026, 10, 14))


def prices(**figures: str) -> ModelPrice:
    """Give a price object of the package; keys are theirs without ``_mtok``."""
    return ModelPrice(**{f"{key}_mtok": Decimal(value) for key, value in figures.items()})


def info(price: ModelPrice | list[ConditionalPrice], **overrides: Any) -> ModelInfo:
    """Give a model object of the package, ``m`` unless told otherwise."""
    name = overrides.pop("id", "m")
    fields: dict[str, Any] = {"match": ClauseEquals(name), **overrides}
    return ModelInfo(id=name, prices=price, **fields)


def translate(*models: ModelInfo, **overrides: Any) -> Snapshot:
    """Give what becomes of a provider object with these models."""
    provider = Provider(id="acme", name="Acme", api_pattern="", models=list(models), **overrides)
    return translate_providers([provider], PROVENANCE)


def the_provider(snapshot: Snapshot) -> ProviderPrices:
    """Give the one provider of a snapshot."""
    (provider,) = snapshot.source.providers
    return provider


def rows(price: ModelPrice | list[ConditionalPrice], **overrides: Any) -> tuple[Price, ...]:
    """Give the rows that become of one model."""
    return the_provider(translate(info(price, **overrides))).models[0].prices


def told(found: Sequence[Price]) -> list[tuple[str | None, int | None, str, int]]:
    """Give tier, threshold, day and input rate of each row."""
    return [
        (
            row.selector.tier,
            row.selector.above,
            row.valid_from.date().isoformat() if row.valid_from else "",
            row.rates["input_tokens"],
        )
        for row in found
    ]


def test_the_installed_package_is_read_with_its_provenance() -> None:
    snapshot = read_genai(today=TODAY)

    provenance = snapshot.provenance
    assert provenance is not None
    assert provenance.label == "genai-prices 0.2.3"
    assert provenance.file == "genai_prices/data.py"
    assert len(provenance.sha256) == 64
    assert (provenance.date, provenance.licence) == (TODAY, "MIT")
    assert len(snapshot.source.providers) == 47
    assert sum(len(each.models) for each in snapshot.source.providers) > 2_000
    assert "openrouter stealth/crouton-alpha: left out, no price is known" in snapshot.remarks


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)

    with pytest.raises(ConfigurationError, match="install tokenbudget with the extra sync"):
        read_genai(today=TODAY)


def test_every_key_of_ours_is_translated_in_its_own_unit() -> None:
    price = ModelPrice(
        input_mtok=Decimal("3"),
        cache_write_1h_mtok=Decimal("6"),
        web_searches_kcount=Decimal("10"),
        audio_hours=Decimal("0.36"),
        input_audio_hours=Decimal("0.36"),
    )

    (row,) = rows(price)

    assert {unit: rate / row.divisor for unit, rate in row.rates.items()} == {
        "input_tokens": 3_000_000,
        "cache_write_1h_tokens": 6_000_000,
        "web_searches": 10_000_000_000,
        "audio_seconds": 100_000_000,
    }
    assert (row.provider, row.model, row.source) == ("acme", "m", "package 1.0")


def test_what_cannot_be_translated_is_left_out_and_named() -> None:
    price = prices(input="3", output="0.1419531250001", output_citation="2")

    snapshot = translate(info(price))

    assert the_provider(snapshot).models[0].prices[0].rates == {"input_tokens": 3_000_000}
    assert snapshot.remarks == (
        "acme m: output_mtok 0.1419531250001 left out, finer than a pico a unit",
        "acme m: output_citation_mtok left out, no unit of ours",
    )


def test_a_name_that_says_free_costs_nothing_and_another_one_is_unknown() -> None:
    free, unknown = info(ModelPrice(), id="m:free"), info(ModelPrice(), id="m")
    paid = info(prices(input="1"), id="n:free")

    snapshot = translate(free, unknown, paid)

    models = the_provider(snapshot).models
    assert [model.model for model in models] == ["m:free", "n:free"]
    assert models[0].prices[0].rates == {"input_tokens": 0, "output_tokens": 0}
    assert models[1].prices[0].rates == {"input_tokens": 1_000_000}
    assert snapshot.remarks == ("acme m: left out, no price is known",)


def test_prices_by_size_become_complete_rows() -> None:
    price = ModelPrice(
        input_mtok=TieredPrices(Decimal("1"), [Tier(200_000, Decimal("2"))]),
        cache_read_mtok=Decimal("0.1"),
        output_mtok=TieredPrices(Decimal("4"), [Tier(272_000, Decimal("8"))]),
    )

    base, middle, long = rows(price)

    assert base.rates == {
        "input_tokens": 1_000_000,
        "cached_input_tokens": 100_000,
        "output_tokens": 4_000_000,
    }
    assert middle.rates == {**base.rates, "input_tokens": 2_000_000}
    assert long.rates == {**middle.rates, "output_tokens": 8_000_000}
    assert [row.selector.above for row in (base, middle, long)] == [None, 200_000, 272_000]


def test_dated_prices_follow_each_other_and_a_size_that_is_dropped_ends() -> None:
    long = ModelPrice(input_mtok=TieredPrices(Decimal("1"), [Tier(9, Decimal("2"))]))
    price = [
        ConditionalPrice(constraint=AUGUST, prices=prices(input="3")),
        ConditionalPrice(prices=long),
        ConditionalPrice(constraint=OCTOBER, prices=ModelPrice()),
    ]

    found = rows(price)

    assert told(found) == [
        ("standard", None, "", 1_000_000),
        ("standard", 9, "", 2_000_000),
        ("standard", None, "2026-08-17", 3_000_000),
    ]
    assert [row.valid_to and row.valid_to.date() for row in found] == [
        date(2026, 8, 17),
        date(2026, 8, 17),
        date(2026, 10, 14),
    ]


def test_a_tier_is_the_standard_price_with_what_its_variants_change() -> None:
    standard = [
        ConditionalPrice(prices=prices(input="2", output="8")),
        ConditionalPrice(constraint=OCTOBER, prices=prices(input="4", output="8")),
    ]
    variants = [
        PriceVariant({"processing": "batch"}, prices(output="3"), AUGUST),
        PriceVariant({"processing": "batch"}, prices(input="1", output="4")),
        PriceVariant({"service_tier": "flex"}, prices(input="1")),
    ]

    found = rows(standard, price_variants=variants)

    batch = [row for row in found if row.selector.tier == "batch"]
    flex = [row for row in found if row.selector.tier == "flex"]
    assert told(batch) == [
        ("batch", None, "", 1_000_000),
        ("batch", None, "2026-08-17", 1_000_000),
        ("batch", None, "2026-10-14", 1_000_000),
    ]
    assert [row.rates["output_tokens"] for row in batch] == [4_000_000, 3_000_000, 3_000_000]
    assert [row.rates["output_tokens"] for row in flex] == [8_000_000, 8_000_000]


def test_a_tier_has_no_price_before_its_first_variant() -> None:
    variant = PriceVariant({"processing": "batch"}, prices(input="1"), OCTOBER)

    found = rows(prices(input="2"), price_variants=[variant])

    assert told(found) == [
        ("standard", None, "", 2_000_000),
        ("batch", None, "2026-10-14", 1_000_000),
    ]


def test_contexts_that_are_no_tier_are_named_and_the_default_one_is_the_standard() -> None:
    night = TimeOfDateConstraint(time(0), time(8))
    variants = [
        PriceVariant({"service_tier": "default"}, prices(input="2")),
        PriceVariant({"route": "eu"}, prices(input="3")),
        PriceVariant({"processing": "batch"}, prices(input="1"), night),
    ]

    snapshot = translate(info(prices(input="2"), price_variants=variants))

    assert told(the_provider(snapshot).models[0].prices) == [("standard", None, "", 2_000_000)]
    assert snapshot.remarks == (
        "acme m: prices for {'route': 'eu'} left out, no tier of ours",
        "acme m: prices for {'processing': 'batch'} left out, no tier of ours",
    )


def test_hours_with_one_price_are_one_row_from_the_day_of_the_price_before_them() -> None:
    beijing = timezone(timedelta(hours=8))
    peak = ModelPrice(input_mtok=TieredPrices(Decimal("2"), [Tier(9, Decimal("4"))]))
    price = [
        ConditionalPrice(prices=prices(input="1")),
        ConditionalPrice(constraint=AUGUST, prices=prices(input="1")),
        ConditionalPrice(
            constraint=TimeOfDateConstraint(time(14, 30, tzinfo=beijing), time(18, tzinfo=beijing)),
            prices=peak,
        ),
        ConditionalPrice(constraint=TimeOfDateConstraint(time(1), time(4)), prices=peak),
        ConditionalPrice(
            constraint=TimeOfDateConstraint(time(20), time(21)), prices=prices(input="0")
        ),
        ConditionalPrice(constraint=TimeOfDateConstraint(time(22), time(23)), prices=ModelPrice()),
    ]

    found = [row for row in rows(price) if row.selector.hours]

    assert [(row.selector.hours, row.selector.above) for row in found] == [
        (DailyHours(((60, 240), (390, 600))), None),
        (DailyHours(((60, 240), (390, 600))), 9),
        (DailyHours(((1_200, 1_260),)), None),
    ]
    assert {row.valid_from for row in found} == {datetime(2026, 8, 17, tzinfo=UTC)}
    assert [row.rates["input_tokens"] for row in found] == [2_000_000, 4_000_000, 0]


def names(clause: MatchLogic) -> tuple[str, ...]:
    """Give the names of a model that the package matches by this clause."""
    return the_provider(translate(info(prices(input="1"), match=clause))).models[0].patterns


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        (ClauseEquals("GPT-5"), ("gpt-5",)),
        (ClauseStartsWith("gpt-5"), ("gpt-5*",)),
        (ClauseEndsWith("-mini"), ("*-mini",)),
        (ClauseContains("sonnet"), ("*sonnet*",)),
        (ClauseRegex(r"^o\d$"), (r"/^o\d$/",)),
        (
            ClauseOr([ClauseEquals("a"), ClauseOr([ClauseEquals("b"), ClauseEquals("a")])]),
            ("a", "b"),
        ),
    ],
)
def test_a_clause_is_a_name_or_pattern(clause: MatchLogic, expected: tuple[str, ...]) -> None:
    assert names(clause) == expected


@pytest.mark.parametrize(
    ("clause", "matching", "other"),
    [
        (ClauseAnd([ClauseStartsWith("a"), ClauseEndsWith("z")]), "abz", "abc"),
        (ClauseAnd([ClauseContains("b.c"), ClauseEquals("ab.c")]), "ab.c", "ab.c-d"),
        (ClauseAnd([ClauseRegex(r"^a\d"), ClauseRegex(r"\d$")]), "a1-2", "a1-"),
        (
            ClauseAnd(
                [ClauseStartsWith("a"), ClauseOr([ClauseContains("x"), ClauseContains("y")])]
            ),
            "a-y",
            "a-z",
        ),
    ],
)
def test_clauses_that_hold_together_are_one_expression(
    clause: ClauseAnd, matching: str, other: str
) -> None:

    (pattern,) = names(clause)

    assert (clause.is_match(matching), clause.is_match(other)) == (True, False)
    assert re.search(pattern[1:-1], matching)
    assert not re.search(pattern[1:-1], other)


def test_a_name_belongs_to_the_first_model_that_claims_it() -> None:
    both = ClauseOr([ClauseEquals("a"), ClauseEquals("b")])

    snapshot = translate(
        info(prices(input="1"), id="a", match=ClauseEquals("a")),
        info(prices(input="1"), id="b", match=both),
        info(prices(input="1"), id="c", match=ClauseEquals("a")),
    )

    def answered(model: ModelPrices) -> tuple[str, tuple[str, ...]]:
        return model.model, model.patterns

    assert [answered(model) for model in the_provider(snapshot).models] == [
        ("a", ("a",)),
        ("b", ("b",)),
    ]
    assert snapshot.remarks == ("acme c: left out, earlier models answer to all its names",)


def test_providers_whose_models_one_also_serves_are_kept() -> None:
    provider = the_provider(translate(fallback_model_providers=["open-ai"]))

    assert provider.fallback == ("open_ai",)
    assert the_provider(translate()).fallback == ()
