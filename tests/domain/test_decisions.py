"""Which decisions are kept: a share that every worker agrees on, and denials within bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.decisions import (
    MOST_DENIALS_A_MINUTE,
    DenialKind,
    DenialTally,
    is_sampled,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KIND = DenialKind("key-1", "all", "budget_exhausted")


def test_denials_of_a_kind_are_kept_up_to_the_bound_of_a_minute() -> None:
    tally = DenialTally()

    kept = [tally.keeps(KIND, NOON) for _ in range(MOST_DENIALS_A_MINUTE + 3)]

    assert kept == [True] * MOST_DENIALS_A_MINUTE + [False] * 3


def test_every_kind_and_every_minute_has_a_bound_of_its_own() -> None:
    tally = DenialTally()
    for _ in range(MOST_DENIALS_A_MINUTE):
        tally.keeps(KIND, NOON)

    others = [KIND._replace(**{name: "x"}) for name in KIND._fields]

    assert all(tally.keeps(other, NOON) for other in others)
    assert not tally.keeps(KIND, NOON)
    assert tally.keeps(KIND, NOON + timedelta(minutes=1))


@given(st.uuids(version=4).map(str), st.integers(0, 99))
def test_a_larger_share_holds_the_smaller_one(decision_id: str, percent: int) -> None:
    assert is_sampled(decision_id, percent) <= is_sampled(decision_id, percent + 1)
    assert is_sampled(decision_id, 100)
    assert not is_sampled(decision_id, 0)
