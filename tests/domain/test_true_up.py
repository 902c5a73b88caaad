"""Usage as providers report it beside what was metered, and how far estimates were off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tokenbudget.domain.calibration import MIN_PAIRS
from tokenbudget.domain.true_up import (
    EstimatedCall,
    EstimateFactor,
    MeteredUsage,
    ProviderUsage,
    Quantities,
    Spelling,
    TrueUpKey,
    TrueUpRow,
    compare_usage,
    factors_of,
)

DAY = datetime(2026, 9, 1, tzinfo=UTC)
NEXT_DAY = datetime(2026, 9, 2, tzinfo=UTC)
PLAIN = Spelling(str.lower, lambda _provider, model: model.removesuffix("-2026"))


def metered(account: str | None, *counts: int, **overrides: Any) -> MeteredUsage:
    facts = {"provider": "Acme", "model": "plain", "day": DAY, **overrides}
    return MeteredUsage(**facts, account=account, quantities=Quantities(*counts))


def reported(*counts: int | None, **overrides: Any) -> ProviderUsage:
    facts = {"provider": "acme", "model": "plain-2026", "day": DAY, **overrides}
    return ProviderUsage(**facts, quantities=Quantities(*counts))  # type: ignore[arg-type]


def key(account: str = "", day: datetime = DAY, model: str = "plain") -> TrueUpKey:
    return TrueUpKey("acme", model, day, account)


def test_both_sides_meet_under_the_key_that_usage_names() -> None:
    rows = compare_usage(
        [metered("key-1", 90, 9, 2)],
        [reported(100, 10, 3, account="org", project="proj", api_key="key-1")],
        PLAIN,
    )

    assert rows == [TrueUpRow(key("key-1"), Quantities(90, 9, 2), Quantities(100, 10, 3))]
    assert rows[0].missing == Quantities(10, 1, 1)


def test_usage_may_name_the_project_or_the_account_instead() -> None:
    names = {"account": "org", "project": "proj", "api_key": "key-1"}

    by_project = compare_usage([metered("proj", 1)], [reported(1, **names)], PLAIN)
    by_account = compare_usage([metered("org", 1)], [reported(1, **names)], PLAIN)

    assert [row.key for row in by_project + by_account] == [key("proj"), key("org")]


def test_lines_of_one_name_and_day_are_summed_in_any_spelling() -> None:
    rows = compare_usage(
        [metered("key-1", 1, 2, 3), metered("key-1", 10, 20, 30, provider="ACME")],
        [
            reported(5, 5, None, api_key="key-1"),
            reported(6, 6, 2, api_key="key-1", model="plain"),
            reported(7, 7, None, api_key="key-1"),
        ],
        PLAIN,
    )

    assert rows == [TrueUpRow(key("key-1"), Quantities(11, 22, 33), Quantities(18, 18, 2))]


def test_a_day_without_a_name_in_common_is_compared_as_a_whole() -> None:
    rows = compare_usage(
        [metered(None, 10, 0, 1), metered("service-a", 5, 0, 1)],
        [reported(16, 0, 3, api_key="key-9")],
        PLAIN,
    )

    assert rows == [TrueUpRow(key(), Quantities(15, 0, 2), Quantities(16, 0, 3))]


def test_a_name_in_common_keeps_the_others_apart() -> None:
    rows = compare_usage(
        [metered("key-1", 10, 0, 1)],
        [reported(10, 0, 1, api_key="key-1"), reported(4, 0, 1, api_key="key-2")],
        PLAIN,
    )

    assert [(row.key.account, row.metered) for row in rows] == [
        ("key-1", Quantities(10, 0, 1)),
        ("key-2", None),
    ]
    assert rows[1].missing == Quantities(4, 0, 1)


def test_what_only_one_side_knows_is_missing_as_a_whole() -> None:
    ours, theirs = compare_usage(
        [metered(None, 10, 1, 1)], [reported(7, 1, None, day=NEXT_DAY, model=None)], PLAIN
    )[::-1]

    assert (ours.reported, ours.missing) == (None, Quantities(-10, -1, -1))
    assert (theirs.key, theirs.metered) == (key(day=NEXT_DAY, model=""), None)
    assert theirs.missing == Quantities(7, 1, None)


def test_estimates_are_off_by_what_their_calls_add_up_to() -> None:
    calls = [
        EstimatedCall("gpt-5", 100, 110),
        EstimatedCall("gpt-5", 300, 330),
        EstimatedCall("claude", 200, 260),
        EstimatedCall("claude", 0, 260),
        EstimatedCall("claude", 200, 0),
    ]

    factors = factors_of(calls, lambda model: model.partition("-")[0])

    assert factors == [
        EstimateFactor("claude", 1, 200, 260, 13_000, None),
        EstimateFactor("gpt", 2, 400, 440, 11_000, None),
    ]


def test_calls_enough_are_fitted() -> None:
    [factor] = factors_of([EstimatedCall("m", 1_000, 1_500)] * MIN_PAIRS, lambda model: model)

    assert factor.fit is not None
    assert (factor.fit.multiplier, factor.fit.band) == (15_000, 0)
