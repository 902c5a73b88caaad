"""Shares of either sign, and whole cents that add up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.cents import cent_nanos, in_cents, round_to_cents, share

AMOUNTS = st.integers(-(10**18), 10**18)
CENT = 10**7


def test_the_minor_unit_is_the_currencys() -> None:
    assert (cent_nanos("USD"), cent_nanos("JPY"), cent_nanos("KWD")) == (10**7, 10**9, 10**6)


@pytest.mark.parametrize(
    ("amount", "currency", "nanos"),
    [
        ("0.125", "USD", 120_000_000),
        ("0.135", "USD", 140_000_000),
        ("-0.125", "USD", -120_000_000),
        ("0.005000000000000000000000000001", "USD", 10_000_000),
        ("2.5", "JPY", 2 * 10**9),
        ("1.2345", "KWD", 1_234_000_000),
    ],
)
def test_amounts_round_half_to_even(amount: str, currency: str, nanos: int) -> None:
    assert round_to_cents(Decimal(amount), currency) == nanos


def test_a_debt_is_shared_like_an_amount() -> None:
    # 10 by 1 : 1 : 1 is 3.33 each; the one left goes to the first.
    assert share(10, [1, 1, 1]) == [4, 3, 3]
    assert share(-10, [1, 1, 1]) == [-4, -3, -3]


def test_a_negative_weight_takes_the_other_sign() -> None:
    # 10 by 3 : -1 is 15 and -5.
    assert share(10, [3, -1]) == [15, -5]
    assert share(10, [-3, 1]) == [15, -5]


def test_weights_that_cancel_share_evenly() -> None:
    assert share(5, [2, -2]) == [3, 2]


@pytest.mark.parametrize("function", [lambda: share(1, []), lambda: in_cents([], CENT, CENT)])
def test_nobody_bears_nothing(function: object) -> None:
    with pytest.raises(ValueError, match="nobody"):
        function()  # type: ignore[operator]


@given(AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=8))
def test_shares_add_up(total: int, weights: list[int]) -> None:
    assert sum(share(total, weights)) == total


def test_cents_go_to_the_largest_remainders() -> None:
    # 1.4, 1.5 and 2.1 cents are 5 cents: the one missing goes to the largest rest.
    parts = [14_000_000, 15_000_000, 21_000_000]

    assert in_cents(parts, 5 * CENT, CENT) == [1 * CENT, 2 * CENT, 2 * CENT]


@given(st.lists(AMOUNTS, min_size=1, max_size=8), st.integers(-20, 20))
def test_cents_add_up_whatever_the_total(parts: list[int], more: int) -> None:
    total = (sum(parts) // CENT + more) * CENT

    cents = in_cents(parts, total, CENT)

    assert sum(cents) == total
    assert all(each % CENT == 0 for each in cents)


@given(st.lists(AMOUNTS, min_size=1, max_size=8))
def test_no_part_moves_by_a_cent(parts: list[int]) -> None:
    total = sum(parts) // CENT * CENT

    cents = in_cents(parts, total, CENT)

    assert all(abs(cent - part) < CENT for cent, part in zip(cents, parts, strict=True))
