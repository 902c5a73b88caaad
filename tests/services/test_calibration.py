"""Calls whose text was counted before and reported after tell how far the estimates were off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import check_work, make_check, make_event, record, rows_of
from tokenbudget.domain.calibration import MIN_PAIRS
from tokenbudget.services.calibration import Calibration, calibrate
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import HoldRow
from tokenbudget.tokens import count_tokens, use_estimators

CLAUDE = "claude-opus-4-8"
WORDS = "one ledger of record " * 50
COUNTED = count_tokens(WORDS, CLAUDE).counted


@pytest.fixture(autouse=True)
def _packaged_estimators() -> Iterator[None]:
    use_estimators("")
    yield
    use_estimators("")


def check_texts(ledger: Ledger, count: int, **overrides: Any) -> list[str]:
    """Check so many calls of the same text and give the ids of their holds."""
    asked = {"provider": "anthropic", "model": CLAUDE, "text": WORDS, "input_tokens": None}
    check = make_check(**{**asked, **overrides})
    answers = ledger.apply([check_work(check) for _ in range(count)])
    return [answer["hold_id"] for answer in answers if isinstance(answer, dict)]


def make_settling(hold_id: str, reported: int, **overrides: Any) -> dict[str, Any]:
    """Give the event that settles the hold with so many input tokens."""
    said = {"provider": "anthropic", "model": CLAUDE, "usage": {"input_tokens": reported}}
    return make_event(**{"event_id": hold_id, "hold_id": hold_id, **said, **overrides})


def settle_at(ledger: Ledger, ratio_percent: int, count: int, **overrides: Any) -> None:
    """Record so many calls whose provider reported that much of what was counted."""
    hold_ids = check_texts(ledger, count)
    reported = COUNTED * ratio_percent // 100
    answer = record(ledger, *(make_settling(each, reported, **overrides) for each in hold_ids))
    assert answer.accepted == count


def only(calibrations: list[Calibration]) -> Calibration:
    """Give the one calibration there is."""
    [calibration] = calibrations
    return calibration


def test_a_family_is_fitted_to_what_its_provider_reported(
    ledger: Ledger, database: Database
) -> None:
    settle_at(ledger, 140, MIN_PAIRS)

    calibration = only(calibrate(database))

    assert calibration.family.name == "claude from 4.7"
    assert calibration.pair_count == MIN_PAIRS
    assert calibration.fit is not None
    assert abs(calibration.fit.multiplier - 14_000) <= 50
    assert calibration.fit.band == 0


def test_too_few_calls_are_counted_and_not_fitted(ledger: Ledger, database: Database) -> None:
    settle_at(ledger, 140, MIN_PAIRS - 1)

    calibration = only(calibrate(database))

    assert (calibration.pair_count, calibration.fit) == (MIN_PAIRS - 1, None)


def test_a_revision_of_the_usage_counts_in_place_of_what_it_revised(
    ledger: Ledger, database: Database
) -> None:
    [*hold_ids] = check_texts(ledger, MIN_PAIRS)
    record(ledger, *(make_settling(each, 1) for each in hold_ids))
    record(ledger, *(make_settling(each, COUNTED * 2, revision=1) for each in hold_ids))

    calibration = only(calibrate(database))

    assert calibration.fit is not None
    assert calibration.fit.multiplier == 20_000


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": "claude-sonnet-4"},
        {"usage": None, "text": WORDS},
        {"usage": {"output_tokens": 5}},
    ],
    ids=["another family answered", "usage estimated too", "input not reported"],
)
def test_calls_that_cannot_be_compared_are_left_out(
    ledger: Ledger, database: Database, overrides: dict[str, Any]
) -> None:
    settle_at(ledger, 140, MIN_PAIRS, **overrides)

    assert calibrate(database) == []


def test_tokens_that_the_caller_told_are_no_estimate_of_ours(
    ledger: Ledger, database: Database
) -> None:
    [hold_id] = check_texts(ledger, 1, text=None, input_tokens=1_200)
    record(ledger, make_settling(hold_id, 1_500))

    assert calibrate(database) == []


def test_a_hold_keeps_the_count_before_scaling_and_no_text(
    ledger: Ledger, database: Database
) -> None:
    check_texts(ledger, 1)

    [hold] = rows_of(database, HoldRow)

    assert (hold["counted_tokens"], hold["counting_method"]) == (COUNTED, "o200k_base")
    assert WORDS.strip() not in str(dict(hold))


def test_messages_with_parts_that_cannot_be_counted_keep_no_count(
    ledger: Ledger, database: Database
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": WORDS}, picture]}]
    check_texts(ledger, 1, text=None, messages=messages)

    [hold] = rows_of(database, HoldRow)

    assert (hold["counted_tokens"], hold["counting_method"]) == (None, None)


def test_a_call_counted_by_another_vocabulary_than_its_familys_is_left_out(
    ledger: Ledger, database: Database
) -> None:
    settle_at(ledger, 140, MIN_PAIRS)
    use_estimators('schema = 1\n[[family]]\nname = "claude from 4.7"\nencoding = "cl100k_base"\n')

    assert calibrate(database) == []
