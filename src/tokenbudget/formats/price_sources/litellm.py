"""litellm's price file as offers that complete our book.

It refuses to import litellm: the file is read as data from an installed package, a wheel or a path.
What is no tier, unit or region of ours is left out; ``domain/price_completion.py`` decides on the
rest. Thresholds are exclusive here; a provider that counts from the threshold itself has one less.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

from tokenbudget.domain.errors import BadFile, ConfigurationError
from tokenbudget.domain.price_completion import Offer
from tokenbudget.domain.prices import STANDARD_TIER, normalise_word
from tokenbudget.formats.price_rates import MILLION, RATE_KEYS, snap_rate
from tokenbudget.formats.price_sources import Provenance

PACKAGE: Final = "litellm"
FILE: Final = "model_prices_and_context_window_backup.json"
LICENCE: Final = "MIT (outside of enterprise/)"
COPYRIGHT: Final = "Copyright (c) 2023 Berri AI"
WHEEL_NAME: Final = re.compile(r"litellm-([^-]+)-.*\.whl")
DIGEST_DIGITS: Final = 12

OUR_KEYS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "write",
    "cache_creation_input_token_cost_above_1hr": "write_1h",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_in",
    "cache_read_input_audio_token_cost": "audio_cached",
    "output_cost_per_audio_token": "audio_out",
    "input_cost_per_image_token": "image_in",
    "cache_read_input_image_token_cost": "image_cached",
    "output_cost_per_image_token": "image_out",
    "input_cost_per_video_token": "video_in",
    "output_cost_per_video_token": "video_out",
}
OUR_TIERS: Final[Mapping[str | None, str]] = {
    None: STANDARD_TIER,
    "batches": "batch",
    "flex": "flex",
    "priority": "priority",
}
COST_KEY: Final = re.compile(
    "(" + "|".join(sorted(OUR_KEYS, key=len, reverse=True)) + ")"
    r"(?:_above_(\d+)k_tokens)?(?:_(batches|flex|priority))?"
)
REGION_PREFIX: Final = re.compile(r"bedrock/([a-z]{2}(?:-gov)?-[a-z]+-\d)/([^/]+)")
OTHER_PLACES: Final = re.compile(r"azure/(us|eu|global|global-standard)/|.*-commitment/")
"""Names for deployments that are no region of ours: data zones and reserved capacity."""
UPLIFT_KEYS: Final = {
    "regional_processing_uplift_multiplier_eu": "eu",
    "regional_processing_uplift_multiplier_us": "us",
}
COUNTED_FROM_THRESHOLD: Final = frozenset({"xai"})


@dataclass(frozen=True, slots=True)
class Completion:
    """What one version of litellm states, where it comes from, and what was left out and why."""

    provenance: Provenance
    offers: tuple[Offer, ...]
    remarks: tuple[str, ...]


def read_litellm(path: Path | None, *, today: date) -> Completion:
    """Give the offers of a JSON file or wheel, None for the installed package, read ``today``.

    Raises ConfigurationError when it is not installed and BadFile for what cannot be read.
    """
    content, package_version = _installed() if path is None else _read(path)
    digest = hashlib.sha256(content).hexdigest()
    provenance = Provenance(
        package=PACKAGE,
        version=package_version or digest[:DIGEST_DIGITS],
        file=f"{PACKAGE}/{FILE}",
        sha256=digest,
        date=today,
        licence=LICENCE,
        copyright=COPYRIGHT,
    )
    try:
        entries = json.loads(content, parse_float=Decimal)
    except ValueError as error:
        raise BadFile(f"{path or FILE}: this is no JSON: {error}") from None
    return translate_entries(entries, provenance)


def translate_entries(
    entries: Mapping[str, Mapping[str, Any]], provenance: Provenance
) -> Completion:
    """Give the offers of litellm's entries by name."""
    remarks: list[str] = []
    offers = tuple(
        _offer(name, entry, remarks)
        for name, entry in entries.items()
        if entry.get("litellm_provider") and not OTHER_PLACES.match(name)
    )
    return Completion(provenance, offers, tuple(remarks))


def _installed() -> tuple[bytes, str]:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the price source litellm is not installed: name its wheel or JSON file with --path"
        )
    return (Path(spec.origin).parent / FILE).read_bytes(), version(PACKAGE)


def _read(path: Path) -> tuple[bytes, str | None]:
    wheel = WHEEL_NAME.fullmatch(path.name)
    try:
        if wheel is None:
            return path.read_bytes(), None
        with ZipFile(path) as archive:
            return archive.read(f"{PACKAGE}/{FILE}"), wheel[1]
    except (OSError, BadZipFile, KeyError) as error:
        raise BadFile(f"{path}: cannot be read: {error}", file=str(path)) from None


def _offer(name: str, entry: Mapping[str, Any], remarks: list[str]) -> Offer:
    provider = _provider(entry["litellm_provider"])
    regional = REGION_PREFIX.fullmatch(name)
    tiers: dict[str, dict[int | None, dict[str, Fraction]]] = {}
    for key, value in entry.items():
        found = COST_KEY.fullmatch(key)
        if found is None or value is None:
            continue
        our_key = OUR_KEYS[found[1]]
        rate = snap_rate(Decimal(value) * MILLION, our_key)
        if rate is None:
            remarks.append(f"{name}: {key} {value} left out, finer than a pico a unit")
            continue
        ladder = tiers.setdefault(OUR_TIERS[found[3]], {})
        ladder.setdefault(_threshold(found[2], provider), {})[RATE_KEYS[our_key].unit] = rate
    return Offer(
        provider=provider,
        name=regional[2] if regional else name,
        tiers=tiers,
        multipliers=_multipliers(provider, entry),
        region=regional[1] if regional else None,
        sunset=_sunset(name, entry, remarks),
    )


def _provider(word: str) -> str:
    """Give the provider of words such as ``vertex_ai-language-models``."""
    return normalise_word(word if word.startswith("text-completion") else word.partition("-")[0])


def _threshold(thousands: str | None, provider: str) -> int | None:
    if thousands is None:
        return None
    return int(thousands) * 1_000 - (provider in COUNTED_FROM_THRESHOLD)


def _multipliers(provider: str, entry: Mapping[str, Any]) -> dict[str, Fraction]:
    found = {region: entry[key] for key, region in UPLIFT_KEYS.items() if entry.get(key)}
    specific = entry.get("provider_specific_entry") or {}
    if provider == "anthropic" and "us" in specific:
        found["us"] = specific["us"]
    return {region: Fraction(Decimal(factor)) for region, factor in found.items()}


def _sunset(name: str, entry: Mapping[str, Any], remarks: list[str]) -> datetime | None:
    text = entry.get("deprecation_date")
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        remarks.append(f"{name}: deprecation_date {text!r} left out, no date")
        return None
