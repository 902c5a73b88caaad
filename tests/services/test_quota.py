"""Quota before the request: three answers, several budgets, what is held and what is repeated."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    check_work,
    hold_cents,
    make_budget,
    make_check,
    make_event,
    record,
    release,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.money import format_nanos, parse_nanos
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.store.db import Database
from tokenbudget.store.tables import CheckAnswerRow, CounterRow, HoldRow

GROWTH = {"team": "growth"}
NUMBERS = count()


def codes(decision: dict[str, object], field: str) -> list[str]:
    """Give the codes of a decision's ``reasons`` or ``warnings``."""
    notices = decision[field]
    assert isinstance(notices, list)
    return [notice["code"] for notice in notices]


def test_without_budgets_a_check_is_allowed_and_held(ledger: Ledger, database: Database) -> None:
    decision = ask(ledger)

    [hold] = rows_of(database, HoldRow)
    assert decision == {
        "decision": "allow",
        "hold_id": hold["id"],
        "expires_at": "2026-11-20T12:01:00Z",
        "estimate": "0.020000000",
        "currency": "USD",
        "basis": "rated",
        "limits": {"max_output_tokens": 5_000, "model": "plain", "requests": 1},
        "binding": None,
        "warnings": [],
        "reasons": [],
        "fail_mode": "open",
    }
    assert (hold["provider"], hold["model"], hold["grants"]) == ("acme", "plain", [])


def test_an_allowed_check_names_the_budget_with_least_room(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="wide", limit="100.00"),
        make_budget(id="narrow", limit="1.00"),
        now=clock(),
    )
    hold_cents(ledger, 30)

    decision = ask(ledger)

    assert decision["binding"] == {
        "budget": "narrow",
        "budget_version": 1,
        "unit": "money",
        "limit": "1.000000000",
        "carry": "0.000000000",
        "raised": "0.000000000",
        "settled": "0.000000000",
        "held": "0.320000000",
        "headroom": "0.680000000",
        "resets_at": "2026-12-01T00:00:00Z",
    }


def test_a_denial_names_the_budget_its_headroom_and_when_it_resets(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(id="growth", selector=GROWTH), now=clock())
    record(ledger, make_event(usage=cents(99)))

    decision = ask(ledger, estimate="0.05")

    assert (decision["decision"], decision["hold_id"]) == ("deny", None)
    assert decision["reasons"] == [
        {"code": "budget_exhausted", "detail": "budget growth has no room for this call"}
    ]
    assert decision["binding"]["budget"] == "growth"
    assert decision["binding"]["headroom"] == "0.010000000"
    assert decision["binding"]["resets_at"] == "2026-12-01T00:00:00Z"
    assert rows_of(database, HoldRow) == []


def test_a_check_that_just_fits_is_allowed(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05"), now=clock())

    assert ask(ledger, estimate="0.050000000")["decision"] == "allow"
    assert ask(ledger, estimate="0.000000001")["decision"] == "deny"


def test_all_budgets_pass_or_none_is_held(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="a-large", limit="100.00"),
        make_budget(id="b-small", limit="0.01"),
        make_budget(id="c-large", limit="100.00"),
        now=clock(),
    )

    decision = ask(ledger, estimate="0.05")

    assert decision["decision"] == "deny"
    assert decision["binding"]["budget"] == "b-small"
    assert set(standings(database, now=clock()).values()) == {(0, 0)}


def test_every_budget_that_refuses_is_named(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database, make_budget(id="a", limit="0.01"), make_budget(id="b", limit="0"), now=clock()
    )

    decision = ask(ledger, estimate="0.05")

    assert [reason["detail"] for reason in decision["reasons"]] == [
        "budget a has no room for this call",
        "budget b has no room for this call",
    ]


def test_an_overdraft_admits_what_the_limit_would_not(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05", overdraft="0.03"), now=clock())

    assert ask(ledger, estimate="0.08")["decision"] == "allow"
    assert ask(ledger, estimate="0.01")["decision"] == "deny"


def test_a_never_seen_split_value_gets_its_own_counter_at_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05", split_by=["tenant"]), now=clock())

    works = [
        check_work(make_check(estimate="0.05", tags={"tenant": tenant}))
        for tenant in ("new", "new", "other")
    ]
    decisions = ledger.apply(works)

    assert [decision["decision"] for decision in decisions if isinstance(decision, dict)] == [
        "allow",
        "deny",
        "allow",
    ]
    assert standings(database, now=clock()) == {
        ("all", "new"): (0, 5 * CENT),
        ("all", "other"): (0, 5 * CENT),
    }


def test_a_missing_split_value_has_a_counter_too(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05", split_by=["tenant"]), now=clock())

    ask(ledger, estimate="0.05", tags=GROWTH)

    assert ask(ledger, estimate="0.05", tags=GROWTH)["decision"] == "deny"


def test_a_soft_budget_warns_and_holds(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(mode="soft", limit="0.01"), now=clock())

    decision = ask(ledger)

    assert decision["decision"] == "allow"
    assert codes(decision, "warnings") == ["budget_exceeded"]
    assert standings(database, now=clock())["all",] == (0, 2 * CENT)


def test_a_shadow_budget_is_silent_and_counts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(mode="shadow", limit="0.01"), now=clock())

    decision = ask(ledger)

    assert (decision["decision"], decision["warnings"]) == ("allow", [])
    assert decision["binding"] is None
    assert standings(database, now=clock())["all",] == (0, 2 * CENT)


def test_what_does_not_fit_is_reduced_to_the_output_there_is_room_for(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.015"), now=clock())

    decision = ask(ledger)

    # Input takes a cent; half a cent is left, which is 2,500 output tokens.
    assert decision["decision"] == "reduce"
    assert decision["limits"] == {"max_output_tokens": 2_500, "model": "plain", "requests": 1}
    assert decision["estimate"] == "0.015000000"
    assert standings(database, now=clock())["all",] == (0, 15_000_000)


def test_nothing_is_reduced_to_less_than_one_token(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.010001999"), now=clock())

    assert ask(ledger)["decision"] == "deny"


def test_a_stated_estimate_is_never_reduced(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.04"), now=clock())

    assert ask(ledger, estimate="0.05")["decision"] == "deny"


def test_a_reduced_check_fits_every_hard_budget(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="money", limit="0.015"),
        make_budget(id="tokens", unit="tokens", limit=11_000),
        now=clock(),
    )

    decision = ask(ledger)

    assert decision["limits"]["max_output_tokens"] == 1_000
    assert standings(database, now=clock()) == {
        ("money",): (0, 12_000_000),
        ("tokens",): (0, 11_000),
    }


def test_a_request_budget_that_is_used_up_denies(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(unit="requests", limit=2), now=clock())

    decisions = [ask(ledger)["decision"] for _ in range(3)]

    assert decisions == ["allow", "allow", "deny"]


def test_a_token_budget_counts_input_and_the_most_output(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(unit="tokens", limit=20_000), now=clock())

    ask(ledger)

    assert standings(database, now=clock())["all",] == (0, 15_000)


def test_a_missing_maximum_is_assumed_and_said(ledger: Ledger) -> None:
    check = make_check()
    del check["max_output_tokens"]

    [decision] = ledger.apply([check_work(check)])

    # 4,096 output tokens at two dollars a million, and a cent of input.
    assert isinstance(decision, dict)
    assert decision["estimate"] == "0.018192000"
    assert decision["limits"]["max_output_tokens"] == 4_096
    assert codes(decision, "warnings") == ["output_bound_assumed"]


def test_a_stated_estimate_needs_neither_model_nor_tokens(ledger: Ledger) -> None:
    [decision] = ledger.apply([check_work({"estimate": "0.05", "tags": GROWTH})])

    assert isinstance(decision, dict)
    assert (decision["decision"], decision["basis"]) == ("allow", "estimated")
    assert decision["limits"] == {"max_output_tokens": None, "model": None, "requests": 1}


def test_an_unpriced_model_is_denied_where_money_is_limited(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    decision = ask(ledger, model="mystery")

    assert (decision["decision"], decision["estimate"]) == ("deny", None)
    assert codes(decision, "reasons") == ["unpriced_model"]
    assert "acme/mystery" in decision["reasons"][0]["detail"]


@pytest.mark.parametrize(
    "budget", [{"mode": "soft"}, {"unit": "tokens", "limit": 1_000_000}], ids=["soft", "tokens"]
)
def test_an_unpriced_model_is_allowed_with_a_warning_where_no_hard_budget_limits_money(
    ledger: Ledger, database: Database, clock: FrozenClock, budget: dict[str, object]
) -> None:
    set_budgets(database, make_budget(**budget), now=clock())

    decision = ask(ledger, model="mystery")

    assert (decision["decision"], decision["basis"]) == ("allow", "unpriced")
    assert codes(decision, "warnings") == ["unpriced_model"]


def test_a_dry_run_decides_and_holds_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    decision = ask(ledger, dry_run=True)

    assert (decision["decision"], decision["hold_id"]) == ("allow", None)
    assert rows_of(database, HoldRow) == []
    assert standings(database, now=clock())["all",] == (0, 0)


def test_a_repeated_check_gets_its_first_answer_and_holds_once(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    first = ask(ledger, idempotency_key="k")
    clock.advance(seconds=20)

    second = ask(other_ledger, idempotency_key="k")

    assert second == first
    assert len(rows_of(database, HoldRow)) == 1


def test_a_check_repeated_within_one_commit_holds_once(ledger: Ledger, database: Database) -> None:
    work = check_work(make_check(idempotency_key="k"))

    first, second = ledger.apply([work, work])

    assert first == second
    assert len(rows_of(database, HoldRow)) == 1


def test_an_idempotency_key_is_refused_for_another_check(ledger: Ledger) -> None:
    ask(ledger, idempotency_key="k")

    [answer] = ledger.apply([check_work(make_check(idempotency_key="k", input_tokens=9))])

    assert isinstance(answer, Conflict)
    assert answer.detail == "idempotency_key 'k' was used for another check"


def test_callers_do_not_share_idempotency_keys(ledger: Ledger, database: Database) -> None:
    works = [
        check_work(make_check(idempotency_key="k"), caller=Caller(key_id))
        for key_id in ("key-1", "key-2")
    ]

    first, second = ledger.apply(works)

    assert first != second
    assert [row["key_id"] for row in rows_of(database, CheckAnswerRow)] == ["key-1", "key-2"]


def test_a_denial_is_repeated_even_when_there_is_room_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0.05"), now=clock())
    hold_id = hold_cents(ledger, 5)
    ask(ledger, estimate="0.05", idempotency_key="k")
    release(ledger, hold_id)

    assert ask(ledger, estimate="0.05", idempotency_key="k")["decision"] == "deny"


def test_a_dry_run_is_not_remembered(ledger: Ledger, database: Database) -> None:
    ask(ledger, idempotency_key="k", dry_run=True)

    assert rows_of(database, CheckAnswerRow) == []


def test_a_budget_that_is_not_valid_yet_decides_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(limit="0", valid_from="2026-11-25T00:00:00Z"), now=clock())

    assert ask(ledger)["decision"] == "allow"


def test_a_budget_that_has_ended_decides_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(limit="0", valid_from="2026-11-01T00:00:00Z", valid_to="2026-11-20T12:00:00Z"),
        now=clock(),
    )

    assert ask(ledger)["decision"] == "allow"


def test_in_a_new_window_there_is_room_again_and_nothing_was_reset(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    record(ledger, make_event(usage=cents(100)))
    denied = ask(ledger, estimate="0.05")["decision"]
    clock.advance(hours=12)

    assert (denied, ask(ledger, estimate="0.05")["decision"]) == ("deny", "allow")
    assert [row["settled"] for row in rows_of(database, CounterRow)] == [100 * CENT, 0]


def test_the_estimate_takes_the_step_that_the_size_of_the_input_implies(ledger: Ledger) -> None:
    decision = ask(ledger, model="stepped", input_tokens=300_000, max_output_tokens=0)

    # 300,000 tokens at two dollars a million, not at one.
    assert decision["estimate"] == "0.600000000"


@pytest.mark.parametrize("answer", ["allow", "reduce"])
def test_settling_frees_what_was_not_needed(
    ledger: Ledger, database: Database, clock: FrozenClock, answer: str
) -> None:
    set_budgets(database, make_budget(limit="1.00" if answer == "allow" else "0.015"), now=clock())
    decision = ask(ledger)

    record(ledger, make_event(usage=cents(1), hold_id=decision["hold_id"]))

    assert decision["decision"] == answer
    assert standings(database, now=clock())["all",] == (CENT, 0)
    assert broken_rules(database) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(0, 40_000_000),
    input_tokens=st.integers(0, 20_000),
    output_tokens=st.integers(0, 20_000),
    spent=st.integers(0, 2),
)
def test_what_is_held_never_exceeds_the_headroom(
    ledger: Ledger, limit: int, input_tokens: int, output_tokens: int, spent: int
) -> None:
    team = f"team-{next(NUMBERS)}"
    budget = make_budget(id=team, selector={"team": team}, limit=format_nanos(limit))
    set_budgets(ledger.database, budget, now=ledger.clock())
    record(ledger, make_event(event_id=team, usage=cents(spent), tags={"team": team}))

    decision = ask(
        ledger, input_tokens=input_tokens, max_output_tokens=output_tokens, tags={"team": team}
    )

    headroom = limit - spent * CENT
    if decision["decision"] == "deny":
        # Not even one output token would fit.
        assert input_tokens * 1_000 + min(output_tokens, 1) * 2_000 > headroom
    else:
        assert parse_nanos(decision["estimate"]) <= headroom
