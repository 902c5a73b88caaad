"""Which charged rows a fix replaced, how differences add, and the period they post to."""

from __future__ import annotations

import pytest

from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.prices import Price
from tokenbudget.domain.rerating import (
    USUAL_REASONS,
    ChargedRow,
    CostDelta,
    Reason,
    RerateScope,
    find_fixed_rows,
    posting_period,
    sum_deltas,
)

WRONG = make_price()
FIX = make_price({"input_tokens": 2_000_000}, recorded_at=day("2026-03-01"))
LATER = make_price({"input_tokens": 3_000_000}, valid_from=day("2026-02-01"))


def times(numerator: int, **overrides: object) -> Price:
    """Give a multiplier for every tier in the EU."""
    return make_price({}, times=(numerator, 10), tier=None, region="eu", **overrides)


def charged(price: Price, *, suffix: str = "") -> ChargedRow:
    """Give the row as charges name it, with id 7."""
    return ChargedRow(7, price.price_ref + suffix, price.provider, price.model)


def test_a_row_with_a_later_fix_is_among_them_in_every_form_it_was_charged_in() -> None:
    book = make_price_list(make_model(WRONG, FIX))

    for suffix in ("", "*11/10", "*11/10*contract", "@commitment"):
        assert find_fixed_rows([charged(WRONG, suffix=suffix)], book) == {7}


def test_the_fix_itself_and_rows_that_only_ended_are_not_among_them() -> None:
    assert not find_fixed_rows([charged(FIX)], make_price_list(make_model(WRONG, FIX)))
    assert not find_fixed_rows([charged(WRONG)], make_price_list(make_model(WRONG, LATER)))


def test_a_row_the_book_no_longer_knows_is_not_among_them() -> None:
    assert not find_fixed_rows([charged(WRONG)], make_price_list(make_model(FIX)))


def test_a_fixed_multiplier_stands_for_every_multiplied_row_of_its_model() -> None:
    fixed = times(12, recorded_at=day("2026-03-01"))
    book = make_price_list(make_model(WRONG, times(11), fixed))
    rows = [
        ChargedRow(1, f"{WRONG.price_ref}*11/10", "acme", "m"),
        ChargedRow(2, WRONG.price_ref, "acme", "m"),
        ChargedRow(3, f"{WRONG.price_ref}*11/10", "acme", "other"),
    ]

    assert find_fixed_rows(rows, book) == {1}


def test_differences_add_amount_by_amount() -> None:
    deltas = [CostDelta(1, 10, 20, 30), CostDelta(2, -1, -2, -3)]

    assert sum_deltas(deltas) == CostDelta(3, 9, 18, 27)
    assert sum_deltas([]) == CostDelta(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("closed_before", "posted"), [(None, 202610), (202610, 202610), (202611, 202611)]
)
def test_what_belongs_to_a_closed_period_posts_to_the_first_open_one(
    closed_before: int | None, posted: int
) -> None:
    assert posting_period(202610, closed_before) == posted


def test_a_scope_without_reasons_is_refused() -> None:
    with pytest.raises(InvalidInput, match="reasons must name at least one"):
        RerateScope(frozenset())


def test_a_scope_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidInput, match="end must be later than start"):
        RerateScope(start=day("2026-03-02"), end=day("2026-03-02"))


def test_a_usual_scope_is_of_mistakes_at_any_time() -> None:
    assert RerateScope() == RerateScope(frozenset({Reason.FIXED, Reason.UNPRICED}))
    assert RerateScope(start=day("2026-03-01"), end=day("2026-03-02")).reasons == USUAL_REASONS
