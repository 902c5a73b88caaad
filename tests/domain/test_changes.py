"""Why spend changed: four effects that sum to the change to the nano."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.changes import ChangeEffects, explain_change
from tokenbudget.domain.costs import CostRow, Group


def cell(nanos: int, requests: int, tokens: int) -> CostRow:
    """Give a cell's cost row; all its tokens are input."""
    return CostRow(effective_nanos=nanos, requests=requests, input_tokens=tokens)


cells = st.dictionaries(
    st.sampled_from([("a",), ("b",), ("c",)]),
    st.builds(cell, st.integers(-(10**12), 10**15), st.integers(0, 10**6), st.integers(0, 10**9)),
)


def test_nothing_before_has_no_explanation() -> None:
    assert explain_change({("a",): cell(100, 1, 1)}, {}) is None


def test_twice_the_requests_of_the_same_kind_are_volume() -> None:
    effects = explain_change({("a",): cell(200, 20, 2000)}, {("a",): cell(100, 10, 1000)})

    assert effects == ChangeEffects(volume_nanos=100, mix_nanos=0, length_nanos=0, rate_nanos=0)


def test_longer_requests_are_length() -> None:
    effects = explain_change({("a",): cell(150, 10, 1500)}, {("a",): cell(100, 10, 1000)})

    assert effects == ChangeEffects(volume_nanos=0, mix_nanos=0, length_nanos=50, rate_nanos=0)


def test_another_cost_per_token_is_rate() -> None:
    effects = explain_change({("a",): cell(70, 10, 1000)}, {("a",): cell(100, 10, 1000)})

    assert effects == ChangeEffects(volume_nanos=0, mix_nanos=0, length_nanos=0, rate_nanos=-30)


def test_requests_that_move_to_a_dearer_cell_are_mix() -> None:
    before: dict[Group, CostRow] = {("cheap",): cell(100, 10, 1000), ("dear",): cell(900, 10, 1000)}
    now: dict[Group, CostRow] = {("cheap",): cell(50, 5, 500), ("dear",): cell(1350, 15, 1500)}

    effects = explain_change(now, before)

    assert effects == ChangeEffects(volume_nanos=0, mix_nanos=400, length_nanos=0, rate_nanos=0)


def test_a_cell_without_tokens_before_has_no_length() -> None:
    effects = explain_change({("a",): cell(130, 10, 50)}, {("a",): cell(100, 10, 0)})

    assert effects == ChangeEffects(volume_nanos=0, mix_nanos=0, length_nanos=0, rate_nanos=30)


@given(cells, cells)
def test_the_effects_sum_to_the_change(
    now: dict[Group, CostRow], before: dict[Group, CostRow]
) -> None:
    change = sum(row.effective_nanos for row in now.values())
    change -= sum(row.effective_nanos for row in before.values())

    effects = explain_change(now, before)

    if effects is not None:
        parts = (effects.volume_nanos, effects.mix_nanos, effects.length_nanos, effects.rate_nanos)
        assert sum(parts) == change
