"""What is asked of providers' admin APIs, and how their answers are cut into days.

Shapes: OpenAI's OpenAPI description of 2026-08-21 (``/v1/organization/...``) and the Claude
Platform documentation of August 2026 (``/v1/organizations/...``). It owns paths, queries, headers,
marks of pages and the edges of buckets; it refuses sockets, waiting, and the meaning of a result,
which ``formats/bills`` reads. Users are never asked for by name: projects and keys are enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.periods import EPOCH, Period, format_instant
from tokenbudget.formats.bills import (
    anthropic_costs,
    anthropic_usage,
    openai_costs,
    openai_usage,
    pages,
)
from tokenbudget.formats.bills.cells import day_of
from tokenbudget.formats.bills.lines import BillEntry, Place, refuse_file

ANTHROPIC_VERSION: Final = "2023-06-01"
OPENAI_USAGE_PATH: Final = "/v1/organization/usage"

# Every endpoint gives so many daily buckets on a page. Most refuse more than 31 with a 400, and a
# page of so many days of a large organisation would not fit into memory.
PAGE_DAYS: Final = 7

PROJECT_AND_KEY: Final = ("project_id", "api_key_id")
# What every endpoint of OpenAI's usage can be divided by.
OPENAI_USAGE_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "completions": (*PROJECT_AND_KEY, "model", "batch", "service_tier"),
    "embeddings": (*PROJECT_AND_KEY, "model"),
    "moderations": (*PROJECT_AND_KEY, "model"),
    "images": (*PROJECT_AND_KEY, "model", "size", "source"),
    "audio_speeches": (*PROJECT_AND_KEY, "model"),
    "audio_transcriptions": (*PROJECT_AND_KEY, "model"),
    "vector_stores": ("project_id",),
    "code_interpreter_sessions": ("project_id",),
    "file_search_calls": (*PROJECT_AND_KEY, "vector_store_id"),
    "web_search_calls": (*PROJECT_AND_KEY, "model", "context_level"),
}
ANTHROPIC_USAGE_GROUPS: Final = (
    "api_key_id",
    "workspace_id",
    "model",
    "service_tier",
    "context_window",
    "inference_geo",
)

PageReader = Callable[[Mapping[str, Any], Path], Iterator[BillEntry]]
Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Report:
    """One endpoint: the source its entries are stored under, and how a page of it is read."""

    source: str
    path: str
    group_by: tuple[str, ...]
    read: PageReader


@dataclass(frozen=True, slots=True)
class DayBucket:
    """What a report says about one bucket, as told, with the key of its results intact."""

    period: Period
    bucket: Mapping[str, Any]

    @property
    def results(self) -> Sequence[object]:
        """Give the results of the bucket."""
        results: Sequence[object] = self.bucket["results"]
        return results

    def joined_with(self, later: DayBucket) -> DayBucket:
        """Give the bucket with the results that another page tells of the same time."""
        return DayBucket(self.period, {**self.bucket, "results": [*self.results, *later.results]})


@dataclass(frozen=True, slots=True)
class Page:
    """The buckets of one page in order, and the mark of the next one, None at the last."""

    buckets: tuple[DayBucket, ...]
    next_page: str | None


@dataclass(frozen=True, slots=True)
class AdminApi:
    """A provider's API for billing: its name, its reports and how it is asked."""

    name: str
    key_variable: str
    reports: tuple[Report, ...]
    headers: Callable[[str], dict[str, str]]
    query: Callable[[Report, Period], Query]
    shape: pages.PageShape


def load_answer(api: AdminApi, report: Report, body: bytes) -> object:
    """Give the JSON of an answer with every digit; raises BadFile when it was cut off."""
    try:
        answer: object = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:
        rule = f"the answer is not JSON, or is cut short: {error}"
        raise refuse_file(_place(api, report), rule) from None
    return answer


def read_page(api: AdminApi, report: Report, answer: object) -> Page:
    """Give the buckets of an answer, each of one UTC day, and the mark of the next page.

    Raises BadFile when it is no page.
    """
    place = _place(api, report)
    told = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(told, list):
        raise refuse_file(place, "the answer must be a page with a list named data")
    buckets = [
        _read_bucket(api, bucket, Place(place, f"bucket {number}"))
        for number, bucket in enumerate(told, start=1)
    ]
    return Page(tuple(buckets), _next_page(answer, place))


def read_entries(report: Report, bucket: DayBucket) -> list[BillEntry]:
    """Give what a bucket says, read as a page of its own; raises BadFile as any import does."""
    page = {"object": "page", "data": [bucket.bucket], "has_more": False, "next_page": None}
    day = bucket.period.start.date().isoformat()
    return list(report.read(page, Path(f"{report.source} {day}")))


def page_query(api: AdminApi, report: Report, period: Period, mark: str | None) -> Query:
    """Give the query for the days of a period; ``mark`` is that of the page to begin with."""
    query = api.query(report, period)
    return query if mark is None else [*query, ("page", mark)]


def get_api(name: str) -> AdminApi:
    """Give the API of that name; raises InvalidInput listing the names there are."""
    for api in APIS:
        if api.name == name:
            return api
    known = ", ".join(api.name for api in APIS)
    raise InvalidInput(f"source {name!r} is not one that can be pulled: {known}", field="source")


def _place(api: AdminApi, report: Report) -> Path:
    return Path(report.path.replace("/v1", api.name, 1).replace("/", " "))


def _read_bucket(api: AdminApi, bucket: object, place: Place) -> DayBucket:
    if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
        raise place.refuse("data", "must be an object with a list named results")
    period = api.shape.period(bucket, place)
    day = day_of(period.start)
    if period.start != day.start or period.end > day.end:
        raise place.refuse(api.shape.start, "the bucket is not of one UTC day")
    return DayBucket(period, bucket)


def _next_page(page: Mapping[str, Any], place: Path) -> str | None:
    mark = page.get("next_page")
    if not page.get("has_more"):
        return None
    if not isinstance(mark, str) or not mark:
        raise refuse_file(place, "the answer has more pages and does not say which is next")
    return mark


def _openai_headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _openai_query(report: Report, period: Period) -> Query:
    return [
        ("start_time", str(_unix_seconds(period.start))),
        ("end_time", str(_unix_seconds(period.end))),
        ("bucket_width", "1d"),
        ("limit", str(min((period.end - period.start).days, PAGE_DAYS))),
        *(("group_by", group) for group in report.group_by),
    ]


def _anthropic_headers(key: str) -> dict[str, str]:
    return {"x-api-key": key, "anthropic-version": ANTHROPIC_VERSION}


def _anthropic_query(report: Report, period: Period) -> Query:
    return [
        ("starting_at", format_instant(period.start)),
        ("ending_at", format_instant(period.end)),
        ("bucket_width", "1d"),
        ("limit", str(min((period.end - period.start).days, PAGE_DAYS))),
        *(("group_by[]", group) for group in report.group_by),
    ]


def _unix_seconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(seconds=1)


OPENAI: Final = AdminApi(
    name="openai",
    key_variable="OPENAI_ADMIN_KEY",
    reports=(
        Report(
            openai_costs.SOURCE,
            "/v1/organization/costs",
            ("project_id", "line_item", "api_key_id"),
            openai_costs.read_page,
        ),
        *(
            Report(
                endpoint.source,
                f"{OPENAI_USAGE_PATH}/{endpoint.name}",
                OPENAI_USAGE_GROUPS[endpoint.name],
                partial(openai_usage.read_page, endpoint=endpoint),
            )
            for endpoint in openai_usage.ENDPOINTS
        ),
    ),
    headers=_openai_headers,
    query=_openai_query,
    shape=pages.OPENAI,
)
ANTHROPIC: Final = AdminApi(
    name="anthropic",
    key_variable="ANTHROPIC_ADMIN_KEY",
    reports=(
        Report(
            anthropic_costs.SOURCE,
            "/v1/organizations/cost_report",
            ("workspace_id", "description"),
            anthropic_costs.read_page,
        ),
        Report(
            anthropic_usage.SOURCE,
            "/v1/organizations/usage_report/messages",
            ANTHROPIC_USAGE_GROUPS,
            anthropic_usage.read_page,
        ),
    ),
    headers=_anthropic_headers,
    query=_anthropic_query,
    shape=pages.ANTHROPIC,
)
APIS: Final = (OPENAI, ANTHROPIC)
