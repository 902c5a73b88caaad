"""The weekly report from ledger to file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.reporting import (
    DOLLAR,
    GENERATED_AT,
    GOLDEN,
    WEEK,
    make_facts,
    make_row,
    make_services,
    make_standing,
    render_sample,
)
from tests.rollup_builders import make_usage, roll_up
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import ConfigurationError, InvalidInput
from tokenbudget.formats.panels import UnpricedLine
from tokenbudget.formats.weekly_report import WeeklyReport, compose_weekly
from tokenbudget.services.reports import (
    build_weekly,
    choose_week,
    concerns,
    read_compares_from,
    read_last_recorded_at,
    render_weekly,
    write_weekly,
)
from tokenbudget.settings import packaged_path
from tokenbudget.store.ledger import intern_price_list

TEMPLATES = packaged_path("reports")
WEDNESDAY = datetime(2026, 11, 11, 12, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Give services on an empty ledger."""
    return make_services(tmp_path / "data", now=GENERATED_AT)


def build(services: Services, team: str | None = None, **overrides: datetime) -> WeeklyReport:
    """Give the report of week 2026-W46."""
    return build_weekly(
        services.database,
        period=WEEK,
        now=overrides.get("now", GENERATED_AT),
        currency="USD",
        timezone="UTC",
        team=team,
    )


def fill(services: Services) -> None:
    """Put usage into the week, the week before and the week after."""
    cost = {"effective_nanos": 3 * DOLLAR}
    unpriced = {"effective_nanos": 0, "unpriced_requests": 1}
    roll_up(
        services.database,
        [
            make_usage(WEDNESDAY, team="growth", feature="summarise", measures=cost),
            make_usage(WEDNESDAY, team="support", measures=cost, is_retry=True),
            make_usage(WEEK.start, team="support", model="gpt-6-preview", measures=unpriced),
            make_usage(WEDNESDAY - timedelta(days=7), team="growth", measures=cost),
            make_usage(WEEK.end, team="growth", measures=cost),
        ],
    )


def test_the_rendered_sample_is_the_golden_file() -> None:
    assert render_sample() == GOLDEN.read_text(encoding="utf-8"), (
        "the report changed; review it, then run python -m tests.reporting"
    )


def test_a_hostile_name_is_escaped_everywhere() -> None:
    html = render_sample()

    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_report_is_one_file_that_asks_for_nothing() -> None:
    html = render_sample()

    for reference in ("src=", "href=", "url(", "@import", "onclick", "style="):
        assert reference not in html


def test_usage_without_a_price_is_not_shown_as_free() -> None:
    html = render_sample()

    assert '<td class="number open">unpriced</td>' in html


def test_an_empty_week_renders_an_honest_report() -> None:
    html = render_weekly(compose_weekly(make_facts(price_list=None)), templates=TEMPLATES)

    assert "No usage was recorded" in html
    assert "No budget is in force" in html
    assert "none loaded yet" in html
    assert "<svg" not in html


def test_a_teams_report_names_the_team_and_its_own_gaps() -> None:
    rows = [make_row(DOLLAR, team="<b>", unpriced_requests=1)]

    html = render_weekly(
        compose_weekly(make_facts(rows=rows, team="<b>", generated_at=WEDNESDAY)),
        templates=TEMPLATES,
    )

    assert "team &lt;b&gt;" in html
    assert "week not over yet" in html
    assert "1 request without a price" in html


def test_the_week_is_read_from_the_ledger(services: Services) -> None:
    fill(services)
    with services.database.transaction() as session:
        intern_price_list(session, "ab" * 32, now=WEDNESDAY)

    report = build(services)

    assert report.total.amount.cents == 600
    assert report.total.amount_before.cents == 300
    assert report.daily.day_cents == (0, 0, 600, 0, 0, 0, 0)
    assert [line.group for line in report.teams.lines] == [("growth",), ("support",)]
    assert report.drivers[1].amount.cents == 300
    assert report.unpriced == (UnpricedLine("openai", "gpt-6-preview", 1, 8, 2),)
    assert report.unallocated is None
    assert report.price_list is not None
    assert report.price_list.sha256 == "ab" * 32
    assert report.compares_from == WEDNESDAY - timedelta(days=7)


def test_a_teams_report_holds_that_team_alone(services: Services) -> None:
    fill(services)

    report = build(services, team="support")

    assert report.total.amount.cents == 300
    assert report.total.now.unpriced_requests == 1
    assert report.unpriced == ()
    assert [line.group for line in report.teams.lines] == [("support",)]


def test_a_week_that_has_not_begun_is_refused(services: Services) -> None:
    with pytest.raises(InvalidInput, match="week has not begun yet"):
        build(services, now=WEEK.start - timedelta(seconds=1))


def test_the_last_complete_week_is_chosen_unless_one_is_named() -> None:
    assert choose_week(None, now=GENERATED_AT, timezone="UTC") == WEEK
    assert choose_week("2026-W46", now=GENERATED_AT, timezone="UTC") == WEEK


def test_a_comparison_is_partial_only_when_the_ledger_begins_inside_it(services: Services) -> None:
    assert read_compares_from(services.database, before=WEEK) is None

    roll_up(services.database, [make_usage(WEEK.start)])

    assert read_compares_from(services.database, before=WEEK) is None


def test_an_empty_ledger_was_never_written(services: Services) -> None:
    assert read_last_recorded_at(services.database) is None


def test_budgets_concern_a_team_by_selector_or_split() -> None:
    everybody = make_standing("all", settled=1, limit=2)
    selected = make_standing("one", settled=1, limit=2, selector={"team": frozenset({"growth"})})
    split = make_standing("each", settled=1, limit=2, split=("growth",), split_by=("team",))

    assert [concerns(each, "growth") for each in (everybody, selected, split)] == [
        False,
        True,
        True,
    ]
    assert concerns(everybody, None)


def test_files_are_named_by_week_and_format(tmp_path: Path) -> None:
    report = compose_weekly(make_facts())

    paths = write_weekly(
        report, formats=("csv", "html"), directory=tmp_path / "new", templates=TEMPLATES
    )

    assert [path.name for path in paths] == ["weekly-2026-W46.html", "weekly-2026-W46.csv"]
    assert paths[1].read_bytes().startswith(b"week,currency,table,")


@pytest.mark.parametrize(
    ("team", "name"),
    [
        ("growth", "weekly-2026-W46-growth.html"),
        ("../../etc", "weekly-2026-W46-etc-74ccf3c5.html"),
        ("..", "weekly-2026-W46-5ec1f7e7.html"),
    ],
)
def test_a_teams_name_cannot_steer_the_file(tmp_path: Path, team: str, name: str) -> None:
    report = compose_weekly(make_facts(team=team))

    paths = write_weekly(report, formats=("html",), directory=tmp_path, templates=TEMPLATES)

    assert paths[0].parent == tmp_path
    assert paths[0].name == name


def test_an_unknown_format_writes_nothing(tmp_path: Path) -> None:
    report = compose_weekly(make_facts())

    with pytest.raises(InvalidInput, match="format 'docx' is not one of html, csv"):
        write_weekly(report, formats=("html", "docx"), directory=tmp_path, templates=TEMPLATES)

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()

    with pytest.raises(ConfigurationError, match=r"report directory .*file cannot be written"):
        write_weekly(
            compose_weekly(make_facts()), formats=("html",), directory=blocker, templates=TEMPLATES
        )
