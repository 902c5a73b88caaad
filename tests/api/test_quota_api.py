"""``/v1/quota``: the three answers, their headers, and what may happen to a hold."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MakeClient
from tests.api.structured_fields import read_item
from tests.builders import (
    broken_rules,
    contents,
    make_budget,
    make_check,
    make_event,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tokenbudget.bootstrap import Services

MONTH_END = "2026-12-01T00:00:00Z"
SECONDS_TO_MONTH_END = 10 * 86_400 + 12 * 3_600
MANY_TOKENS = 100_000_000


@pytest.fixture
def monthly(services: Services, clock: FrozenClock) -> None:
    """Set a hard budget of ten cents a month for each tenant of growth."""
    draft = make_budget(
        id="growth-monthly", limit="0.10", selector={"team": "growth"}, split_by=["tenant"]
    )
    set_budgets(services.database, draft, now=clock())


def check(client: TestClient, **overrides: Any) -> dict[str, Any]:
    """Give the decision on ``make_check(**overrides)``."""
    answer = client.post("/v1/quota/check", json=make_check(**overrides))
    assert answer.status_code == 200, answer.text
    decision: dict[str, Any] = answer.json()
    return decision


@pytest.mark.usefixtures("monthly")
def test_an_allowed_check_says_what_is_held_and_which_budget_binds(client: TestClient) -> None:
    answer = client.post("/v1/quota/check", json=make_check())

    decision = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert decision.pop("hold_id")
    # Ten thousand tokens in and five thousand out are a cent each; the hold shows as held at once.
    assert decision == {
        "decision": "allow",
        "expires_at": "2026-11-20T12:01:00Z",
        "estimate": "0.020000000",
        "currency": "USD",
        "basis": "rated",
        "limits": {"max_output_tokens": 5_000, "model": "plain", "requests": 1},
        "binding": {
            "budget": "growth-monthly",
            "budget_version": 1,
            "unit": "money",
            "limit": "0.100000000",
            "carry": "0.000000000",
            "raised": "0.000000000",
            "settled": "0.000000000",
            "held": "0.020000000",
            "headroom": "0.080000000",
            "resets_at": MONTH_END,
        },
        "warnings": [],
        "reasons": [],
        "fail_mode": "closed",
    }


@pytest.mark.usefixtures("monthly")
def test_rate_limit_headers_are_structured_fields_in_millionths(client: TestClient) -> None:
    answer = client.post("/v1/quota/check", json=make_check())

    policy = read_item(answer.headers["ratelimit-policy"])
    limit = read_item(answer.headers["ratelimit"])
    assert policy == ("growth-monthly", {"q": 100_000, "tokenbudget-unit": "micro-usd"})
    assert limit == ("growth-monthly", {"r": 80_000, "t": SECONDS_TO_MONTH_END})
    assert "retry-after" not in answer.headers


@pytest.mark.usefixtures("monthly")
def test_a_denial_gives_the_reason_and_when_to_try_again(client: TestClient) -> None:
    check(client, estimate="0.09")

    answer = client.post("/v1/quota/check", json=make_check(estimate="0.02"))

    decision = answer.json()
    assert (answer.status_code, decision["decision"]) == (200, "deny")
    assert decision["hold_id"] is decision["expires_at"] is None
    assert decision["reasons"] == [
        {"code": "budget_exhausted", "detail": "budget growth-monthly has no room for this call"}
    ]
    assert decision["binding"]["headroom"] == "0.010000000"
    assert read_item(answer.headers["ratelimit"])[1]["r"] == 10_000
    # A month's end is far: nobody is sent away for longer than a day.
    assert answer.headers["retry-after"] == "86400"


@pytest.mark.usefixtures("monthly")
def test_a_reduced_check_says_to_what_and_holds_no_more(client: TestClient) -> None:
    decision = check(client, max_output_tokens=100_000)

    # A cent of input leaves nine cents, and a cent buys 5,000 output tokens.
    assert decision["decision"] == "reduce"
    assert decision["limits"] == {"max_output_tokens": 45_000, "model": "plain", "requests": 1}
    assert decision["estimate"] == decision["binding"]["held"] == "0.100000000"


def test_without_a_budget_everything_is_allowed_and_no_limit_is_told(client: TestClient) -> None:
    answer = client.post("/v1/quota/check", json=make_check())

    assert (answer.json()["decision"], answer.json()["binding"]) == ("allow", None)
    assert not {"ratelimit", "ratelimit-policy", "retry-after"} & set(answer.headers)


def test_headers_of_other_units_count_whole_tokens(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    draft = make_budget(id="daily", unit="tokens", limit=20_000, window="day")
    set_budgets(services.database, draft, now=clock())

    answer = client.post("/v1/quota/check", json=make_check())

    assert read_item(answer.headers["ratelimit-policy"]) == (
        "daily",
        {"q": 20_000, "tokenbudget-unit": "tokens"},
    )
    assert read_item(answer.headers["ratelimit"]) == ("daily", {"r": 5_000, "t": 43_200})


def test_headers_stay_within_what_structured_fields_can_say(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    draft = make_budget(id="vast", limit="9000000000", window="lifetime")
    set_budgets(services.database, draft, now=clock())

    answer = client.post("/v1/quota/check", json=make_check())

    assert read_item(answer.headers["ratelimit-policy"])[1]["q"] == 999_999_999_999_999
    assert read_item(answer.headers["ratelimit"])[1]["r"] == 999_999_999_999_999


@pytest.mark.usefixtures("monthly")
def test_overspent_headroom_shows_as_negative_in_the_body_and_as_zero_in_the_header(
    client: TestClient,
) -> None:
    client.post("/v1/events", json=make_event(usage={"input_tokens": 120_000}))

    answer = client.post("/v1/quota/check", json=make_check())

    assert answer.json()["binding"]["headroom"] == "-0.020000000"
    assert read_item(answer.headers["ratelimit"])[1]["r"] == 0


@pytest.mark.parametrize(
    "counted",
    [
        {"text": "How much is the fish?"},
        {"messages": [{"role": "user", "content": "How much is the fish?"}]},
    ],
)
def test_text_and_messages_are_counted_instead_of_input_tokens(
    client: TestClient, counted: dict[str, Any]
) -> None:
    decision = check(client, input_tokens=None, max_output_tokens=0, **counted)

    # Six tokens of text (a few more as a chat) at a millionth of a dollar each.
    assert "0.000006000" <= decision["estimate"] <= "0.000013000"


def test_a_check_without_a_maximum_names_the_bound_it_assumed(client: TestClient) -> None:
    decision = check(client, max_output_tokens=None)

    # 10,000 tokens in, and 4,096 out at two millionths each.
    assert decision["estimate"] == "0.018192000"
    assert decision["warnings"] == [
        {
            "code": "output_bound_assumed",
            "detail": "no max_output_tokens was given; 4096 were assumed"
            " (TOKENBUDGET_DEFAULT_MAX_OUTPUT_TOKENS)",
        }
    ]


@pytest.mark.usefixtures("monthly")
def test_a_model_without_a_price_is_denied_under_a_hard_budget(client: TestClient) -> None:
    decision = check(client, model="gpt-nobody-knows")

    [reason] = decision["reasons"]
    assert (decision["decision"], reason["code"]) == ("deny", "unpriced_model")
    assert decision["estimate"] is None
    assert decision["basis"] == "unpriced"


@pytest.mark.usefixtures("monthly")
def test_a_dry_run_answers_alike_and_holds_nothing(client: TestClient, services: Services) -> None:
    before = contents(services.database)

    decision = check(client, dry_run=True)

    assert (decision["decision"], decision["hold_id"]) == ("allow", None)
    assert contents(services.database)["holds"] == before["holds"]


@pytest.mark.usefixtures("monthly")
def test_the_idempotency_key_repeats_the_answer_and_refuses_another_check(
    client: TestClient,
) -> None:
    first = check(client, idempotency_key="k")

    again = check(client, idempotency_key="k")
    other = client.post(
        "/v1/quota/check", json=make_check(idempotency_key="k", input_tokens=20_000)
    )

    assert again == first
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert "'k'" in other.json()["detail"]


@pytest.mark.usefixtures("monthly")
def test_a_hold_is_shown_extended_and_released(client: TestClient, services: Services) -> None:
    hold_id = check(client)["hold_id"]

    extended = client.post(f"/v1/quota/holds/{hold_id}/extend", json={"ttl_seconds": 600})
    shown = client.get(f"/v1/quota/holds/{hold_id}")
    released = client.post(f"/v1/quota/holds/{hold_id}/release")
    again = client.post(f"/v1/quota/holds/{hold_id}/release")

    assert shown.json() == extended.json()
    assert shown.json() == {
        "hold_id": hold_id,
        "state": "held",
        "created_at": "2026-11-20T12:00:00Z",
        "expires_at": "2026-11-20T12:10:00Z",
        "estimate": "0.020000000",
        "requests": 1,
        "pieces_settled": 0,
        "remaining": "0.020000000",
        "settled": None,
        "overage": None,
    }
    assert (released.json()["state"], again.status_code) == ("released", 200)
    assert broken_rules(services.database) == []


@pytest.mark.usefixtures("monthly")
def test_a_lease_is_taken_piece_by_piece_and_given_back(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    # Five requests of two cents each fit into ten cents.
    lease = check(client, requests=20, ttl_seconds=90)
    hold_id = lease["hold_id"]
    named = {"hold_id": hold_id, "usage": {"input_tokens": 10_000}}

    client.post("/v1/events", json=[make_event(**named), make_event(event_id="e2", **named)])
    shown = client.get(f"/v1/quota/holds/{hold_id}").json()
    released = client.post(f"/v1/quota/holds/{hold_id}/release").json()

    assert (lease["decision"], lease["expires_at"]) == ("reduce", "2026-11-20T12:01:30Z")
    assert lease["limits"] == {"max_output_tokens": 5_000, "model": "plain", "requests": 5}
    assert shown == {
        "hold_id": hold_id,
        "state": "held",
        "created_at": "2026-11-20T12:00:00Z",
        "expires_at": "2026-11-20T12:01:30Z",
        "estimate": "0.100000000",
        "requests": 5,
        "pieces_settled": 2,
        "remaining": "0.080000000",
        "settled": "0.020000000",
        "overage": "0.000000000",
    }
    assert released == {**shown, "state": "settled", "remaining": "0.000000000"}
    assert standings(services.database, now=clock()) == {
        ("growth-monthly", "acme"): (20_000_000, 0)
    }
    assert broken_rules(services.database) == []


def test_an_extension_is_made_once_under_its_header(client: TestClient, clock: FrozenClock) -> None:
    path = f"/v1/quota/holds/{check(client)['hold_id']}/extend"
    headers = {"Idempotency-Key": "again"}

    first = client.post(path, json={"ttl_seconds": 600}, headers=headers)
    clock.advance(seconds=30)
    again = client.post(path, json={"ttl_seconds": 600}, headers=headers)
    other = client.post(path, json={"ttl_seconds": 700}, headers=headers)

    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_hold_that_ran_out_cannot_be_extended(client: TestClient, clock: FrozenClock) -> None:
    hold_id = check(client)["hold_id"]
    clock.advance(minutes=2)

    answer = client.post(f"/v1/quota/holds/{hold_id}/extend", json={"ttl_seconds": 60})

    assert (answer.status_code, answer.json()["state"]) == (409, "expired")


@pytest.mark.usefixtures("monthly")
def test_an_event_that_names_the_hold_settles_it(
    client: TestClient, services: Services, clock: FrozenClock
) -> None:
    hold_id = check(client)["hold_id"]

    client.post("/v1/events", json=make_event(hold_id=hold_id, usage={"input_tokens": 30_000}))

    late = client.post(f"/v1/quota/holds/{hold_id}/release")
    counters = standings(services.database, now=clock())
    # Three cents were spent where two were held; all of it counts.
    assert counters == {("growth-monthly", "acme"): (30_000_000, 0)}
    assert client.get(f"/v1/quota/holds/{hold_id}").json()["state"] == "settled"
    assert (late.status_code, late.json()["code"], late.json()["state"]) == (
        409,
        "conflict",
        "settled",
    )


def test_a_hold_without_a_known_price_has_no_estimate(client: TestClient) -> None:
    hold_id = check(client, model="gpt-nobody-knows")["hold_id"]

    assert client.get(f"/v1/quota/holds/{hold_id}").json()["estimate"] is None


@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/release")])
@pytest.mark.parametrize("hold_id", ["nothing", "a%00b"])
def test_a_hold_that_does_not_exist_is_a_problem(
    client: TestClient, method: str, action: str, hold_id: str
) -> None:
    answer = client.request(method, f"/v1/quota/holds/{hold_id}{action}")

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (404, 422)


BAD_CHECKS: list[tuple[dict[str, Any], str]] = [
    ({"input_tokens": -1}, "`input_tokens`"),
    ({"input_tokens": MANY_TOKENS + 1}, "`input_tokens`"),
    ({"max_output_tokens": MANY_TOKENS + 1}, "`max_output_tokens`"),
    ({"input_tokens": "many"}, "`input_tokens`"),
    ({"requests": 0}, "`requests`"),
    ({"requests": 1_000_001}, "`requests`"),
    ({"requests": 10**6, "estimate": 10**6}, "the check asks for more than 1000000000 USD"),
    ({"colour": "red"}, "unknown field `colour`"),
    ({"tags": {"team": 7}}, "`tags[...]`"),
    ({"tags": {"team": "a\0b"}}, "tags holds a NUL character"),
    ({"provider": None}, "provider is needed"),
    ({"model": None}, "model is needed"),
    ({"input_tokens": None}, "one of input_tokens, text, messages or estimate"),
    ({"text": "both"}, "only one of input_tokens, text, messages"),
    ({"estimate": "-0.01"}, "estimate -0.01 is negative"),
    ({"estimate": "0.0000000001"}, "estimate '1E-10' has more than 9 decimals"),
    ({"estimate": "NaN"}, "estimate 'NaN' is not a finite decimal number"),
    ({"estimate": "1e400"}, "estimate '1E+400' is out of range"),
    ({"ttl_seconds": 0}, "`ttl_seconds`"),
]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("fault", "named"), BAD_CHECKS)
def test_a_bad_check_is_refused_by_name_and_holds_nothing(
    client: TestClient, services: Services, fault: dict[str, Any], named: str
) -> None:
    before = contents(services.database)

    answer = client.post("/v1/quota/check", json={**make_check(), **fault})

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert named in answer.json()["detail"]
    assert contents(services.database) == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"{} x", b'{"text": "\xff"}', b'{"messages": [{"a":' + b"[" * 5_000]
)
def test_a_check_that_is_not_json_is_malformed(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/quota/check", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b'{"ttl_seconds": 0}', 422, "ttl_seconds"),
        (b'{"ttl_seconds": "soon"}', 422, "ttl_seconds"),
        (b"{}", 422, "ttl_seconds"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, ""),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_bad_extension_is_refused(
    client: TestClient, body: bytes, status: int, named: str
) -> None:
    answer = client.post(
        "/v1/quota/holds/h/extend", content=body, headers={"content-type": "application/json"}
    )

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == status
    assert named in answer.json()["detail"]


def test_an_oversized_check_is_too_large(make_client: MakeClient) -> None:
    client = make_client(max_body_bytes=2_048)

    answer = client.post("/v1/quota/check", json=make_check(input_tokens=None, text="x" * 3_000))

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
