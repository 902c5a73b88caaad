"""The multiplier of a family is the median of what was seen, and the band holds nine of ten."""

from __future__ import annotations

from collections.abc import Sequence

from tokenbudget.domain.calibration import (
    MIN_COUNTED_TOKENS,
    MIN_PAIRS,
    TokenPair,
    fit_multiplier,
)


def pairs_of(*reported: int) -> list[TokenPair]:
    """Give pairs that each counted a thousand tokens."""
    return [TokenPair(1_000, tokens) for tokens in reported]


def with_noise(pairs: Sequence[TokenPair], count: int) -> list[TokenPair]:
    """Give the pairs and so many calls whose prompt was mostly not text."""
    return [*pairs, *pairs_of(*[40_000] * count)]


def test_the_multiplier_is_the_median_ratio() -> None:
    fit = fit_multiplier(pairs_of(*range(1_001, 1_100)))

    assert fit is not None
    assert fit.multiplier == 10_500


def test_of_an_even_number_of_pairs_the_two_in_the_middle_count_alike() -> None:
    fit = fit_multiplier(pairs_of(*[1_200] * 30, *[1_300] * 30))

    assert fit is not None
    assert fit.multiplier == 12_500


def test_the_band_holds_nine_of_ten_ratios_and_the_deciles_say_where_they_lie() -> None:
    # 90 ratios lie at 1.5, five at 1.2 and five at 3.0.
    fit = fit_multiplier(pairs_of(*[1_500] * 88, *[1_650] * 2, *[1_200] * 5, *[3_000] * 5))

    assert fit is not None
    assert fit.multiplier == 15_000
    assert fit.band == 1_000
    assert (fit.low, fit.high) == (15_000, 15_000)


def test_a_band_is_rounded_up() -> None:
    # A hundredth of a per cent more than 1.5 is two thirds of a basis point of it.
    near = [TokenPair(10_000, 15_000)] * 50 + [TokenPair(10_000, 15_001)] * 49

    fit = fit_multiplier(near)

    assert fit is not None
    assert fit.multiplier == 15_000
    assert fit.band == 1


def test_calls_that_were_counted_in_part_do_not_move_the_median_while_they_are_few() -> None:
    usual = pairs_of(*[1_500] * 80)

    fit = fit_multiplier(with_noise(usual, 20))

    assert fit is not None
    assert fit.multiplier == 15_000
    assert fit.high == 400_000


def test_fewer_pairs_than_the_least_give_no_fit() -> None:
    assert fit_multiplier(pairs_of(*[1_500] * (MIN_PAIRS - 1))) is None
    assert fit_multiplier(pairs_of(*[1_500] * MIN_PAIRS)) is not None
    assert fit_multiplier([]) is None


def test_small_texts_and_calls_without_input_say_nothing() -> None:
    short = [TokenPair(MIN_COUNTED_TOKENS - 1, 500)] * MIN_PAIRS
    unreported = [TokenPair(1_000, 0)] * MIN_PAIRS

    assert fit_multiplier(short) is None
    assert fit_multiplier(unreported) is None


def test_a_multiplier_is_never_zero() -> None:
    fit = fit_multiplier([TokenPair(10**8, 1)] * MIN_PAIRS)

    assert fit is not None
    assert fit.multiplier == 1
