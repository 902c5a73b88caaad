"""Months as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.months import (
    format_month,
    month_at,
    month_period,
    parse_month,
    shift_month,
)
from tokenbudget.domain.periods import Period


def test_a_month_is_written_as_year_and_month() -> None:
    assert parse_month("2026-09") == 202609
    assert format_month(202609) == "2026-09"


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-9", "202609", "2026-09-01", "1969-12", "٢٠٢٦-09"]
)
def test_any_other_text_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"month .* is not a month such as 2026-09") as caught:
        parse_month(text, field="month")

    assert caught.value.facts["field"] == "month"


def test_an_instant_lies_in_the_month_of_utc() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))

    assert month_at(datetime(2026, 10, 1, 5, 29, tzinfo=kolkata)) == 202609
    assert month_at(datetime(2026, 10, 1, tzinfo=UTC)) == 202610


@pytest.mark.parametrize(
    ("count", "shifted"), [(0, 202609), (3, 202612), (4, 202701), (-9, 202512), (-24, 202409)]
)
def test_months_are_shifted_over_years(count: int, shifted: int) -> None:
    assert shift_month(202609, count) == shifted


def test_a_month_lasts_until_the_first_of_the_next() -> None:
    assert month_period(202612) == Period(
        datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    )
