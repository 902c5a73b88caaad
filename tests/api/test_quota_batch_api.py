"""``POST /v1/quota/check:batch``: many checks, each answered as if it had been asked alone."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.builders import broken_rules, make_budget, make_check, set_budgets, standings
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services
from tokenbudget.formats.quota import MAX_CHECKS

PATH = "/v1/quota/check:batch"
CENT = 10_000_000


@pytest.fixture(autouse=True)
def dime(services: Services, clock: FrozenClock) -> None:
    """Set a hard budget of ten cents; the usual check may cost two."""
    set_budgets(services.database, make_budget(limit="0.10"), now=clock())


def answers(client: TestClient, body: Any) -> list[dict[str, Any]]:
    """Give the answers to a batch that is in order as a whole."""
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["answers"]
    return found


def test_checks_are_decided_in_their_order_until_nothing_is_left(
    client: TestClient, services: Services
) -> None:
    found = answers(client, [make_check(max_output_tokens=5_000, input_tokens=10_000)] * 6)

    assert [each["decision"] for each in found] == [*["allow"] * 5, "deny"]
    assert len({each["hold_id"] for each in found}) == 6
    assert [each["binding"]["held"] for each in found[:2]] == ["0.020000000", "0.040000000"]
    assert standings(services.database, now=services.clock()) == {("all",): (0, 10 * CENT)}
    assert broken_rules(services.database) == []


def test_a_check_at_fault_is_a_problem_of_its_own(client: TestClient, services: Services) -> None:
    checks = [make_check(), make_check(input_tokens=-1), {"nonsense": 1}, 7, make_check()]

    found = answers(client, {"checks": checks})

    assert [each.get("decision") for each in found] == ["allow", None, None, None, "allow"]
    assert [each.get("status") for each in found] == [None, 422, 422, 422, None]
    assert "input_tokens" in found[1]["detail"]
    assert standings(services.database, now=services.clock()) == {("all",): (0, 4 * CENT)}


def test_an_idempotency_key_answers_the_same_inside_a_batch_and_after_it(
    client: TestClient, services: Services
) -> None:
    check = make_check(idempotency_key="k")

    first, second = answers(client, [check, check])
    [other] = answers(client, [make_check(idempotency_key="k", input_tokens=1)])
    again = client.post("/v1/quota/check", json=check).json()

    assert first == second == again
    assert (other["status"], other["code"]) == (409, "conflict")
    assert standings(services.database, now=services.clock()) == {("all",): (0, 2 * CENT)}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"7", 400),
        (b'{"check": []}', 400),
        (b"[]", 422),
        (b'{"checks": []}', 422),
        (b"[" + b",".join([b"{}"] * (MAX_CHECKS + 1)) + b"]", 413),
    ],
)
def test_a_batch_at_fault_is_refused_as_a_whole(
    client: TestClient, services: Services, content: bytes, status: int
) -> None:
    answer = client.post(PATH, content=content)

    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert standings(services.database, now=services.clock()) == {("all",): (0, 0)}


def test_a_full_batch_is_answered_in_full(client: TestClient) -> None:
    found = answers(client, [make_check(dry_run=True)] * MAX_CHECKS)

    assert {each["decision"] for each in found} == {"allow"}
    assert len(found) == MAX_CHECKS
