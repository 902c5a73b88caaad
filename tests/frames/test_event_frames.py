"""Events by the table: keys as the domain makes them, and sums that miss nothing."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tokenbudget.domain.identity import event_key, response_key
from tokenbudget.frames.events import (
    counter_moves,
    key_claims,
    quarter_hours,
    rollup_rows,
    usage_rows,
    with_combinations,
    with_commitments,
    with_hashes,
    with_response_keys,
)

QUARTER_HOUR = 900
MICROS = 1_000_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


def make_events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Give a table of plain events."""
    usual = {"event_id": "e1", "provider": "acme", "model": "plain", "occurred_micros": 0}
    return pl.DataFrame([{**usual, **row} for row in rows], infer_schema_length=None)


def make_charged(*rows: dict[str, Any]) -> pl.DataFrame:
    """Give a table of events with charges of a nano each."""
    costs = dict.fromkeys(("list_nanos", "contracted_nanos", "effective_nanos"), 1)
    usual = {"dimension_set_id": 1, "price_digest": "p", "combination": 0, **costs}
    return make_events(*({**usual, **row} for row in rows))


@given(st.lists(st.tuples(st.one_of(st.none(), TEXTS), TEXTS), min_size=1, max_size=4))
def test_keys_of_events_are_those_of_the_domain(names: list[tuple[str | None, str]]) -> None:
    events = pl.DataFrame(
        {
            "source": pl.Series([source for source, _ in names], dtype=pl.String),
            "event_id": [event_ref for _, event_ref in names],
            "content": [b"{}"] * len(names),
        }
    )

    hashed = with_hashes(events, "api")

    expected = [event_key(source or "api", event_ref, 0) for source, event_ref in names]
    assert hashed["event_key"].to_list() == expected
    assert "content" not in hashed.columns


def test_events_without_a_source_column_have_the_default() -> None:
    hashed = with_hashes(make_events({"content": b"{}"}), "api")

    assert hashed["source"].to_list() == ["api"]


@given(TEXTS)
def test_keys_of_responses_are_those_of_the_domain(response_ref: str) -> None:
    events = make_events(
        {"response_id": response_ref},
        {"response_id": None},
        {"response_id": response_ref, "provider": "ollama"},
    )

    keyed = with_response_keys(events, {"acme": "acme-corp", "ollama": None})

    expected = [response_key("acme-corp", response_ref), None, None]
    assert keyed["response_key"].to_list() == expected


def test_every_key_is_claimed_in_the_order_of_keys() -> None:
    events = pl.DataFrame(
        {
            "usage_id": [1, 2],
            "event_key": [b"c", b"a"],
            "response_key": pl.Series([None, b"b"], dtype=pl.Binary),
        }
    )

    assert key_claims(events).rows() == [(b"a", 2), (b"b", 2), (b"c", 1)]


def test_events_that_agree_are_one_combination_until_the_rules_turn() -> None:
    events = make_events(
        {"tags.team": "a", "occurred_micros": 0},
        {"tags.team": None, "occurred_micros": 5},
        {"tags.team": "a", "occurred_micros": 9},
        {"tags.team": "a", "occurred_micros": 10},
        {"tags.team": "a", "occurred_micros": 9, "attempt": 2},
        {"tags.team": "a", "occurred_micros": 9, "attempt": 1},
    )

    combined, examples = with_combinations(events, tag_names=["tags.team"], turns=[10])

    assert combined["combination"].to_list() == [0, 1, 0, 2, 3, 0]
    assert examples["occurred_micros"].to_list() == [0, 5, 10, 9]
    assert examples["is_retry"].to_list() == [False, False, False, True]


def test_a_commitment_covers_a_combination_for_a_quarter_hour() -> None:
    events = make_charged({}, {"occurred_micros": QUARTER_HOUR * MICROS}, {"combination": 1})

    covered = with_commitments(events.cast({"combination": pl.UInt32}), {(0, 0): "c"})

    assert covered["commitment"].to_list() == ["c", None, None]


def test_rollups_of_both_grains_hold_every_event_once() -> None:
    charged = make_charged(
        {"usage.input_tokens": 5, "usage.cache_write_tokens": 1, "usage.cache_write_5m_tokens": 2},
        {"usage.input_tokens": 6, "usage.requests": 3},
        {"effective_nanos": None, "list_nanos": None, "usage.requests": 2},
        {"occurred_micros": QUARTER_HOUR * MICROS, "price_digest": None},
    )

    rows = rollup_rows(charged, price_row_ids={"p": 7})

    for grain in (QUARTER_HOUR, 86_400):
        of_grain = rows.filter(pl.col("grain_seconds") == grain)
        assert of_grain["requests"].sum() == 1 + 3 + 2 + 1
        assert of_grain["unpriced_requests"].sum() == 2
        assert of_grain["input_tokens"].sum() == 11
        assert of_grain["cache_write_tokens"].sum() == 3
        assert of_grain["effective_nanos"].sum() == 3
    assert rows.select("grain_seconds", "starts_at", "price_row_id").rows() == [
        (QUARTER_HOUR, 0, 0),
        (QUARTER_HOUR, 0, 7),
        (QUARTER_HOUR, QUARTER_HOUR * MICROS, 0),
        (86_400, 0, 0),
        (86_400, 0, 7),
    ]


def test_counters_move_by_all_that_counts_in_a_stretch() -> None:
    later = {"occurred_micros": 3 * QUARTER_HOUR * MICROS}
    charged = make_charged(
        {"usage.input_tokens": 5},
        {"usage.output_tokens": 6},
        {"effective_nanos": None},
        {**later, "usage.input_tokens": 7},
        {"combination": 1},
        {"combination": 2},
    ).cast({"combination": pl.UInt32})

    assert quarter_hours(charged) == [0, 3 * QUARTER_HOUR]
    matches = [(0, 5), (0, 6), (2, 6)]
    assert list(counter_moves(charged, matches, [0, 2 * QUARTER_HOUR])) == [
        (5, 0, 2, 11, 3),
        (5, 2 * QUARTER_HOUR, 1, 7, 1),
        (6, 0, 3, 11, 4),
        (6, 2 * QUARTER_HOUR, 1, 7, 1),
    ]


def test_usage_names_what_is_told_and_leaves_out_the_rest() -> None:
    events = make_events(
        {
            "usage_id": 3,
            "source_id": 1,
            "dimension_set_id": 2,
            "content_hash": 9,
            "usage.input_tokens": 5,
            "usage.images": 2,
            "usage.requests": 1,
            "tags.user": "u-1",
            "operation_id": None,
        }
    )

    [row] = usage_rows(events, kept_tags=["tags.session", "tags.user"], recorded=4).to_dicts()

    assert row["other_units"] in ('{"images":2,"requests":1}', '{"requests":1,"images":2}')
    assert (row["extra_tags"], row["attempt"], row["input_tokens"]) == ('{"user":"u-1"}', 1, 5)
    assert "operation_ref" not in row
    assert "output_tokens" not in row
