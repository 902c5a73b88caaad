"""Fitted families are written so that they can be read again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tokenbudget.domain.calibration import Fit
from tokenbudget.formats.estimators import format_points, write_estimators
from tokenbudget.tokens import family_of, use_estimators


@pytest.fixture(autouse=True)
def _packaged_estimators() -> Iterator[None]:
    yield
    use_estimators("")


def test_what_is_written_is_what_is_read() -> None:
    fits = [
        ("gemini", 812, Fit(multiplier=11_234, band=987, low=10_400, high=12_345)),
        ("claude from 4.7", 50, Fit(multiplier=14_000, band=0, low=14_000, high=14_000)),
    ]

    use_estimators(write_estimators(fits))

    assert (family_of("gemini-3").multiplier, family_of("gemini-3").band) == (11_234, 987)
    assert family_of("claude-opus-5").multiplier == 14_000
    assert family_of("deepseek-v4").multiplier == 10_600


def test_the_file_says_how_many_calls_a_family_was_fitted_to_and_how_they_spread() -> None:
    text = write_estimators([("gemini", 812, Fit(11_234, 987, 10_400, 12_345))])

    assert "# 812 calls; four in five lie between 1.0400 and 1.2345." in text
    assert "TOKENBUDGET_ESTIMATORS_FILE" in text


def test_points_are_told_with_four_decimals() -> None:
    assert [format_points(points) for points in (0, 25, 10_600, 1_000_000)] == [
        "0.0000",
        "0.0025",
        "1.0600",
        "100.0000",
    ]
