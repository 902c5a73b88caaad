"""Buckets of output, and the bound that most calls stay within."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.output_bounds import EDGES, OutputBound, bound_of, bucket_of
from tokenbudget.domain.usage import MAX_QUANTITY


def test_edges_are_the_powers_rounded_up_and_end_above_the_largest_quantity() -> None:
    assert EDGES[:14] == (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
    assert 1_024 in EDGES
    assert EDGES[-2] < MAX_QUANTITY <= EDGES[-1]


@pytest.mark.parametrize(
    ("tokens", "edge"), [(0, 0), (1, 1), (9, 10), (1_024, 1_024), (1_025, 1_218)]
)
def test_a_bucket_is_named_by_the_next_edge(tokens: int, edge: int) -> None:
    assert bucket_of(tokens) == edge


@given(st.integers(0, MAX_QUANTITY))
def test_a_bucket_holds_its_tokens_and_is_at_most_a_fifth_too_wide(tokens: int) -> None:
    edge = bucket_of(tokens)

    assert tokens <= edge
    assert tokens < 9 or 100 * edge <= 120 * tokens + 100


def test_more_than_the_largest_quantity_is_in_the_last_bucket() -> None:
    assert bucket_of(10 * MAX_QUANTITY) == EDGES[-1]


def test_few_calls_tell_nothing() -> None:
    assert bound_of({8: 19}) is None
    assert bound_of({}) is None


def test_the_bound_is_what_95_of_100_calls_stay_within() -> None:
    assert bound_of({8: 95, 1_024: 5}) == OutputBound(8, 100)
    assert bound_of({8: 94, 1_024: 6}) == OutputBound(1_024, 100)
    assert bound_of({8: 18, 16: 1, 20: 1}) == OutputBound(16, 20)


@given(st.lists(st.integers(0, 100_000), min_size=20, max_size=200))
def test_the_bound_is_an_upper_bound_of_the_percentile(outputs: list[int]) -> None:
    bound = bound_of(Counter(map(bucket_of, outputs)))

    percentile = sorted(outputs)[-(-len(outputs) * 95 // 100) - 1]
    assert bound is not None
    assert bound.tokens == bucket_of(percentile)
    assert bound.calls == len(outputs)
