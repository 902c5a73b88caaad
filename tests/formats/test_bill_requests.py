"""Requests to admin APIs say what is documented, and answers are cut into whole days."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bill_requests import (
    ANTHROPIC,
    APIS,
    OPENAI,
    DayBucket,
    get_api,
    load_answer,
    page_query,
    read_entries,
    read_page,
)
from tokenbudget.formats.bills import get_format
from tokenbudget.formats.bills.lines import BillLine, EmptyPeriod

COSTS = OPENAI.reports[0]
DAY = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))
MONTHS = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC))
START, END = 1_788_220_800, 1_788_307_200


def bucket(**changes: object) -> dict[str, object]:
    """Give an empty bucket of the first of September."""
    return {"start_time": START, "end_time": END, "results": [], **changes}


def answer(*buckets: object, **changes: object) -> dict[str, object]:
    """Give a page with these buckets."""
    return {"data": list(buckets), "has_more": False, "next_page": None, **changes}


def refusal(told: object) -> str:
    """Give why an answer is no page of costs."""
    with pytest.raises(BadFile) as caught:
        read_page(OPENAI, COSTS, told)
    return caught.value.detail


def test_every_report_is_stored_under_a_source_that_files_have_too() -> None:
    sources = [report.source for api in APIS for report in api.reports]

    assert [get_format(source).source for source in sources] == sources
    assert len(set(sources)) == len(sources)


def test_no_report_asks_for_users() -> None:
    groups = {group for api in APIS for report in api.reports for group in report.group_by}

    assert not groups & {"user_id", "account_id", "service_account_id"}


def test_no_more_days_are_asked_of_a_page_than_it_may_hold() -> None:
    limits = {
        dict(page_query(api, report, period, None))["limit"]
        for api in APIS
        for report in api.reports
        for period in (DAY, MONTHS)
    }

    assert limits == {"1", "7"}


def test_the_mark_of_a_page_is_added_to_the_query() -> None:
    query = page_query(ANTHROPIC, ANTHROPIC.reports[0], DAY, "page_x")

    assert query == [
        ("starting_at", "2026-09-01T00:00:00Z"),
        ("ending_at", "2026-09-02T00:00:00Z"),
        ("bucket_width", "1d"),
        ("limit", "1"),
        ("group_by[]", "workspace_id"),
        ("group_by[]", "description"),
        ("page", "page_x"),
    ]


def test_keys_go_into_the_headers_that_are_documented() -> None:
    assert OPENAI.headers("k") == {"authorization": "Bearer k"}
    assert ANTHROPIC.headers("k") == {"x-api-key": "k", "anthropic-version": "2023-06-01"}


def test_a_page_gives_its_buckets_and_the_mark_of_the_next() -> None:
    page = read_page(OPENAI, COSTS, answer(bucket(), has_more=True, next_page="page_2"))

    assert page.next_page == "page_2"
    assert [each.period for each in page.buckets] == [DAY]


def test_a_mark_without_more_pages_is_none() -> None:
    assert read_page(OPENAI, COSTS, answer(next_page="page_2")).next_page is None


def test_a_bucket_that_is_not_over_ends_within_its_day() -> None:
    [told] = read_page(OPENAI, COSTS, answer(bucket(end_time=END - 3_600))).buckets

    assert told.period.end == datetime(2026, 9, 1, 23, tzinfo=UTC)


def test_buckets_of_anthropic_are_read() -> None:
    told = {
        "starting_at": "2026-09-01T00:00:00Z",
        "ending_at": "2026-09-02T00:00:00Z",
        "results": [],
    }

    [read] = read_page(ANTHROPIC, ANTHROPIC.reports[0], answer(told)).buckets

    assert read == DayBucket(DAY, told)


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ([], "must be a page with a list named data"),
        ({"data": {}}, "must be a page with a list named data"),
        (answer(7), "must be an object with a list named results"),
        (answer({"start_time": START}), "must be an object with a list named results"),
        (answer(bucket(start_time="soon")), "start_time"),
        (answer(bucket(end_time=START)), "end_time"),
        (answer(bucket(start_time=START + 3_600)), "not of one UTC day"),
        (answer(bucket(end_time=END + 86_400)), "not of one UTC day"),
        (answer(has_more=True), "does not say which is next"),
        (answer(has_more=True, next_page=""), "does not say which is next"),
        (answer(has_more=True, next_page=7), "does not say which is next"),
    ],
)
def test_what_is_no_page_is_refused(told: object, rule: str) -> None:
    assert rule in refusal(told)


def test_a_refusal_names_the_endpoint_and_the_bucket() -> None:
    assert refusal(answer(bucket(), 7)).startswith("openai organization costs: bucket 2, ")


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1e99999999999999999999}', b"[" * 100_000])
def test_an_answer_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadFile, match="the answer is not JSON, or is cut short"):
        load_answer(OPENAI, COSTS, body)


def test_numbers_of_an_answer_keep_every_digit() -> None:
    told = load_answer(OPENAI, COSTS, b'{"value": 0.123456789012345678901234567891}')

    assert told == {"value": Decimal("0.123456789012345678901234567891")}


def test_a_bucket_is_read_as_a_page_of_its_own() -> None:
    result = {"amount": {"value": "1.50", "currency": "usd"}, "line_item": "whisper-1"}

    [line] = read_entries(COSTS, DayBucket(DAY, bucket(results=[result])))
    [empty] = read_entries(COSTS, DayBucket(DAY, bucket()))

    assert isinstance(line, BillLine)
    assert (line.billed, line.period) == (Decimal("1.50"), DAY)
    assert empty == EmptyPeriod("", DAY)


def test_a_bucket_that_goes_on_has_the_results_of_both_parts() -> None:
    first = DayBucket(DAY, bucket(results=[1]))

    joined = first.joined_with(DayBucket(DAY, bucket(results=[2, 3])))

    assert joined.results == [1, 2, 3]
    assert joined.period == DAY


def test_an_api_is_known_by_its_name() -> None:
    assert get_api("anthropic") is ANTHROPIC
    with pytest.raises(InvalidInput, match="openai, anthropic") as caught:
        get_api("mistral")
    assert caught.value.facts["field"] == "source"
