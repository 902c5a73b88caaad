"""Every usage object in ``tests/data/provider_usage`` reads as its hand-made expectation says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenbudget.domain.usage import find_fault
from tokenbudget.formats.provider_usage import NormalisedUsage, normalise

CASES_DIRECTORY = Path(__file__).parents[1] / "data" / "provider_usage"
CASES: list[dict[str, Any]] = [
    case
    for path in sorted(CASES_DIRECTORY.glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_providers_usage_is_read_in_our_units(case: dict[str, Any]) -> None:
    expected = case["expected"]

    read = normalise(case["provider"], case["usage"])

    assert read == NormalisedUsage(
        expected["quantities"],
        flags=tuple(expected.get("flags", ())),
        service_tier=expected.get("service_tier"),
        reported_nanos=expected.get("reported_nanos"),
        region=expected.get("region"),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_what_is_read_nests_as_our_units_do(case: dict[str, Any]) -> None:
    read = normalise(case["provider"], case["usage"])

    assert find_fault(read.quantities) is None
