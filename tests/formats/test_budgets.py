"""Budgets as JSON and TOML spell them: what is read, what is written back, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tokenbudget.domain.allowances import Rollover
from tokenbudget.domain.budgets import LIFETIME, BudgetWindow, Mode, ThresholdOn, Unit
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import Period, Window
from tokenbudget.formats.budgets import (
    BudgetDraft,
    describe_budget,
    format_quantity,
    format_threshold,
    parse_budget,
    parse_budgets_toml,
    parse_plan_toml,
    parse_window,
    require_rolled_up,
)

SMALLEST: dict[str, Any] = {"id": "all", "limit": "1.00", "window": "month"}
FULL: dict[str, Any] = {
    "id": "growth-monthly",
    "selector": {"team": "growth", "tag:colour": ["red", "blue"]},
    "split_by": ["tenant", "tag:shade"],
    "unit": "money",
    "limit": "500.00",
    "window": "month",
    "timezone": "America/New_York",
    "mode": "hard",
    "thresholds": [1, Decimal("0.8"), "0.5", Decimal("0.80")],
    "on": "actual",
    "rollover": None,
    "overdraft": Decimal("2.5"),
    "baseline": "creation",
    "fail_mode": "open",
    "owner": "ana@example.com",
    "channels": ["finance"],
    "valid_from": "2026-11-01T00:00:00+01:00",
    "valid_to": "2027-01-01T00:00:00Z",
}


def parse(**overrides: Any) -> BudgetDraft:
    """Give the smallest budget with these fields changed."""
    return parse_budget({**SMALLEST, **overrides}, where="b", timezone="UTC")


def fault_of(**overrides: Any) -> str:
    """Give why the smallest budget with these fields changed is refused."""
    with pytest.raises(InvalidInput) as caught:
        parse(**overrides)
    return caught.value.detail


def test_every_field_of_the_contract_is_read() -> None:
    draft = parse_budget(FULL, where="b", timezone="UTC")

    assert draft == BudgetDraft(
        id="growth-monthly",
        selector={"team": frozenset({"growth"}), "colour": frozenset({"red", "blue"})},
        split_by=("tenant", "shade"),
        unit=Unit.MONEY,
        limit=500_000_000_000,
        window=BudgetWindow(Window.MONTH, None, "America/New_York"),
        window_text="month",
        mode=Mode.HARD,
        thresholds=(5_000, 8_000, 10_000),
        threshold_on=ThresholdOn.ACTUAL,
        overdraft=2_500_000_000,
        counts_from_window=False,
        fails_open=True,
        owner="ana@example.com",
        channels=("finance",),
        valid_from=datetime(2026, 10, 31, 23, tzinfo=UTC),
        valid_to=datetime(2027, 1, 1, tzinfo=UTC),
    )


def test_three_fields_are_enough() -> None:
    draft = parse_budget(SMALLEST, where="b", timezone="Asia/Kolkata")

    assert (draft.selector, draft.split_by, draft.unit) == ({}, (), Unit.MONEY)
    assert (draft.mode, draft.threshold_on) == (Mode.SOFT, ThresholdOn.COMMITTED)
    assert draft.thresholds == (5_000, 8_000, 10_000)
    assert (draft.counts_from_window, draft.fails_open, draft.overdraft) == (True, False, 0)
    assert (draft.valid_from, draft.valid_to) == (None, None)
    assert draft.window.timezone == "Asia/Kolkata"


def test_what_is_written_back_reads_the_same() -> None:
    for entry in (SMALLEST, FULL):
        draft = parse_budget(entry, where="b", timezone="UTC")

        assert parse_budget(describe_budget(draft), where="b", timezone="UTC") == draft


def test_the_wire_form_says_it_in_full() -> None:
    assert describe_budget(parse_budget(FULL, where="b", timezone="UTC")) == {
        **FULL,
        "selector": {"colour": ["blue", "red"], "team": "growth"},
        "split_by": ["tenant", "shade"],
        "limit": "500.000000000",
        "thresholds": [Decimal("0.5"), Decimal("0.8"), Decimal(1)],
        "overdraft": "2.500000000",
        "valid_from": "2026-10-31T23:00:00Z",
    }


@pytest.mark.parametrize("unit", ["tokens", "requests"])
@pytest.mark.parametrize("limit", [20_000_000_000, "20000000000", Decimal("2e10")])
def test_counts_are_whole_numbers_of_any_spelling(unit: str, limit: object) -> None:
    draft = parse(unit=unit, limit=limit)

    assert draft.limit == 20_000_000_000
    assert format_quantity(draft.limit, draft.unit) == "20000000000"


@pytest.mark.parametrize("window", list(Window))
def test_calendar_windows_are_known(window: Window) -> None:
    assert parse_window(window.value, "UTC") == BudgetWindow(window, None, "UTC")


def test_a_rate_has_no_thresholds_unless_they_are_named() -> None:
    assert parse(window="minute").thresholds == ()
    assert parse(window="minute", thresholds=[1]).thresholds == (10_000,)
    assert parse(window="hour").thresholds == (5_000, 8_000, 10_000)


def test_a_lifetime_never_ends() -> None:
    assert parse_window("lifetime", "UTC") == BudgetWindow(None, LIFETIME, "UTC")


def test_a_range_of_days_is_cut_in_the_zone() -> None:
    window = parse_window("range:2026-11-01/2026-12-01", "America/New_York")

    # New York leaves daylight saving time on the first of November, at two in the morning.
    assert window.fixed == Period(
        datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 12, 1, 5, tzinfo=UTC)
    )


def test_a_range_of_instants_needs_no_zone() -> None:
    window = parse_window("range:2026-11-01T00:00:00Z/2026-11-01T00:15:00Z", "America/New_York")

    assert window.fixed == Period(
        datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 0, 15, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("year:04", datetime(2026, 4, 1, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)),
        ("year:12", datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("quarter:02", datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_fiscal_years_begin_with_their_month(text: str, start: datetime, end: datetime) -> None:
    window = parse_window(text, "UTC")

    assert window.period_at(datetime(2026, 11, 20, tzinfo=UTC)) == Period(start, end)


def test_each_operation_may_have_a_window() -> None:
    window = parse_window("operation", "UTC")

    assert window == BudgetWindow(None, LIFETIME, "UTC", per_operation=True)


def test_a_rollover_has_bounds_in_the_unit_of_the_budget() -> None:
    draft = parse(rollover={"max_carry": 500, "max_debt": "20"}, unit="tokens", limit=1_000)
    plain = parse(rollover={})

    assert draft.rollover == Rollover(500, 20)
    assert describe_budget(draft)["rollover"] == {"max_carry": "500", "max_debt": "20"}
    assert plain.rollover == Rollover(None, 0)
    assert describe_budget(plain)["rollover"] == {"max_carry": None, "max_debt": "0.000000000"}


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ({"rollover": {"max_carry": "-1"}}, "rollover.max_carry -1 is negative"),
        (
            {"rollover": {"max_debt": "1.5"}, "unit": "tokens", "limit": 5},
            "rollover.max_debt 1.5 must be",
        ),
        ({"rollover": {"most": "1"}}, "most"),
        *(
            ({"rollover": {}, "window": window}, "rollover needs a calendar window")
            for window in ("minute", "rolling:3d", "lifetime", "operation")
        ),
        *(
            ({"on": "forecast", "window": window}, "on 'forecast' needs a window that ends")
            for window in ("minute", "rolling:3d", "lifetime", "operation")
        ),
    ],
)
def test_what_a_window_cannot_give_is_refused(overrides: dict[str, Any], fault: str) -> None:
    assert fault in fault_of(**overrides)


def test_a_fixed_range_may_be_forecast() -> None:
    draft = parse(on="forecast", window="range:2026-11-01/2026-12-01")

    assert draft.threshold_on is ThresholdOn.FORECAST


@pytest.mark.parametrize("days", [1, 30, 366])
def test_a_window_may_be_the_last_days(days: int) -> None:
    window = parse_window(f"rolling:{days}d", "America/New_York")

    assert window == BudgetWindow(Window.DAY, None, "America/New_York", rolling_days=days)


@pytest.mark.parametrize(
    ("window", "fault"),
    [
        ("fortnight", "window 'fortnight' is not one of minute, hour, day, week, month, quarter, "),
        ("", "window '' is not one of"),
        ("year:13", "window 'year:13' is not one of"),
        ("year:4", "window 'year:4' is not one of"),
        ("month:04", "window 'month:04' is not one of"),
        ("rolling:", "window 'rolling:' must be rolling:Nd, the last N days, N from 1 to 366"),
        ("rolling:0d", "window 'rolling:0d' must be rolling:Nd"),
        ("rolling:-1d", "window 'rolling:-1d' must be rolling:Nd"),
        ("rolling:030d", "window 'rolling:030d' must be rolling:Nd"),
        ("rolling:30", "window 'rolling:30' must be rolling:Nd"),
        ("rolling:30d\n", "window 'rolling:30d\\n' must be rolling:Nd"),
        ("rolling:367d", "window 'rolling:367d' must be rolling:Nd"),
        ("rolling:7w", "window 'rolling:7w' must be rolling:Nd"),
        ("rolling:\u0663d", "window 'rolling:\u0663d' must be rolling:Nd"),
        ("operations", "window 'operations' is not one of"),
        ("range:2026-11-01", "must be range:START/END"),
        ("range:2026-11-01/soon", "window bound 'soon' is not a date or time"),
        ("range:2026-11-02/2026-11-01", "must end after it starts"),
        ("range:2026-11-01/2026-11-01", "must end after it starts"),
        (
            "range:2026-11-01/2026-11-02T00:00:01Z",
            "window bound '2026-11-02T00:00:01Z' must lie on a quarter-hour",
        ),
        ("range:0001-01-01/2026-11-01", "window bound '0001-01-01' is out of range"),
        ("range:2026-11-01/9999-12-31", "window bound '9999-12-31' is out of range"),
    ],
)
def test_a_window_that_is_none_is_refused(window: str, fault: str) -> None:
    assert fault in fault_of(window=window, timezone="Asia/Kolkata")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"timezone": "Mars/Olympus"}, "b (all): timezone 'Mars/Olympus' is not an IANA zone"),
        ({"limit": "-1"}, "b (all): limit -1 is negative"),
        ({"limit": -1, "unit": "tokens"}, "b (all): limit -1 is negative"),
        ({"limit": "1.5", "unit": "tokens"}, "limit 1.5 must be a whole number of tokens"),
        ({"limit": 10**18 + 1, "unit": "requests"}, "limit 1000000000000000001 is out of range"),
        ({"limit": "1e30", "unit": "tokens"}, "limit 1E+30 is out of range"),
        ({"limit": "NaN", "unit": "tokens"}, "limit 'NaN' is not a finite decimal number"),
        ({"limit": "9223372036.854775808"}, "limit '9223372036.854775808' is out of range"),
        ({"limit": "0.0000000001"}, "limit '0.0000000001' has more than 9 decimals"),
        ({"limit": True}, "limit must be a decimal number, not bool"),
        ({"limit": ["1"]}, "limit must be a decimal number, not list"),
        ({"overdraft": "-0.01"}, "overdraft -0.01 is negative"),
        ({"selector": {"owner": "ana"}}, "selector 'owner' is not available"),
        ({"selector": {"tag:": "x"}}, "selector 'tag:' names no dimension"),
        ({"selector": {"team": []}}, "selector.team needs at least one value"),
        ({"selector": {"team": ["a", ""]}}, "selector.team needs at least one value"),
        ({"selector": {"team": "a", "tag:team": "b"}}, "selector names 'team' twice"),
        ({"split_by": ["cost_center"]}, "split_by 'cost_center' is not available"),
        ({"split_by": ["team", "tag:team"]}, "split_by names a dimension twice"),
        ({"valid_from": "2026-11-01T00:00:00"}, "valid_from '2026-11-01T00:00:00' has no UTC"),
        ({"valid_from": "0001-01-01T00:00:00Z"}, "valid_from 0001-01-01T00:00:00Z is out of range"),
        ({"valid_to": 5}, "valid_to must be a time, not int"),
        (
            {"valid_from": "2026-11-02T00:00:00Z", "valid_to": "2026-11-01T00:00:00Z"},
            "valid_to must be after valid_from",
        ),
        ({"channels": ["a\0b"]}, "channels holds a NUL character"),
    ],
)
def test_a_fault_names_the_budget_the_field_and_the_rule(
    change: dict[str, Any], fault: str
) -> None:
    assert fault in fault_of(**change)


@pytest.mark.parametrize(
    "threshold", [0, "-0.5", "100.0001", "0.00001", "NaN", "sNaN", "Infinity", "1e-999999999"]
)
def test_a_threshold_is_a_share_in_steps(threshold: object) -> None:
    fault = fault_of(thresholds=[threshold])

    assert fault.endswith("must be above 0, at most 100, in steps of 0.0001")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"colour": "red"}, "b: Object contains unknown field `colour`"),
        ({"rollover": "all"}, "at `rollover`"),
        ({"mode": "harsh"}, "at `mode`"),
        ({"thresholds": ["0.5"] * 21}, "at `thresholds`"),
        ({"id": ""}, "at `id`"),
        ({"id": "-a"}, "at `id`"),
        ({"id": "büdget"}, "at `id`"),
        ({"id": "a\n"}, "at `id`"),
    ],
)
def test_a_shape_at_fault_names_the_field(change: dict[str, Any], fault: str) -> None:
    assert fault in fault_of(**change)


def test_a_budget_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidInput, match="b: Expected `object`, got `int`"):
        parse_budget(5, where="b", timezone="UTC")


@pytest.mark.parametrize("change", [{"selector": {"user": "u-1"}}, {"split_by": ["tag:user"]}])
def test_a_budget_by_a_tag_that_is_not_rolled_up_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="budget 'all': 'user' cannot be counted by"):
        require_rolled_up([parse(), parse(**change)], {"user"})


def test_a_budget_by_other_tags_is_counted() -> None:
    require_rolled_up([parse(split_by=["tenant"])], {"user"})


@pytest.mark.parametrize(
    ("basis_points", "text"), [(1, "0.0001"), (5_000, "0.5"), (10_000, "1"), (1_000_000, "100")]
)
def test_thresholds_are_written_as_shares(basis_points: int, text: str) -> None:
    assert format_threshold(basis_points) == text


TOML = """
[[budget]]
id = "growth"
limit = 500.10
window = "month"
thresholds = [0.5, 1]
valid_from = 2026-11-01T00:00:00Z

[[budget]]
id = "all"
limit = 1000
window = "day"
unit = "requests"
"""


def test_a_file_holds_tables_with_exact_decimals_and_times() -> None:
    growth, everything = parse_budgets_toml(TOML, file_name="budgets.toml", timezone="UTC")

    assert (growth.id, growth.limit) == ("growth", 500_100_000_000)
    assert growth.thresholds == (5_000, 10_000)
    assert growth.valid_from == datetime(2026, 11, 1, tzinfo=UTC)
    assert (everything.id, everything.limit) == ("all", 1_000)


def test_an_empty_file_holds_no_budgets() -> None:
    assert parse_budgets_toml("", file_name="budgets.toml", timezone="UTC") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[budget]", "not TOML: "),
        ("limit = " + "9" * 5_000, "not TOML: "),
        ("a = " + "[" * 5_000, "not TOML: "),
        ("[[budgets]]", "'budgets' is not known; budgets are [[budget]] tables"),
        ("[budget]\nid = 'a'", "budgets are [[budget]] tables, with two brackets"),
        ("budget = [5]", "budget 1: Expected `object`, got `int`"),
        (TOML + TOML, "budget 3: id 'growth' is used twice"),
        (TOML.replace("1000", "-1"), "budget 2 (all): limit -1 is negative"),
        (
            TOML.replace("2026-11-01T00:00:00Z", "2026-11-01"),
            "budget 1 (growth): valid_from '2026-11-01' has no UTC offset",
        ),
    ],
)
def test_a_file_at_fault_is_named_with_the_budget(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_budgets_toml(text, file_name="budgets.toml", timezone="UTC")

    assert caught.value.detail.startswith(f"budgets.toml: {fault}")


def test_a_plan_holds_owners_beside_budgets() -> None:
    owner = '[[owner]]\nkind = "team"\nname = "growth"\n'

    plan = parse_plan_toml(TOML + owner, file_name="budgets.toml", timezone="UTC")

    assert plan.budgets == parse_budgets_toml(TOML, file_name="budgets.toml", timezone="UTC")
    assert [str(entry) for entry in plan.owners] == ["owner team 'growth'"]


def test_a_fault_in_a_plan_names_file_and_entry() -> None:
    with pytest.raises(InvalidInput, match=r"plan\.toml: owner 1: "):
        parse_plan_toml("[[owner]]\nname = 'x'", file_name="plan.toml", timezone="UTC")
    with pytest.raises(InvalidInput, match=r"plan\.toml: 'owners' is not known"):
        parse_plan_toml("[[owners]]", file_name="plan.toml", timezone="UTC")
