"""How a true-up is written: in full for programs, in one level for tables."""

from __future__ import annotations

from datetime import UTC, datetime

from tokenbudget.domain.calibration import Fit
from tokenbudget.domain.true_up import EstimateFactor, Quantities, TrueUpKey, TrueUpRow
from tokenbudget.formats.true_up import cursor_of, describe_factor, describe_row, flatten_row

KEY = TrueUpKey("acme", "plain", datetime(2026, 9, 1, tzinfo=UTC), "")
ROW = TrueUpRow(KEY, Quantities(90, 9, 2), Quantities(100, 10, None))


def test_a_row_tells_both_sides_and_what_is_missing() -> None:
    assert describe_row(ROW) == {
        "day": "2026-09-01",
        "provider": "acme",
        "model": "plain",
        "account": None,
        "metered": {"input_tokens": 90, "output_tokens": 9, "requests": 2},
        "reported": {"input_tokens": 100, "output_tokens": 10, "requests": None},
        "missing": {"input_tokens": 10, "output_tokens": 1, "requests": None},
    }


def test_a_table_has_tokens_and_requests_of_each_side() -> None:
    assert flatten_row(TrueUpRow(KEY, None, Quantities(100, 10, 3))) == {
        "day": "2026-09-01",
        "provider": "acme",
        "model": "plain",
        "account": None,
        "metered_tokens": None,
        "reported_tokens": 110,
        "missing_tokens": 110,
        "metered_requests": None,
        "reported_requests": 3,
        "missing_requests": 3,
    }


def test_a_factor_is_a_decimal_of_four_places() -> None:
    few = EstimateFactor("gpt", 2, 400, 440, 11_000, None)
    many = EstimateFactor("gpt", 50, 400, 440, 11_000, Fit(10_900, 300, 10_000, 12_000))

    assert describe_factor(few) == {
        "family": "gpt",
        "calls": 2,
        "estimated_tokens": 400,
        "reported_tokens": 440,
        "factor": "1.1000",
        "median_factor": None,
        "band": None,
    }
    assert (describe_factor(many)["median_factor"], describe_factor(many)["band"]) == (
        "1.0900",
        "0.0300",
    )


def test_a_cursor_holds_the_key_of_a_row() -> None:
    assert cursor_of(KEY) == ["acme", "plain", "2026-09-01T00:00:00Z", ""]
