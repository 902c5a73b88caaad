"""The weekly report as facts: its tables agree, its sentences are true, its CSV is safe."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from tests.reporting import DOLLAR, GENERATED_AT, WEEK, make_facts, make_row, sample_facts
from tokenbudget.domain.breakdowns import Breakdown
from tokenbudget.domain.periods import Period
from tokenbudget.formats.panels import Tile
from tokenbudget.formats.weekly_csv import weekly_csv
from tokenbudget.formats.weekly_headline import headline_sentences
from tokenbudget.formats.weekly_report import WeeklyReport, compose_weekly

REPORT = compose_weekly(sample_facts())


@pytest.mark.parametrize(
    "table",
    [REPORT.teams, REPORT.features, REPORT.tenants, REPORT.movers],
    ids=["teams", "features", "tenants", "movers"],
)
def test_every_table_adds_up_to_the_same_total(table: Breakdown) -> None:
    assert table.total.amount.cents == 110_632
    assert sum(line.amount.cents for line in table.lines) == 110_632
    assert sum(line.amount_before.cents for line in table.lines) == 98_659
    assert sum(line.amount.nanos for line in table.lines) == 1_106_323_683_901


def test_days_and_effects_add_up_too() -> None:
    assert REPORT.daily.total_cents == 110_632
    assert sum(effect.amount.cents for effect in REPORT.effects) == 110_632 - 98_659
    assert sum(effect.amount.nanos for effect in REPORT.effects) == REPORT.total.change.nanos


def test_tiles_compare_with_the_week_before() -> None:
    assert REPORT.tiles == (
        Tile("Spend", "$1,106.32", "week before $986.59", "+12.1%"),
        Tile("Requests", "85,400", "week before 81,295", "+5.0%"),
        Tile("Tokens", "102.5M", "week before 97.6M", "+5.0%"),
        Tile("Input from cache", "25.0%", "week before 25.0%"),
        Tile("Cost per 1,000 requests", "$12.96", "week before $12.14", "+6.8%"),
    )


def test_drivers_are_named_and_the_dearest_models_follow() -> None:
    drivers = [(line.name, line.amount.cents, line.share) for line in REPORT.drivers]

    assert drivers == [
        ("Evaluation traffic", 4_100, "3.7%"),
        ("Retries", 770, "0.7%"),
        ("Failed requests", 325, "0.3%"),
        ("Model claude-sonnet-4-5", 88_220, "79.7%"),
        ("Model gemini-2.5-flash", 9_512, "8.6%"),
        ("Model gpt-5.2", 8_800, "8.0%"),
    ]
    assert REPORT.drivers[3].change.cents == 88_220 - 82_859


def test_the_headline_says_what_matters_most_first() -> None:
    assert headline_sentences(REPORT) == (
        "Spend rose 12.1% to $1,106.32 in the week of 9–15 November 2026, "
        "from $986.59 the week before.",
        "support: reply-drafts on claude-sonnet-4-5 explains $83.30 of the rise.",
        "1 budget has reached the limit and 1 more is forecast to exceed it.",
        "1,450 requests name no team: $28.40, 2.6% of the spend.",
        "22 requests have no price yet and are in no amount.",
    )


def say(**overrides: Any) -> tuple[str, ...]:
    """Give the headline of the sample week, changed."""
    return headline_sentences(compose_weekly(make_facts(**overrides)))


def test_an_empty_week_says_so() -> None:
    report = compose_weekly(make_facts())

    assert report.is_empty
    assert report.tiles[0] == Tile("Spend", "$0.00", "week before $0.00", "–")
    assert report.tiles[4] == Tile("Cost per 1,000 requests", "–", "week before –", "–")
    assert headline_sentences(report) == (
        "No usage was recorded in the week of 9–15 November 2026, nor in the week before.",
    )


def test_a_first_week_is_compared_with_nothing() -> None:
    sentences = say(rows=[make_row(DOLLAR)])

    assert sentences == (
        "Spend was $1.00 in the week of 9–15 November 2026; "
        "there is no week before to compare it with.",
    )


def test_a_week_under_way_makes_no_claim() -> None:
    sentences = say(
        rows=[make_row(DOLLAR)],
        rows_before=[make_row(2 * DOLLAR)],
        period=Period(WEEK.end, WEEK.end + (WEEK.end - WEEK.start)),
    )

    assert sentences == ("Spend so far is $1.00; the whole week before came to $2.00.",)


def test_a_fall_is_explained_by_what_fell() -> None:
    sentences = say(
        rows=[make_row(DOLLAR), make_row(DOLLAR, feature="search")],
        rows_before=[make_row(3 * DOLLAR)],
    )

    assert sentences[0].startswith("Spend fell 33.3% to $2.00")
    assert sentences[1] == (
        "The largest fall is support: reply-drafts on claude-sonnet-4-5, by $2.00; "
        "others moved the other way."
    )


def test_an_unchanged_week_has_no_mover() -> None:
    sentences = say(rows=[make_row(DOLLAR)], rows_before=[make_row(DOLLAR)])

    assert sentences == (
        "Spend was $1.00 in the week of 9–15 November 2026, after $1.00 the week before.",
    )


def test_a_rise_spread_too_thin_to_name_is_not_pinned_on_anybody() -> None:
    sentences = say(
        rows=[make_row(DOLLAR // 2, feature=f"riser-{number}") for number in range(40)],
        rows_before=[make_row(DOLLAR, feature=f"faller-{number}") for number in range(8)],
    )

    assert sentences == (
        "Spend rose 150.0% to $20.00 in the week of 9–15 November 2026, "
        "from $8.00 the week before.",
    )


def test_a_ledger_that_begins_in_the_week_before_is_no_fair_comparison() -> None:
    sentences = say(
        rows=[make_row(DOLLAR)], rows_before=[make_row(DOLLAR)], compares_from=WEEK.start
    )

    assert sentences[1] == (
        "The ledger begins on 9 Nov 2026, 00:00, so it holds only a part of the week before."
    )


def test_several_budgets_in_trouble_are_counted_in_words() -> None:
    standings = sample_facts().standings
    spent, forecast = standings[1], standings[2]

    assert say(standings=[spent, spent])[-1] == "2 budgets have reached the limit."
    assert say(standings=[forecast])[-1] == "1 budget is forecast to exceed it."
    assert say(standings=[forecast, forecast])[-1] == "2 budgets are forecast to exceed it."


def test_one_request_is_singular_and_a_team_is_not_told_of_the_unallocated() -> None:
    row = make_row(DOLLAR, team="unallocated", unpriced_requests=1)

    assert say(rows=[row])[1:] == (
        "100 requests name no team: $1.00, 100.0% of the spend.",
        "1 request has no price yet and is in no amount.",
    )
    assert len(say(rows=[row], team="unallocated")) == 2


def read_csv(report: WeeklyReport) -> list[dict[str, str]]:
    """Give the rows of the report's CSV."""
    return list(csv.DictReader(io.StringIO(weekly_csv(report))))


def test_the_csv_holds_every_table_with_exact_amounts() -> None:
    rows = read_csv(REPORT)

    assert rows[0]["table"] == "total"
    assert rows[0]["effective_cost"] == "1106.323683901"
    assert rows[0]["requests_before"] == "81295"
    assert {row["table"] for row in rows} == {
        "total",
        "team",
        "feature",
        "tenant",
        "mover",
        "driver",
        "effect",
    }
    assert next(row["model"] for row in rows if row["table"] == "mover") == "claude-sonnet-4-5"


def test_the_csv_names_the_rest_of_a_long_table() -> None:
    rows = [make_row(DOLLAR, tenant=f"tenant-{number:02d}") for number in range(20)]

    listed = read_csv(compose_weekly(make_facts(rows=rows)))

    tenants = [row for row in listed if row["table"] == "tenant"]
    assert len(tenants) == 16
    assert (tenants[-1]["item"], tenants[-1]["effective_cost"]) == (
        "5 other tenants",
        "5.000000000",
    )


def test_a_name_that_is_a_formula_stays_text_in_a_spreadsheet() -> None:
    rows = [make_row(DOLLAR, tenant='=HYPERLINK("http://x")')]

    listed = read_csv(compose_weekly(make_facts(rows=rows)))

    assert '\'=HYPERLINK("http://x")' in {row["tenant"] for row in listed}


def test_the_report_knows_whether_its_week_is_over() -> None:
    assert REPORT.is_over
    assert REPORT.period.end <= GENERATED_AT
