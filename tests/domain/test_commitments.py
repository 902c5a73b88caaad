"""What a commitment costs is borne by what it covered; the rest is a line of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.price_builders import NOON, day
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.commitments import (
    Commitment,
    CoveredUsage,
    Per,
    Share,
    find_covering,
    fixed_nanos,
    share_out,
    unused_dimensions,
)
from tokenbudget.domain.money import NANOS_PER_UNIT
from tokenbudget.domain.periods import QUARTER_HOUR, Period

DAY = Period(day("2026-11-20"), day("2026-11-21"))
QUARTERS = 96
ONE_TO_ONE = Fraction(1)


def make_commitment(**overrides: Any) -> Commitment:
    """Give a commitment of acme for a dollar an hour since November."""
    usual: dict[str, Any] = {
        "id": "ptu",
        "provider": "acme",
        "covers": {"deployment": ("prod",)},
        "nanos_per_time": Fraction(NANOS_PER_UNIT),
        "per": Per.HOUR,
        "valid_from": day("2026-11-01"),
    }
    return Commitment(**{**usual, **overrides})


def usage(
    dimension_set_id: int, *, quarter: int = 0, tokens: int = 0, cost: int = 0
) -> CoveredUsage:
    """Give covered usage in a quarter-hour of the day whose list and contracted cost are equal."""
    starts_at = DAY.start + quarter * QUARTER_HOUR
    return CoveredUsage(starts_at, dimension_set_id, tokens, cost, cost)


def make_dimensions(**overrides: Any) -> DimensionSet:
    """Give the dimensions of a call to the deployment ``prod``."""
    usual: dict[str, Any] = {
        "team": "growth",
        "provider": "acme",
        "model": "GPT-5",
        "account": "org-1",
        "tags": {"deployment": "prod"},
    }
    return DimensionSet(**{**usual, **overrides})


@pytest.mark.parametrize(
    ("covers", "is_covered"),
    [
        ({}, True),
        ({"deployment": ("prod",)}, True),
        ({"deployment": ("test", "pr*")}, True),
        ({"deployment": ("test",)}, False),
        ({"model": ("gpt-*",)}, True),
        ({"model": ("gpt-*",), "account": ("org-2",)}, False),
        ({"model": ("gpt-*",), "account": ("org-1",)}, True),
        ({"feature": ("chat",)}, False),
    ],
)
def test_usage_is_covered_when_every_condition_has_a_pattern_that_answers(
    covers: dict[str, tuple[str, ...]], is_covered: bool
) -> None:
    commitment = make_commitment(covers=covers)

    assert commitment.answers(make_dimensions()) is is_covered


def test_the_first_commitment_of_the_provider_in_force_covers() -> None:
    later = make_commitment(id="later", valid_from=day("2026-12-01"))
    other = make_commitment(id="other", provider="else")
    ended = make_commitment(id="ended", valid_to=day("2026-11-20"))
    first, second = make_commitment(id="first"), make_commitment(id="second")
    commitments = (later, other, ended, first, second)

    covering = find_covering(commitments, "acme", make_dimensions(), DAY.start)

    assert covering is first
    assert find_covering(commitments, "acme", make_dimensions(), day("2026-11-19")) is ended
    assert find_covering(commitments, "nobody", make_dimensions(), DAY.start) is None


def test_a_commitment_holds_in_the_part_of_a_period_between_its_bounds() -> None:
    commitment = make_commitment(valid_from=NOON, valid_to=NOON + timedelta(hours=2))

    assert commitment.part_in_force(Period(day("2026-03-02"), day("2026-03-03"))) == Period(
        NOON, NOON + timedelta(hours=2)
    )
    assert commitment.part_in_force(Period(day("2026-03-03"), day("2026-03-04"))) is None


@pytest.mark.parametrize(
    ("per", "nanos"),
    [(Per.HOUR, 24_000_000_000), (Per.DAY, 1_000_000_000), (Per.MONTH, 33_333_334)],
)
def test_a_day_costs_its_hours_itself_or_its_part_of_the_month(per: Per, nanos: int) -> None:
    commitment = make_commitment(per=per)

    # By the end of the 20th of November 666,666,667 have accrued, by its start 633,333,333.
    assert fixed_nanos(commitment, DAY, ONE_TO_ONE) == nanos


def test_the_days_of_a_month_add_up_to_the_month_and_are_converted() -> None:
    commitment = make_commitment(per=Per.MONTH)
    midnights = [day("2026-12-01") + timedelta(days=number) for number in range(32)]
    days = [Period(start, end) for start, end in pairwise(midnights)]

    assert sum(fixed_nanos(commitment, each, ONE_TO_ONE) for each in days) == NANOS_PER_UNIT
    assert sum(fixed_nanos(commitment, each, Fraction(1, 8)) for each in days) == 125_000_000


def test_a_fixed_cost_is_shared_by_list_cost() -> None:
    used = [usage(1, cost=100, tokens=9), usage(2, cost=300, tokens=1)]

    shares = share_out(make_commitment(), 1_000, DAY, used)

    assert (shares.used, shares.spilled, shares.unused) == ((250, 750), (0, 0), 0)


def test_a_fixed_cost_is_shared_by_tokens_where_asked_or_where_nothing_has_a_list_cost() -> None:
    by_tokens = make_commitment(share=Share.TOKENS)

    assert share_out(by_tokens, 1_000, DAY, [usage(1, tokens=9), usage(2, tokens=1)]).used == (
        900,
        100,
    )
    assert share_out(make_commitment(), 1_000, DAY, [usage(1, tokens=9), usage(2, tokens=1)]).used
    assert share_out(make_commitment(), 10, DAY, [usage(1), usage(2)]).used == (5, 5)


def test_a_day_without_usage_is_all_unused() -> None:
    shares = share_out(make_commitment(), 1_000, DAY, [])

    assert (shares.used, shares.unused) == ((), 1_000)


def test_each_usage_of_a_host_bears_its_gpu_seconds_and_idle_time_is_unused() -> None:
    host = make_commitment(share=Share.GPU_SECONDS)

    idle = share_out(host, 1_000, DAY, [usage(1, cost=100), usage(2, cost=300)])
    overbooked = share_out(host, 1_000, DAY, [usage(1, cost=1_000), usage(2, cost=3_000)])

    assert (idle.used, idle.unused) == ((100, 300), 600)
    assert (overbooked.used, overbooked.unused) == ((250, 750), 0)


def test_with_a_known_capacity_only_the_used_part_is_shared() -> None:
    # Ten tokens a minute are 150 a quarter-hour and 14,400 a day.
    commitment = make_commitment(tokens_per_minute=10)
    used = [usage(1, quarter=0, tokens=150, cost=1), usage(2, quarter=1, tokens=600, cost=1)]

    shares = share_out(commitment, 14_400, DAY, used)

    # The second quarter-hour could carry 150 of its 600.
    assert (shares.used, shares.spilled, shares.unused) == ((150, 150), (0, 0), 14_100)


def test_what_is_beyond_capacity_spills_at_its_own_price() -> None:
    commitment = make_commitment(tokens_per_minute=10, spills=True)
    used = [
        usage(1, quarter=0, tokens=100, cost=1_000),
        usage(1, quarter=1, tokens=100, cost=1_000),
        usage(2, quarter=1, tokens=500, cost=3_000),
    ]

    shares = share_out(commitment, 14_400, DAY, used)

    # 450 of the 600 tokens of the second quarter-hour are beyond: three quarters of 4,000.
    assert shares.spilled == (0, 750, 2_250)
    assert sum(shares.used) == 250
    assert shares.unused == 14_150


def test_what_nobody_used_is_a_line_of_nobody() -> None:
    dimensions = unused_dimensions(make_commitment())

    assert dimensions.team == "unallocated"
    assert dimensions.feature is None
    assert dimensions.tags == {"commitment": "ptu", "kind": "unused"}


@given(
    commitment=st.builds(
        make_commitment,
        share=st.sampled_from(Share),
        tokens_per_minute=st.sampled_from((None, 1, 7, 10**6)),
        spills=st.booleans(),
    ),
    fixed=st.integers(0, 10**13),
    used=st.lists(
        st.builds(
            usage,
            st.integers(1, 3),
            quarter=st.integers(0, QUARTERS - 1),
            tokens=st.integers(0, 10**7),
            cost=st.integers(0, 10**12),
        ),
        max_size=8,
    ),
)
def test_shares_and_unused_are_the_fixed_cost_to_the_nano(
    commitment: Commitment, fixed: int, used: list[CoveredUsage]
) -> None:
    shares = share_out(commitment, fixed, DAY, used)

    assert sum(shares.used) + shares.unused == fixed
    assert min((*shares.used, *shares.spilled, shares.unused)) >= 0
    assert all(
        spilled <= item.contracted_nanos + 1
        for spilled, item in zip(shares.spilled, used, strict=True)
    )


@given(
    nanos=st.fractions(0, 10**12, max_denominator=997),
    ratio=st.fractions(Fraction(1, 90), 100, max_denominator=97),
    cuts=st.sets(st.integers(1, 30 * QUARTERS - 1), max_size=6),
    per=st.sampled_from(Per),
)
def test_a_month_costs_the_same_however_it_is_cut(
    nanos: Fraction, ratio: Fraction, cuts: set[int], per: Per
) -> None:
    commitment = make_commitment(nanos_per_time=nanos, per=per)
    start = datetime.fromisoformat("2026-11-01T00:00:00Z")
    bounds = [start + number * QUARTER_HOUR for number in (0, *sorted(cuts), 30 * QUARTERS)]

    parts = [
        fixed_nanos(commitment, Period(first, last), ratio) for first, last in pairwise(bounds)
    ]

    assert sum(parts) == fixed_nanos(commitment, Period(bounds[0], bounds[-1]), ratio)
