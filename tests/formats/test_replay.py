"""Replays on the wire: what may be asked, and the sentences that tell what would have been."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.budgets import Budget, BudgetWindow, Mode
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period, Window
from tokenbudget.domain.replay import Call, Replay, Replayer
from tokenbudget.formats.replay import (
    MAX_BUDGETS,
    budget_sentence,
    describe_replay,
    parse_replay,
    parse_replay_period,
    replay_sentence,
)

DOLLAR = 10**9
NEW_YORK = "America/New_York"
NINTH = datetime(2026, 11, 9, 4, 30, tzinfo=UTC)
NOVEMBER = Period(datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 12, 1, 5, tzinfo=UTC))
SMALLEST = {"id": "all", "limit": "1.00", "window": "month"}
BODY: dict[str, Any] = {"budgets": [SMALLEST], "from": "2026-11-01", "to": "2026-12-01"}


def make_budget(**overrides: Any) -> Budget:
    """Give a hard budget of a hundred dollars a month in New York."""
    window = BudgetWindow(Window.MONTH, None, NEW_YORK)
    usual = {"id": "growth", "limit": 100 * DOLLAR, "window": window, "valid_from": NOVEMBER.start}
    return make_live_budget(**{**usual, **overrides})


def replayed(*budgets: Budget, dollars: tuple[int, ...] = (99, 41), **facts: Any) -> Replay:
    """Give what becomes of calls from the ninth on that cost so many dollars."""
    replayer = Replayer(budgets)
    replayer.learn({1: DimensionSet(team="growth", provider="acme", model="plain", tenant="t1")})
    replayer.play(
        Call(NINTH + timedelta(hours=place), 1, cost * DOLLAR, tokens=7, **facts)
        for place, cost in enumerate(dollars)
    )
    return replayer.replay(NOVEMBER)


def sentence(budget: Budget, **facts: Any) -> str:
    """Give the sentence on a budget that the calls are replayed with."""
    told = replayed(budget, **facts)
    return budget_sentence(told.budgets[0], period=NOVEMBER, currency="USD")


def test_days_are_those_of_the_zone_and_the_last_is_not_included() -> None:
    drafts, period = parse_replay(BODY, timezone=NEW_YORK)

    assert period == NOVEMBER
    assert [(draft.id, draft.window.timezone) for draft in drafts] == [("all", NEW_YORK)]


def test_times_say_their_own_offset() -> None:
    period = parse_replay_period(
        "2026-11-01T05:45:00+05:45", "2026-11-01T00:15:00Z", timezone=NEW_YORK
    )

    start = datetime(2026, 11, 1, tzinfo=UTC)
    assert period == Period(start, start + timedelta(minutes=15))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"from": None}, "from must be a day or a time of RFC 3339"),
        ({"to": 20261201}, "to must be a day or a time of RFC 3339"),
        ({"from": "yesterday"}, "from 'yesterday' is not an RFC 3339 time"),
        ({"from": "2026-11-01T00:00:00"}, "from '2026-11-01T00:00:00' has no UTC offset"),
        ({"to": "2026-11-01T00:10:00Z"}, "to 2026-11-01T00:10:00Z must lie on a quarter-hour"),
        ({"from": "1969-12-31"}, "from 1969-12-31 must lie between 1970 and 2200"),
        ({"to": "2200-01-02"}, "to 2200-01-02 must lie between 1970 and 2200"),
        ({"from": "2026-12-02"}, "to 2026-12-01 must be after from 2026-12-02"),
        ({"from": "2026-12-01"}, "to 2026-12-01 must be after from 2026-12-01"),
        ({"start": "2026-11-01"}, "unknown field 'start'"),
        ({"budgets": {}}, f"budgets must list 1 to {MAX_BUDGETS} budgets"),
        ({"budgets": []}, f"budgets must list 1 to {MAX_BUDGETS} budgets"),
        ({"budgets": [SMALLEST] * 101}, f"budgets must list 1 to {MAX_BUDGETS} budgets"),
        ({"budgets": [SMALLEST, SMALLEST]}, "budget 2: id 'all' is used twice"),
        ({"budgets": [{**SMALLEST, "limit": "-1"}]}, r"budget 1 \(all\): limit -1 is negative"),
        (
            {"budgets": [{**SMALLEST, "timezone": "Mars/Olympus"}]},
            r"budget 1 \(all\): timezone 'Mars/Olympus' is not an IANA zone",
        ),
    ],
)
def test_what_cannot_be_asked_is_named(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{fault}"):
        parse_replay({**BODY, **changes}, timezone="UTC")


def test_a_hard_budget_tells_what_it_saves_and_when_first_in_its_zone() -> None:
    assert sentence(make_budget()) == (
        "Budget growth would have denied 1 of 2 calls, "
        "first on 9 Nov 2026, 00:30 America/New_York, $41.00 saved."
    )


def test_soft_and_shadow_budgets_tell_what_they_let_through_had_cost() -> None:
    assert sentence(make_budget(mode=Mode.SOFT)) == (
        "Budget growth would have warned of 1 of 2 calls, "
        "first on 9 Nov 2026, 00:30 America/New_York, which cost $41.00."
    )
    assert sentence(make_budget(mode=Mode.SHADOW)) == (
        "Budget growth would have recorded, and let through, 1 of 2 calls, first on "
        "9 Nov 2026, 00:30 America/New_York, which cost $41.00."
    )


def test_want_of_a_price_is_told() -> None:
    assert sentence(make_budget(), dollars=(0,), is_unpriced=True) == (
        "Budget growth would have denied 1 of 1 call, 1 of them without a price, "
        "first on 8 Nov 2026, 23:30 America/New_York, $0.00 saved."
    )


def test_a_budget_with_room_for_everything_says_so() -> None:
    assert sentence(make_budget(), dollars=(99, 1)) == (
        "Budget growth would have denied none of 2 calls."
    )


@pytest.mark.parametrize("validity", [{"valid_from": NOVEMBER.end}, {"valid_to": NOVEMBER.start}])
def test_a_budget_that_is_never_in_force_says_so(validity: dict[str, datetime]) -> None:
    usual = {"valid_from": NOVEMBER.start - timedelta(days=9)}

    told = sentence(make_budget(**{**usual, **validity}))

    assert told == "Budget growth is not in force in that period."


def test_all_budgets_together_tell_each_call_once() -> None:
    both = replayed(make_budget(), make_budget(id="other"))

    assert replay_sentence(both, currency="USD", timezone="UTC") == (
        "Together they would have denied 1 of 2 calls, first on 9 Nov 2026, 05:30 UTC, "
        "$41.00 saved."
    )
    assert replay_sentence(replayed(dollars=(1,)), currency="USD", timezone="UTC") == (
        "Together they would have denied none of 1 call."
    )


def test_the_wire_form_has_exact_amounts() -> None:
    told = replayed(make_budget(split_by=("tenant",)), make_budget(id="soft", mode=Mode.SOFT))

    wire = describe_replay(told, currency="USD", timezone="UTC")

    hard, soft = wire["budgets"]
    refused = {
        "calls": 1,
        "cost": "41.000000000",
        "tokens": 7,
        "requests": 1,
        "first_at": "2026-11-09T05:30:00Z",
        "last_at": "2026-11-09T05:30:00Z",
    }
    assert (wire["from"], wire["to"]) == ("2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z")
    assert (wire["denied"], wire["saved"], wire["currency"]) == (refused, "41.000000000", "USD")
    assert hard == {
        "budget": "growth",
        "mode": "hard",
        "unit": "money",
        "limit": "100.000000000",
        "window": "month",
        "timezone": NEW_YORK,
        "seen": wire["seen"],
        "denied": 1,
        "warned": 0,
        "recorded": 0,
        "refused": refused,
        "unpriced": 0,
        "saved": "41.000000000",
        "windows": [
            {
                "window_start": "2026-11-01T04:00:00Z",
                "resets_at": "2026-12-01T05:00:00Z",
                "counters": 1,
                "refused": refused,
            }
        ],
        "window_count": 1,
        "splits": [{"split": {"tenant": "t1"}, "refused": refused}],
        "split_count": 1,
        "sentence": (
            "Budget growth would have denied 1 of 2 calls, "
            "first on 9 Nov 2026, 00:30 America/New_York, $41.00 saved."
        ),
    }
    # The call that the hard one denies never comes to the soft one.
    assert (soft["warned"], soft["saved"], soft["refused"]["first_at"]) == (0, "0.000000000", None)
    assert soft["windows"] == soft["splits"] == []
