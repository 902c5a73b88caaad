"""The invented bill: a page of OpenAI's costs API that almost agrees with the replay.

It owns by how much the bill differs; it refuses to know what the replay cost: the caller says it.
Shape: ``GET /v1/organization/costs`` with one-day buckets grouped by project, key and line item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from tokenbudget.domain.money import divide_half_even, format_nanos

PER_MILLE: Final = 1_000
LARGEST_DRIFT_PER_MILLE: Final = 12
DRIFT_STEP: Final = 7
UNTRACKED_PER_MILLE: Final = 37
MAX_BUCKETS: Final = 180

TRACKED_PROJECT: Final = "proj_gateway"
TRACKED_KEY: Final = (TRACKED_PROJECT, "key_gateway_prod")
UNTRACKED_KEY: Final = ("proj_default", "key_found_in_a_notebook")


def openai_costs_page(daily_costs: Mapping[tuple[date, str], int]) -> dict[str, Any]:
    """Give a costs page for what was rated: nanos of US dollars by (UTC day, model), zero or more.

    Every day from the first to the last is a bucket, without results when nothing was rated.
    What is billed drifts from what was rated by at most 12 per mille a day; the middle one of the
    days with costs agrees exactly, but for 37 per mille of its dearest model on top, spent through
    a key nobody tracks. Equal input gives an equal page. Raises ValueError for more days than one
    page of the API holds.
    """
    days = sorted({day for day, _ in daily_costs})
    if not days:
        return _page([])
    bucket_days = [days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)]
    if len(bucket_days) > MAX_BUCKETS:
        raise ValueError(f"{len(bucket_days)} days do not fit into a page of {MAX_BUCKETS} buckets")
    untracked_day = days[len(days) // 2]
    by_day: dict[date, dict[str, int]] = {day: {} for day in bucket_days}
    for (day, model), nanos in sorted(daily_costs.items()):
        by_day[day][model] = nanos
    results = {day: _drifting_results(day, models) for day, models in by_day.items()}
    results[untracked_day] = _untracked_results(by_day[untracked_day])
    return _page([_bucket(day, results[day]) for day in bucket_days])


def _drifting_results(day: date, models: Mapping[str, int]) -> list[dict[str, Any]]:
    possible_drifts = 2 * LARGEST_DRIFT_PER_MILLE + 1
    drift = day.toordinal() * DRIFT_STEP % possible_drifts - LARGEST_DRIFT_PER_MILLE
    return [
        _result(model, divide_half_even(nanos * (PER_MILLE + drift), PER_MILLE), TRACKED_KEY)
        for model, nanos in models.items()
    ]


def _untracked_results(models: Mapping[str, int]) -> list[dict[str, Any]]:
    dearest = max(models, key=lambda model: models[model])
    untracked = divide_half_even(models[dearest] * UNTRACKED_PER_MILLE, PER_MILLE)
    tracked = [_result(model, nanos, TRACKED_KEY) for model, nanos in models.items()]
    return [*tracked, _result(dearest, untracked, UNTRACKED_KEY)]


def _result(model: str, nanos: int, key: tuple[str, str]) -> dict[str, Any]:
    project_id, api_key_id = key
    return {
        "object": "organization.costs.result",
        "amount": {"value": format_nanos(nanos), "currency": "usd"},
        "line_item": f"{model}, text tokens",
        "project_id": project_id,
        "api_key_id": api_key_id,
        "quantity": None,
        "quantity_unit": None,
    }


def _bucket(day: date, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    start = datetime.combine(day, time(), tzinfo=UTC)
    return {
        "object": "bucket",
        "start_time": int(start.timestamp()),
        "end_time": int((start + timedelta(days=1)).timestamp()),
        "results": list(results),
    }


def _page(buckets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "page", "data": list(buckets), "has_more": False, "next_page": None}
