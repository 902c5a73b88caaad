"""Many callers at once share what is left of a budget, and nobody gets more than there is."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx

from tests.faults.conftest import Place
from tests.server_process import serving

CALLERS = 200
ADMITTED = 20
LIMIT = Decimal("1.00")
ESTIMATE = Decimal("0.05")
BUDGET = {"id": "growth", "limit": "1.00", "window": "month", "mode": "hard"}
TIMEOUT_SECONDS = 60


def make_check(estimate: str) -> dict[str, Any]:
    """Give a check that needs so many dollars, held until long after the test."""
    return {"tags": {"team": "growth"}, "estimate": estimate, "ttl_seconds": 600}


def make_client(url: str) -> httpx.AsyncClient:
    """Give a client with a connection for every caller."""
    limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=CALLERS)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, limits=limits)


async def ask(client: httpx.AsyncClient, estimate: str) -> dict[str, Any]:
    """Give the answer to one check."""
    response = await client.post("/v1/quota/check", json=make_check(estimate))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def ask_all_at_once(url: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Give the answers to all callers, then the decisions once one hold was given back."""
    async with make_client(url) as client:
        created = await client.post("/v1/budgets", json=BUDGET)
        assert created.status_code == 201, created.text
        answers = await asyncio.gather(*(ask(client, str(ESTIMATE)) for _ in range(CALLERS)))
        granted = next(answer["hold_id"] for answer in answers if answer["hold_id"])
        assert (await client.post(f"/v1/quota/holds/{granted}/release")).status_code == 200
        remainder = [(await ask(client, cost))["decision"] for cost in ("0.03", "0.03", "0.02")]
        last = (await ask(client, "0.000000001"))["decision"]
    return answers, [*remainder, last]


def test_two_hundred_callers_at_once_spend_a_budget_exactly(place: Place) -> None:
    with serving(place.directory, **place.settings) as server:
        answers, afterwards = asyncio.run(ask_all_at_once(server.url))
        status = httpx.get(f"{server.url}/v1/budgets/growth/status").json()
        check = httpx.get(f"{server.url}/v1/selfcheck", timeout=TIMEOUT_SECONDS).json()

    decisions = Counter(answer["decision"] for answer in answers)
    overshoot = max(Decimal(0), decisions["allow"] * ESTIMATE - LIMIT)
    print(f"admitted {decisions['allow']}, limit {LIMIT}, overshoot {overshoot}; {status}")
    assert decisions == {"allow": ADMITTED, "deny": CALLERS - ADMITTED}
    assert overshoot == 0
    assert afterwards == ["allow", "deny", "allow", "deny"]
    assert check["ok"]
