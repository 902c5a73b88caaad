"""What a re-attribution moves between owners sums to nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.reattribution import OwnerKey, UsePeriod, negated, sum_by_owner
from tokenbudget.domain.rerating import CostDelta, sum_deltas
from tokenbudget.domain.tag_rules import TagRule, TagRules

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_owners_for_whom_nothing_changes_are_left_out() -> None:
    growth, search = (OwnerKey(team, None, None, 202611) for team in ("growth", "search"))
    moved = CostDelta(1, 10, 20, 30)

    sums = sum_by_owner([(growth, moved), (search, negated(moved)), (search, moved)])

    assert sums == {growth: moved}
    assert sum_deltas([moved, negated(moved)]) == CostDelta()


@pytest.mark.parametrize(("start", "end"), [(None, None), (NOON, None), (None, NOON)])
def test_a_period_may_be_open(start: datetime | None, end: datetime | None) -> None:
    assert UsePeriod(start, end) == UsePeriod(start=start, end=end)


def test_a_period_that_nothing_lies_in_is_refused() -> None:
    with pytest.raises(InvalidInput, match="end must be later than start"):
        UsePeriod(NOON, NOON)


def test_every_epoch_has_an_instant_of_its_own() -> None:
    rules = TagRules.build([], [TagRule("r", (), {"a": "b"}, NOON)])

    assert [rules.epoch_at(rules.instant_in(epoch)) for epoch in (0, 1)] == [0, 1]
