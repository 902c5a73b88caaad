"""litellm's file is read as data, wherever it lies, and becomes offers for our book."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tokenbudget.domain.errors import BadFile, ConfigurationError
from tokenbudget.domain.price_completion import Offer
from tokenbudget.formats.price_sources import Provenance
from tokenbudget.formats.price_sources.litellm import (
    FILE,
    Completion,
    read_litellm,
    translate_entries,
)

TODAY = date(2026, 11, 21)
PROVENANCE = Provenance("litellm", "1.0", FILE, "00", TODAY, "MIT", "somebody")
CONTENT = b'{"m": {"litellm_provider": "acme", "input_cost_per_token": 1e-06}}'
PLAIN: dict[str, Any] = {"litellm_provider": "acme", "input_cost_per_token": Decimal("1e-06")}


def translate(**entries: dict[str, Any]) -> Completion:
    """Give what becomes of these entries."""
    return translate_entries(entries, PROVENANCE)


def offer(name: str = "m", **facts: Any) -> Offer:
    """Give the offer of one entry with these facts besides a plain price."""
    (found,) = translate(**{name: {**PLAIN, **facts}}).offers
    return found


def test_a_json_file_is_known_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(CONTENT)

    completion = read_litellm(file, today=TODAY)

    digest = hashlib.sha256(CONTENT).hexdigest()
    assert completion.provenance.label == f"litellm {digest[:12]}"
    assert (completion.provenance.sha256, completion.provenance.date) == (digest, TODAY)
    # A dollar a million tokens is exactly a millionth of a dollar a token.
    assert completion.offers == (
        Offer("acme", "m", {"standard": {None: {"input_tokens": Fraction(1, 10**6)}}}),
    )


def test_a_wheel_says_its_version_by_its_name(tmp_path: Path) -> None:
    wheel = tmp_path / "litellm-9.8.7-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr(f"litellm/{FILE}", CONTENT)

    assert read_litellm(wheel, today=TODAY).provenance.label == "litellm 9.8.7"


def test_an_installed_package_is_read_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, facts = tmp_path / "litellm", tmp_path / "litellm-9.8.7.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    (package / FILE).write_bytes(CONTENT)
    (facts / "METADATA").write_text("Name: litellm\nVersion: 9.8.7\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    completion = read_litellm(None, today=TODAY)

    assert completion.provenance.label == "litellm 9.8.7"
    assert "litellm" not in sys.modules


def test_without_the_package_the_error_says_what_to_name() -> None:
    with pytest.raises(ConfigurationError, match="name its wheel or JSON file with --path"):
        read_litellm(None, today=TODAY)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("prices.json", None, "cannot be read"),
        ("prices.json", b"nonsense", "this is no JSON"),
        ("litellm-1.0-py3-none-any.whl", b"nonsense", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(BadFile, match=f"{name}: {why}"):
        read_litellm(tmp_path / name, today=TODAY)


def test_a_wheel_without_the_file_is_one_clear_error(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "litellm-1.0-py3-none-any.whl", "w"):
        pass

    with pytest.raises(BadFile, match="cannot be read"):
        read_litellm(tmp_path / "litellm-1.0-py3-none-any.whl", today=TODAY)


def test_costs_are_told_by_tier_size_and_unit() -> None:
    found = offer(
        output_cost_per_token=Decimal("4e-06"),
        cache_creation_input_token_cost_above_1hr=Decimal("2e-06"),
        cache_creation_input_token_cost_above_1hr_above_200k_tokens=Decimal("3e-06"),
        input_cost_per_token_batches=Decimal("5e-07"),
        output_cost_per_token_above_200k_tokens_priority=Decimal("8e-06"),
        input_cost_per_token_flex=None,
        input_cost_per_pixel=Decimal("1e-09"),
        mode="chat",
    )

    million = 10**6
    assert found.tiers == {
        "standard": {
            None: {
                "input_tokens": Fraction(1, million),
                "output_tokens": Fraction(4, million),
                "cache_write_1h_tokens": Fraction(2, million),
            },
            200_000: {"cache_write_1h_tokens": Fraction(3, million)},
        },
        "batch": {None: {"input_tokens": Fraction(1, 2 * million)}},
        "priority": {200_000: {"output_tokens": Fraction(8, million)}},
    }


def test_a_threshold_that_belongs_to_the_dearer_side_has_one_less() -> None:
    found = offer(litellm_provider="xai", input_cost_per_token_above_200k_tokens=Decimal("2e-06"))

    assert list(found.standard) == [None, 199_999]


def test_a_figure_finer_than_a_pico_is_left_out_and_named() -> None:
    completion = translate(m={**PLAIN, "output_cost_per_token": Decimal("1.41953125E-7")})

    assert list(completion.offers[0].standard[None]) == ["input_tokens"]
    assert completion.remarks == (
        "m: output_cost_per_token 1.41953125E-7 left out, finer than a pico a unit",
    )


@pytest.mark.parametrize(
    ("word", "provider"),
    [
        ("vertex_ai-language-models", "vertex_ai"),
        ("text-completion-openai", "text_completion_openai"),
        ("bedrock_converse", "bedrock_converse"),
    ],
)
def test_the_kind_of_model_is_no_part_of_the_provider(word: str, provider: str) -> None:
    assert offer(litellm_provider=word).provider == provider


def test_a_region_in_a_name_is_a_region() -> None:
    found = offer("bedrock/us-gov-west-1/meta.llama3:0", litellm_provider="bedrock")

    assert (found.name, found.region) == ("meta.llama3:0", "us-gov-west-1")
    assert (offer().name, offer().region) == ("m", None)


def test_data_zones_reserved_capacity_and_entries_of_nobody_are_left_out() -> None:
    entries: dict[str, dict[str, Any]] = {
        "azure/us/gpt-5": PLAIN,
        "bedrock/us-east-1/1-month-commitment/m": PLAIN,
        "sample": {"mode": "chat"},
    }

    assert translate_entries(entries, PROVENANCE).offers == ()


def test_uplifts_of_regions_are_multipliers() -> None:
    openai = offer(
        litellm_provider="openai",
        regional_processing_uplift_multiplier_eu=Decimal("1.1"),
        regional_processing_uplift_multiplier_us=0,
    )
    specific = {"us": Decimal("1.1"), "fast": 2}

    assert openai.multipliers == {"eu": Fraction(11, 10)}
    assert offer(litellm_provider="anthropic", provider_specific_entry=specific).multipliers == {
        "us": Fraction(11, 10)
    }
    assert offer(provider_specific_entry=specific).multipliers == {}
    assert offer(litellm_provider="anthropic").multipliers == {}


def test_a_day_of_deprecation_is_the_sunset_unless_it_is_no_day() -> None:
    completion = translate(
        m={**PLAIN, "deprecation_date": "2026-12-11"},
        n={**PLAIN, "deprecation_date": "some day"},
    )

    assert [each.sunset for each in completion.offers] == [datetime(2026, 12, 11, tzinfo=UTC), None]
    assert completion.remarks == ("n: deprecation_date 'some day' left out, no date",)


def test_figures_of_the_file_are_never_read_as_binary_fractions(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"m": {**PLAIN, "input_cost_per_token": 2.9e-07}}), encoding="utf-8")

    (found,) = read_litellm(file, today=TODAY).offers

    assert found.standard == {None: {"input_tokens": Fraction(29, 10**8)}}
