"""Which charge stands for a usage, what an operation took and where witnesses differ."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.costs import CostFilter
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.event_queries import (
    ChargeRecord,
    EventHistory,
    EventQuery,
    EventRecord,
    dimensions_told,
    operation_totals,
    quantity_differences,
    standing_charge,
)
from tokenbudget.domain.periods import Period
from tokenbudget.domain.usage import Basis, Witness

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = Period(NOON - timedelta(hours=12), NOON + timedelta(hours=12))


def make_charge(usage_id: int = 1, nanos: int | None = 5, **changes: Any) -> ChargeRecord:
    """Give a rated charge of five nanos in every cost."""
    charge = ChargeRecord(usage_id, 0, Basis.RATED, nanos, nanos, nanos, 202611)
    return replace(charge, **changes)


def make_record(**changes: Any) -> EventRecord:
    """Give the usage of a call of the growth team that costs five nanos."""
    record = EventRecord(
        usage_id=1,
        source="api",
        event_ref="e1",
        revision=0,
        occurred_at=NOON,
        recorded_at=NOON,
        dimension_set_id=1,
        dimensions=DimensionSet(team="growth", provider="acme", model="plain"),
        quantities={"input_tokens": 10, "output_tokens": 2},
        witness=Witness.SDK,
        call_id=1,
        charge=make_charge(),
    )
    return replace(record, **changes)


def reversal(of: int, by: int, *, sequence: int = 1) -> ChargeRecord:
    """Give the taking back of a usage's charge."""
    return make_charge(by, -5, sequence=sequence, reverses_usage_id=of)


@pytest.mark.parametrize(
    ("charges", "sequence"),
    [
        ([], None),
        ([make_charge()], 0),
        ([make_charge(), reversal(1, by=2)], None),
        ([make_charge(), reversal(1, by=1), make_charge(sequence=2)], 2),
        ([make_charge(), reversal(1, by=1), make_charge(sequence=2), reversal(1, by=3)], None),
        ([reversal(7, by=1)], None),
        ([make_charge(), reversal(7, by=1)], 0),
    ],
)
def test_the_last_charge_stands_while_more_was_charged_than_taken_back(
    charges: list[ChargeRecord], sequence: int | None
) -> None:
    standing = standing_charge(1, charges)

    assert (None if standing is None else standing.sequence) == sequence


def test_flags_are_those_of_usage_and_charge_each_once() -> None:
    record = make_record(flags=("a", "b"), charge=make_charge(flags=("b", "c")))

    assert record.all_flags == ("a", "b", "c")
    assert make_record(flags=("a",), charge=None).all_flags == ("a",)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"reported_nanos": 7}, 2),
        ({"reported_nanos": None}, None),
        ({"reported_nanos": 7, "charge": None}, None),
        ({"reported_nanos": 7, "charge": make_charge(nanos=None)}, None),
    ],
)
def test_what_a_witness_reports_is_compared_with_ours(
    changes: dict[str, Any], difference: int | None
) -> None:
    assert make_record(**changes).reported_difference == difference


@pytest.mark.parametrize(
    ("conditions", "is_admitted"),
    [
        ({}, True),
        ({"period": Period(NOON + timedelta(seconds=1), DAY.end)}, False),
        ({"period": None, "operation_ref": "op"}, True),
        ({"source": "other"}, False),
        ({"trace_ref": "t"}, False),
        ({"basis": Basis.UNPRICED}, False),
        ({"flag": "odd"}, False),
        ({"filters": (CostFilter("is_retry", ("false",)),)}, True),
        ({"filters": (CostFilter("tag:user", ("u",)),)}, True),
        ({"filters": (CostFilter("tenant", ("u",)),)}, False),
    ],
)
def test_a_usage_is_admitted_when_every_condition_holds(
    conditions: dict[str, Any], is_admitted: bool
) -> None:
    record = make_record(unrolled_tags={"user": "u"})

    assert EventQuery(**{"period": DAY, **conditions}).admits(record) is is_admitted


def test_a_list_of_everything_ever_is_refused() -> None:
    with pytest.raises(InvalidInput, match="start and end are needed"):
        EventQuery(trace_ref="t")


def test_owners_are_no_dimension_of_an_event() -> None:
    with pytest.raises(InvalidInput, match="owner"):
        EventQuery(DAY, filters=(CostFilter("owner", ("ana@example.com",)),))


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        EventQuery(DAY, limit=limit)


def test_what_does_not_count_is_admitted_only_when_asked_for() -> None:
    evidence = make_record(charge=None)

    assert not EventQuery(DAY).admits(evidence)
    assert EventQuery(DAY, is_counting=False).admits(evidence)
    assert not EventQuery(DAY, is_counting=False, basis=Basis.RATED).admits(evidence)


def test_an_operation_adds_its_attempts_up_and_names_the_waste() -> None:
    failed = DimensionSet(team="growth", provider="acme", model="plain", status="error")
    totals = operation_totals(
        "op",
        [
            make_record(usage_id=3, attempt=3, charge=make_charge(nanos=None)),
            make_record(usage_id=1, occurred_at=NOON - timedelta(minutes=1), dimensions=failed),
            make_record(usage_id=2, attempt=2),
        ],
    )

    assert (totals.attempts, totals.retries, totals.failed, totals.unpriced) == (3, 2, 1, 1)
    assert (totals.effective_nanos, totals.waste_nanos) == (10, 5)
    assert [each.usage_id for each in totals.records] == [1, 2, 3]


def test_an_amount_of_what_was_never_charged_is_nothing() -> None:
    assert operation_totals("op", [make_record(charge=None)]).effective_nanos == 0


def test_witnesses_differ_in_units_that_both_told() -> None:
    told = make_record(quantities={"input_tokens": 12, "output_tokens": 2, "images": 1})

    assert quantity_differences(told, make_record()) == {"input_tokens": 2}
    assert quantity_differences(make_record(quantities=None), make_record()) == {}


def test_outcomes_share_the_dimensions_of_the_last_attempt_that_knows_its_team() -> None:
    nobody = DimensionSet(team="unallocated", provider="acme", model="plain")
    first = make_record(usage_id=1)
    second = make_record(usage_id=2, attempt=2)
    third = make_record(usage_id=3, attempt=3, dimensions=nobody)

    assert dimensions_told([first, second, third]) == second
    assert dimensions_told([third]) == third
    assert dimensions_told([make_record(charge=None)]) is None


def test_the_witness_that_counts_is_found_if_one_does() -> None:
    counting, evidence = make_record(), make_record(usage_id=2, charge=None)

    assert EventHistory(evidence, [], [evidence, counting], []).counting == counting
    assert EventHistory(evidence, [], [evidence], []).counting is None
