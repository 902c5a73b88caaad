"""Which of several tellings of a call counts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.usage import Witness
from tokenbudget.domain.witnesses import Telling, find_counting, list_in_force

tellings = st.lists(
    st.builds(
        Telling,
        usage_id=st.integers(1, 10**6),
        event=st.tuples(st.integers(1, 3), st.sampled_from("abcd")),
        revision=st.integers(0, 3),
        witness=st.sampled_from(Witness),
        units=st.integers(0, 5),
        is_void=st.booleans(),
        is_known=st.booleans(),
        is_estimated=st.booleans(),
    ),
    unique_by=(lambda each: each.usage_id, lambda each: (each.event, each.revision)),
)


def make_telling(usage_id: int, **overrides: Any) -> Telling:
    """Give what the SDK tells in an event of its own."""
    usual = {"event": (1, f"e{usage_id}"), "revision": 0, "witness": Witness.SDK, "units": 2}
    return Telling(usage_id, **{**usual, **overrides})


def test_nothing_counts_when_nobody_tells() -> None:
    assert find_counting([]) is None


def test_of_equals_the_first_told_counts() -> None:
    first, second = make_telling(1), make_telling(2)

    assert find_counting([second, first]) == first


def test_of_equals_what_counted_so_far_goes_on() -> None:
    first, second = make_telling(1), make_telling(2)

    assert find_counting([first, second], {second.event}) == second


def test_more_units_beat_what_counted_so_far() -> None:
    poor, rich = make_telling(1), make_telling(2, units=5)

    assert find_counting([poor, rich], {poor.event}) == rich


def test_a_correction_of_what_counted_beats_more_units() -> None:
    corrected = make_telling(3, event=(1, "e1"), revision=1, units=1)
    others = [make_telling(1), make_telling(2, units=5)]

    assert find_counting([*others, corrected], {corrected.event}) == corrected


def test_a_void_silences_its_event_only() -> None:
    void = make_telling(3, event=(1, "e1"), revision=1, is_void=True)
    other = make_telling(2)

    assert find_counting([make_telling(1), void, other]) == other
    assert find_counting([make_telling(1), void]) is None


def test_what_is_said_after_a_void_is_heard_again() -> None:
    void = make_telling(2, event=(1, "e1"), revision=1, is_void=True)
    again = make_telling(3, event=(1, "e1"), revision=2)

    assert find_counting([again, void, make_telling(1)]) == again


@given(tellings)
def test_unknown_and_estimated_figures_count_only_where_nothing_better_is_told(
    told: list[Telling],
) -> None:
    counting = find_counting(told)
    in_force = list_in_force(told)

    assert (counting is None) == (not in_force)
    if counting is not None:
        assert counting in in_force
        assert counting.is_known or not any(each.is_known for each in in_force)
        alike = [each for each in in_force if each.is_known == counting.is_known]
        assert not counting.is_estimated or all(each.is_estimated for each in alike)
        equal = [each for each in alike if each.is_estimated == counting.is_estimated]
        assert counting.witness == max(each.witness for each in equal)


@given(tellings, st.randoms())
def test_the_order_of_telling_makes_no_difference(told: list[Telling], random: Any) -> None:
    shuffled = list(told)
    random.shuffle(shuffled)

    assert find_counting(shuffled) == find_counting(told)
