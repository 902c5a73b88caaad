"""Moves by the table: what is found, and the pairs, rollups and counters that follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tokenbudget.domain.periods import to_micros
from tokenbudget.domain.rerating import CostDelta
from tokenbudget.frames.reattribution import (
    SEEN_SCHEMA,
    STANDING_SCHEMA,
    Movement,
    charge_pairs,
    counter_movements,
    find_moves,
    places,
    rollup_sums,
    seen_bytes,
    standing_frame,
    sum_moves,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOON_SECOND = to_micros(NOON) // 1_000_000


def make_row(**overrides: Any) -> tuple[Any, ...]:
    """Give a standing charge of 5 nanos for ten tokens in and one out, at noon."""
    row = {
        **dict.fromkeys(STANDING_SCHEMA),
        "usage_id": 1,
        "occurred_micros": to_micros(NOON),
        "dimension_set_id": 7,
        "sequence": 0,
        "basis": "rated",
        "price_row_id": 3,
        "list_nanos": 5,
        "contracted_nanos": 5,
        "effective_nanos": 5,
        "old_accounting_period": 202611,
        "input_tokens": 10,
        "output_tokens": 1,
        **overrides,
    }
    return tuple(row.values())


def moves_of(*rows: tuple[Any, ...], closed_before: int | None = None) -> pl.DataFrame:
    """Give the moves of what counts under dimension set 7, which go to ``x``."""
    standing = standing_frame(rows, [])
    return find_moves(standing, {(7, 0): "x"}, closed_before=closed_before)


def test_usage_is_told_apart_by_dimension_set_and_epoch() -> None:
    later = make_row(usage_id=2, occurred_micros=to_micros(NOON + timedelta(hours=1)))
    standing = standing_frame([make_row(), later], [NOON, NOON + timedelta(hours=1)])

    assert places(standing) == [(7, 1), (7, 2)]
    moves = find_moves(standing, {(7, 2): "x"}, closed_before=None)
    assert moves["usage_id"].to_list() == [2]


def test_what_tells_a_charge_is_enough_to_find_and_to_digest_it() -> None:
    row = make_row()
    brief = standing_frame([row[: len(SEEN_SCHEMA)]], [])

    found = find_moves(brief, {(7, 0): "x"}, closed_before=None)

    assert seen_bytes(found) == seen_bytes(moves_of(row))


def test_nothing_standing_moves_nothing() -> None:
    moves = moves_of()

    assert moves.is_empty()
    assert list(sum_moves(moves)) == []


def test_sums_are_by_where_usage_leaves_and_goes() -> None:
    moves = moves_of(make_row(), make_row(usage_id=2, effective_nanos=None), closed_before=202612)

    assert list(sum_moves(moves)) == [(7, "x", 202612, CostDelta(2, 10, 10, 5))]


def test_a_pair_takes_the_next_two_numbers() -> None:
    moves = moves_of(make_row(flags="a"), make_row(usage_id=2, sequence=1))

    pairs = charge_pairs(moves, target_ids={"x": 9}, reattribution_id=4)

    shown = pairs.select("usage_id", "sequence", "effective_nanos", "dimension_set_id", "flags")
    assert shown.rows() == [
        (1, 2, -5, 7, None),
        (1, 3, 5, 9, "a"),
        (2, 2, -5, 7, None),
        (2, 3, 5, 9, None),
    ]
    assert pairs["reverses_usage_id"].to_list() == [1, None, 2, None]


def test_rollups_lose_what_leaves_and_gain_what_comes() -> None:
    unpriced = {"effective_nanos": None, "list_nanos": None, "contracted_nanos": None}
    moves = moves_of(make_row(**unpriced, other_units='{"requests": 4, "images": 1}'))

    sums = rollup_sums(moves, target_ids={"x": 9})

    measured = sums.select("dimension_set_id", "price_row_id", "requests", "unpriced_requests")
    assert measured.rows() == [(7, 0, -4, -4), (9, 0, 4, 4)] * 2
    assert sums["grain_seconds"].to_list() == [900, 900, 86_400, 86_400]
    assert sums["effective_nanos"].to_list() == [0] * 4


def test_counters_hear_of_each_quarter_hour() -> None:
    later = make_row(usage_id=2, occurred_micros=to_micros(NOON + timedelta(minutes=14)))

    assert counter_movements(moves_of(make_row(), later)) == [
        Movement(NOON_SECOND, 7, "x", 10, 22, 2)
    ]
