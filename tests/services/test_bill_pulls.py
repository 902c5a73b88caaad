"""Pulling bills stores what changed and nothing else, goes on after a kill, and counts once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from tests.fake_providers import (
    COST_REPORT,
    COSTS,
    FakeProviders,
    Fault,
    running_providers,
)
from tests.services.bill_cases import BILLING, stored_lines, total_in_force
from tests.services.pull_cases import (
    Killed,
    Puller,
    only,
    order_of,
    pulled_until,
    pulling,
)
from tokenbudget.domain.errors import BadFile, ConfigurationError, InvalidInput, Unavailable
from tokenbudget.formats.bill_requests import OPENAI
from tokenbudget.services.bill_pulls import PullOrder, list_stale
from tokenbudget.services.bills import import_bills
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import BillImportRow, ProviderUsageRow

SECOND = date(2026, 9, 2)
OPENAI_SOURCES = {
    "openai-costs",
    *(
        f"openai-usage-{name}"
        for name in (
            *("completions", "embeddings", "moderations", "images", "audio_speeches"),
            *("audio_transcriptions", "vector_stores", "code_interpreter_sessions"),
            *("file_search_calls", "web_search_calls"),
        )
    ),
}


@pytest.fixture
def providers() -> Iterator[FakeProviders]:
    """Give both APIs, telling what the sample pages say."""
    with running_providers() as running:
        running.tell_samples()
        yield running


@pytest.fixture
def puller(database: Database, providers: FakeProviders) -> Iterator[Puller]:
    """Give what pulls into an empty ledger."""
    with pulling(database, providers) as puller:
        yield puller


def usage_in_force(database: Database) -> list[Any]:
    """Give what providers say was used, as far as nothing replaced it."""
    usage = table_of(ProviderUsageRow)
    statement = sa.select(usage).where(usage.c.superseded_by.is_(None)).order_by(usage.c.id)
    with database.reading() as session:
        return list(session.connection().execute(statement).all())


def count_imports(database: Database) -> int:
    """Give how many imports there are."""
    with database.reading() as session:
        statement = sa.select(sa.func.count()).select_from(table_of(BillImportRow))
        return session.connection().execute(statement).scalar_one()


def test_costs_and_every_kind_of_usage_of_openai_are_pulled(puller: Puller) -> None:
    pulled = puller.pull()

    assert {report.source for report in pulled} == OPENAI_SOURCES
    costs = only(pulled, "openai-costs")
    assert (costs.days, costs.failure, costs.totals) == (50, None, {"USD": Decimal("13.775212")})
    assert total_in_force(puller.database) == Decimal("13.7752120")
    completions = [
        row for row in usage_in_force(puller.database) if row.source.endswith("completions")
    ]
    assert sum(row.input_tokens for row in completions) == 11_967_311
    assert sum(row.output_tokens for row in completions) == 1_494_220
    assert sum(row.requests for row in completions) == 6_059


def test_costs_and_usage_of_anthropic_are_pulled(puller: Puller) -> None:
    pulled = puller.pull("anthropic")

    assert [report.source for report in pulled] == ["anthropic-costs", "anthropic-usage"]
    assert total_in_force(puller.database) == Decimal("20.49231875")
    usage = usage_in_force(puller.database)
    assert sum(row.input_tokens for row in usage) == 9_231_334
    assert sum(row.output_tokens for row in usage) == 988_425


def test_the_first_pull_begins_with_the_month_before_and_leaves_today_out(puller: Puller) -> None:
    costs = only(puller.pull(), "openai-costs")

    assert costs.period.start == datetime(2026, 8, 1, tzinfo=UTC)
    assert costs.period.end == datetime(2026, 9, 20, tzinfo=UTC)
    assert set(pulled_until(puller.database).values()) == {"2026-09-20"}


def test_what_is_asked_is_as_fine_as_the_api_allows_and_within_its_limits(puller: Puller) -> None:
    puller.pull()
    puller.pull("anthropic")

    august, september = (
        [
            asked.query
            for asked in puller.providers.asked_of(COSTS)
            if asked.query["end_time"] == [end]
        ]
        for end in ("1788220800", "1789862400")
    )
    assert august[0] == {
        "start_time": ["1785542400"],
        "end_time": ["1788220800"],
        "bucket_width": ["1d"],
        "limit": ["7"],
        "group_by": ["project_id", "line_item", "api_key_id"],
    }
    assert august[1] == {**august[0], "page": ["page_7"]}
    assert (len(august), len(september)) == (5, 3)
    first = puller.providers.asked_of(COST_REPORT)[0].query
    assert first["starting_at"] == ["2026-08-01T00:00:00Z"]
    assert first["ending_at"] == ["2026-09-01T00:00:00Z"]
    assert first["group_by[]"] == ["workspace_id", "description"]


@pytest.mark.parametrize(("page_days", "page_results"), [(1, None), (3, None), (1, 2)])
def test_days_are_the_same_however_they_are_cut_into_pages(
    puller: Puller, page_days: int, page_results: int | None
) -> None:
    puller.providers.page_days, puller.providers.page_results = page_days, page_results
    order = order_of("2026-09-01", "2026-09-05")

    costs = only(puller.pull(order=order), "openai-costs")

    assert (costs.days, costs.changed_days) == (4, 3)
    assert total_in_force(puller.database) == Decimal("13.7752120")
    assert len(puller.providers.asked_of(COSTS)) > 1


def test_pulling_again_stores_nothing(puller: Puller) -> None:
    puller.pull()
    imports = count_imports(puller.database)

    again = puller.pull()

    assert count_imports(puller.database) == imports
    assert {report.changed_days for report in again} == {0}
    assert only(again, "openai-costs").period.start == datetime(2026, 9, 13, tzinfo=UTC)
    assert only(again, "openai-costs").days == 7


def test_the_same_told_in_another_way_is_no_restatement(puller: Puller) -> None:
    order = order_of("2026-09-01", "2026-09-05")
    puller.pull(order=order)
    for results in puller.providers.days[COSTS].values():
        results.reverse()
        for result in results:
            result["amount"]["value"] = str(result["amount"]["value"])
            result["not_documented"] = "yet"

    again = only(puller.pull(order=order), "openai-costs")

    assert again.changed_days == 0


def test_a_restated_day_replaces_the_old_one_which_is_kept(puller: Puller) -> None:
    order = order_of("2026-09-01", "2026-09-05")
    puller.pull(order=order)
    before = len(stored_lines(puller.database))
    puller.providers.tell_page(COSTS, "openai-costs.restated-day2.json")

    again = only(puller.pull(order=order), "openai-costs")

    assert again.changed_days == 1
    assert again.superseded_lines > 0
    lines = stored_lines(puller.database)
    assert len(lines) == before + again.line_count
    superseded = [line for line in lines if line.superseded_by is not None]
    assert {line.period_start.date() for line in superseded} == {SECOND}
    assert total_in_force(puller.database) == Decimal("13.7752140")


def test_a_day_that_goes_back_to_what_it_said_first_is_stored_a_third_time(puller: Puller) -> None:
    order = order_of("2026-09-01", "2026-09-05")
    puller.pull(order=order)
    first = puller.providers.days[COSTS][SECOND]
    puller.providers.tell_page(COSTS, "openai-costs.restated-day2.json")
    puller.pull(order=order)
    puller.providers.days[COSTS][SECOND] = first

    third = only(puller.pull(order=order), "openai-costs")
    fourth = only(puller.pull(order=order), "openai-costs")

    assert (third.changed_days, fourth.changed_days) == (1, 0)
    assert total_in_force(puller.database) == Decimal("13.7752120")


def test_a_day_that_is_taken_back_whole_counts_no_more(puller: Puller) -> None:
    order = order_of("2026-09-01", "2026-09-05")
    puller.pull(order=order)
    del puller.providers.days[COSTS][SECOND]

    changed = only(puller.pull(order=order), "openai-costs").changed_days
    again = only(puller.pull(order=order), "openai-costs").changed_days

    assert (changed, again) == (1, 0)
    # 13.7752120 - 6.5693225 of the second day.
    assert total_in_force(puller.database) == Decimal("7.2058895")


def test_a_day_that_a_file_replaced_is_put_right_again(puller: Puller) -> None:
    order = order_of("2026-09-01", "2026-09-05")
    puller.pull(order=order)
    file = BILLING / "openai-costs.restated-day2.json"
    import_bills(puller.database, [file], now=puller.now)

    again = only(puller.pull(order=order), "openai-costs")

    assert again.changed_days == 1
    assert total_in_force(puller.database) == Decimal("13.7752120")


def test_amounts_keep_every_digit_as_numbers_and_as_texts(puller: Puller) -> None:
    digits = "0.123456789012345678901234567891"
    for number, value in enumerate((Decimal(digits), digits)):
        puller.providers.days[COSTS] = {
            SECOND: [{"amount": {"value": value, "currency": "usd"}, "line_item": f"m-{number}"}]
        }
        puller.pull(order=order_of("2026-09-02", "2026-09-03"))

        [line] = [line for line in stored_lines(puller.database) if line.superseded_by is None]
        assert (line.billed_amount, line.description) == (digits, f"m-{number}")


def test_everything_belongs_to_the_account_of_the_pull_whatever_a_report_calls_it(
    puller: Puller,
) -> None:
    order = order_of("2026-09-02", "2026-09-03", account="acme")
    puller.pull(order=order)
    for result in puller.providers.days[COSTS][SECOND]:
        result["organization_id"] = "org-1"

    again = only(puller.pull(order=order), "openai-costs")

    assert (again.account, again.changed_days) == ("acme", 1)
    assert total_in_force(puller.database) == Decimal("6.5693225")
    in_force = [line for line in stored_lines(puller.database) if line.superseded_by is None]
    assert {line.account for line in in_force} == {"acme"}
    assert {line.tags["x_account"] for line in in_force} == {"org-1"}
    assert {line.file_name for line in in_force} == {"openai-costs/acme/2026-09-02"}


def test_an_empty_day_of_a_named_account_takes_the_day_back(puller: Puller) -> None:
    order = order_of("2026-09-02", "2026-09-03", account="acme")
    puller.pull(order=order)
    puller.providers.days[COSTS] = {}

    puller.pull(order=order)

    assert total_in_force(puller.database) == Decimal(0)


def test_recent_days_are_read_again_and_the_month_before_until_its_invoice(puller: Puller) -> None:
    puller.now = datetime(2026, 9, 5, 12, tzinfo=UTC)
    puller.pull()
    puller.now += timedelta(days=1)
    early = only(puller.pull(), "openai-costs")
    puller.now = datetime(2026, 9, 11, 12, tzinfo=UTC)
    late = only(puller.pull(), "openai-costs")

    assert early.period.start == datetime(2026, 8, 1, tzinfo=UTC)
    assert late.period.start == datetime(2026, 9, 4, tzinfo=UTC)


def test_a_pull_that_was_killed_goes_on_where_it_stopped(puller: Puller) -> None:
    puller.providers.page_days = 1
    puller.requests_left = 35
    with pytest.raises(Killed):
        puller.pull()
    # 35 pages were read, until the fourth of September; the second is the last that said news.
    assert pulled_until(puller.database) == {"openai-costs": "2026-09-03"}
    puller.requests_left = None
    puller.providers.asked.clear()

    pulled = puller.pull()

    assert only(pulled, "openai-costs").period.start == datetime(2026, 9, 3, tzinfo=UTC)
    assert total_in_force(puller.database) == Decimal("13.7752120")
    assert set(pulled_until(puller.database)) == OPENAI_SOURCES


def test_a_pull_killed_between_a_day_and_its_progress_does_not_count_it_twice(
    puller: Puller,
) -> None:
    order = order_of("2026-09-01", "2026-09-03")
    puller.pull(order=order)
    # What progress was noted is lost, as if the process had died before it.
    with puller.database.transaction() as session:
        session.connection().exec_driver_sql("DELETE FROM bill_pulls")

    puller.pull(order=order)

    # 9.40 of the first and 6.5693225 of the second day.
    assert total_in_force(puller.database) == Decimal("15.9693225")


def test_days_that_are_named_are_read_without_leaving_a_gap_behind(puller: Puller) -> None:
    puller.pull(order=order_of("2026-09-01", "2026-09-03"))
    puller.pull(order=order_of("2026-09-04", "2026-09-05"))
    with_gap = pulled_until(puller.database)["openai-costs"]
    puller.pull(order=order_of("2026-08-01", "2026-09-02"))
    earlier = pulled_until(puller.database)["openai-costs"]
    puller.pull(order=order_of("2026-09-03", "2026-09-05"))

    assert (with_gap, earlier) == ("2026-09-03", "2026-09-03")
    assert pulled_until(puller.database)["openai-costs"] == "2026-09-05"


def test_today_is_read_when_it_is_named_and_never_taken_as_final(puller: Puller) -> None:
    puller.now = datetime(2026, 9, 2, 12, tzinfo=UTC)
    costs = only(puller.pull(order=order_of("2026-09-01", "2026-09-03")), "openai-costs")
    puller.providers.tell_page(COSTS, "openai-costs.restated-day2.json")
    puller.now += timedelta(days=1)
    puller.pull()

    assert costs.days == 2
    # 9.40 of the first day and 6.5693245 of the second one as it was told when it was over.
    assert total_in_force(puller.database) == Decimal("15.9693245")
    assert pulled_until(puller.database)["openai-costs"] == "2026-09-03"


def test_progress_ends_with_yesterday_even_when_today_was_read(puller: Puller) -> None:
    puller.pull(order=order_of("2026-09-18", "2026-09-21"))

    assert pulled_until(puller.database)["openai-costs"] == "2026-09-20"


@pytest.mark.parametrize(
    ("first", "after", "field"),
    [("2026-09-05", "2026-09-05", "from"), ("2026-09-01", "2026-09-22", "to")],
)
def test_days_that_cannot_be_read_are_refused(
    puller: Puller, first: str, after: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        puller.pull(order=order_of(first, after))

    assert caught.value.facts["field"] == field
    assert puller.providers.asked == []


def test_a_report_that_fails_keeps_no_other_from_being_read(puller: Puller) -> None:
    puller.providers.faults.append(Fault(404, body=b"gone"))

    pulled = puller.pull()

    failed = only(pulled, "openai-costs")
    assert isinstance(failed.failure, InvalidInput)
    assert failed.days == 0
    assert {report.source for report in pulled if report.failure is None} == (
        OPENAI_SOURCES - {"openai-costs"}
    )


def test_days_before_a_failure_are_stored(puller: Puller) -> None:
    puller.providers.page_days = 1
    puller.providers.days[COSTS][date(2026, 9, 3)] = [{"amount": "no object"}]

    costs = only(puller.pull(order=order_of("2026-09-01", "2026-09-05")), "openai-costs")

    assert isinstance(costs.failure, BadFile)
    assert "openai-costs 2026-09-03" in costs.failure.detail
    assert (costs.days, costs.changed_days) == (2, 2)
    assert total_in_force(puller.database) == Decimal("15.9693225")
    assert pulled_until(puller.database)["openai-costs"] == "2026-09-03"


def test_a_scheduled_pull_reads_what_is_due(puller: Puller) -> None:
    first = puller.pull_scheduled()
    puller.now += timedelta(hours=5, minutes=59)
    early = puller.pull_scheduled()
    puller.now += timedelta(minutes=1)
    due = puller.pull_scheduled()

    assert (len(first), len(early), len(due)) == (11, 0, 11)


def test_a_scheduled_pull_that_fails_is_due_again_and_others_are_not(puller: Puller) -> None:
    puller.providers.faults.append(Fault(404, body=b"gone"))
    with structlog.testing.capture_logs() as logs:
        puller.pull_scheduled()
    puller.now += timedelta(minutes=15)

    again = puller.pull_scheduled()

    assert [report.source for report in again] == ["openai-costs"]
    assert again[0].failure is None
    [failed] = [line for line in logs if line["event"] == "bills_pull_failed"]
    assert failed["source"] == "openai-costs"
    assert "404" in failed["error"]


def test_a_first_pull_that_stopped_half_way_is_due_at_once(puller: Puller) -> None:
    puller.providers.page_days = 1
    puller.requests_left = 20
    with pytest.raises(Killed):
        puller.pull_scheduled()
    puller.requests_left = None
    puller.now += timedelta(minutes=15)

    again = puller.pull_scheduled()

    assert len(again) == 11
    assert {report.failure for report in again} == {None}


def test_a_refused_key_is_logged_once_without_it(puller: Puller) -> None:
    puller.keys["openai"] = "sk-admin-of-somebody-else"

    with structlog.testing.capture_logs() as logs:
        pulled = puller.pull_scheduled()

    assert pulled == []
    assert len(puller.providers.asked) == 1
    [refused] = [line for line in logs if line["event"] == "bills_pull_refused"]
    assert "OPENAI_ADMIN_KEY" in refused["error"]
    assert "sk-admin" not in str(logs)


def test_a_pull_that_stays_behind_is_logged_as_stale(puller: Puller) -> None:
    puller.pull_scheduled()
    puller.now += timedelta(hours=25)
    puller.providers.keys.clear()

    with structlog.testing.capture_logs() as logs:
        puller.pull_scheduled()

    [stale] = [line for line in logs if line["event"] == "bills_pull_stale"]
    assert set(stale["sources"]) == OPENAI_SOURCES


def test_a_report_that_was_never_pulled_is_stale(database: Database) -> None:
    now = datetime(2026, 9, 20, tzinfo=UTC)

    stale = list_stale(database, OPENAI, "", now=now, limit=timedelta(hours=24))

    assert set(stale) == OPENAI_SOURCES


def test_a_key_that_is_refused_stops_the_pull(puller: Puller) -> None:
    puller.keys["anthropic"] = "sk-ant-wrong"

    with pytest.raises(ConfigurationError, match="ANTHROPIC_ADMIN_KEY") as caught:
        puller.pull("anthropic")

    assert "sk-ant-wrong" not in caught.value.detail


def test_a_provider_that_stays_away_fails_every_report_and_keeps_the_days(puller: Puller) -> None:
    puller.pull(order=order_of("2026-09-01", "2026-09-03"))
    puller.providers.faults.extend(Fault(503, body=b"") for _ in range(200))

    pulled = puller.pull(order=PullOrder())

    assert {type(report.failure) for report in pulled} == {Unavailable}
    assert sum(puller.pauses) <= 600
    assert total_in_force(puller.database) == Decimal("15.9693225")
