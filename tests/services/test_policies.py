"""Policies as they decide checks: what they deny, warn of and leave alone, and how they change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.builders import ask, contents, make_check, make_event, record, rows_of
from tests.conftest import FrozenClock
from tests.services.policy_cases import SIZES, codes, limit_to, put_policies
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import Unavailable
from tokenbudget.domain.owners import Lifecycle, OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.formats.policies import parse_policies
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.fail_modes import FailModes
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.policies import apply_policies, get_policies, list_versions
from tokenbudget.store.db import Database
from tokenbudget.store.tables import HoldRow, UsageRow

MEDIUM_ONLY: dict[str, Any] = {"allowed_models": ["medium"]}


@pytest.fixture
def ledger(services: Services) -> Ledger:
    """Give a ledger that prices models of several sizes."""
    return make_ledger(replace(services, price_list=SIZES))


@pytest.fixture
def other_ledger(services: Services) -> Ledger:
    """Give a second worker's ledger with the same prices."""
    return make_ledger(replace(services, price_list=SIZES))


def register(ledger: Ledger, kind: OwnerKind, name: str, **facts: Any) -> None:
    """Register an owner as of now."""
    entry = OwnerEntry(kind, name, OwnerFacts(**facts))
    apply_owners(ledger.database, [entry], now=ledger.clock())


def test_a_model_that_a_policy_does_not_allow_is_denied(ledger: Ledger, database: Database) -> None:
    limit_to(ledger, "100.00")
    put_policies(ledger, MEDIUM_ONLY)

    denied = ask(ledger, model="large")
    allowed = ask(ledger, model="medium")

    assert (denied["decision"], denied["hold_id"], denied["binding"]) == ("deny", None, None)
    assert denied["reasons"] == [
        {"code": "model_not_allowed", "detail": "policy p1 does not allow acme/large"}
    ]
    assert (allowed["decision"], allowed["reasons"], allowed["warnings"]) == ("allow", [], [])
    assert [row["model"] for row in rows_of(database, HoldRow)] == ["medium"]


def test_a_dated_name_is_the_model_that_the_price_book_knows(ledger: Ledger) -> None:
    put_policies(ledger, {"denied_models": ["large"]})

    assert ask(ledger, model="large-2026-05-01")["decision"] == "deny"
    assert ask(ledger, model="LARGE", provider="acme-ai")["decision"] == "deny"
    assert ask(ledger, model="medium")["decision"] == "allow"


def test_policies_apply_where_their_selector_holds(ledger: Ledger) -> None:
    put_policies(ledger, {**MEDIUM_ONLY, "selector": {"team": "growth"}})

    assert ask(ledger, model="large", tags={"team": "growth"})["decision"] == "deny"
    assert ask(ledger, model="large", tags={"team": "search"})["decision"] == "allow"


def test_all_matching_policies_have_to_be_met(ledger: Ledger) -> None:
    put_policies(
        ledger, {"allowed_models": ["medium", "small"]}, {"allowed_models": ["large", "small"]}
    )

    told = {model: ask(ledger, model=model) for model in ("large", "medium", "small")}

    assert [answer["decision"] for answer in told.values()] == ["deny", "deny", "allow"]
    assert told["large"]["reasons"][0]["detail"].startswith("policy p1 ")
    assert told["medium"]["reasons"][0]["detail"].startswith("policy p2 ")


def test_a_soft_policy_warns_and_a_shadow_one_only_writes_to_the_log(ledger: Ledger) -> None:
    put_policies(ledger, {**MEDIUM_ONLY, "mode": "soft"}, {**MEDIUM_ONLY, "mode": "shadow"})

    with capture_logs() as lines:
        answers = [ask(ledger, model="large") for _ in range(3)]

    assert {answer["decision"] for answer in answers} == {"allow"}
    assert [notice["detail"] for notice in answers[0]["warnings"]] == [
        "policy p1 does not allow acme/large"
    ]
    # Once for calls placed alike, not once a call.
    assert [line["detail"] for line in lines if line["event"] == "policy_would_deny"] == [
        "policy p2 does not allow acme/large"
    ]


def test_a_call_without_an_owner_is_denied_where_a_policy_demands_one(ledger: Ledger) -> None:
    put_policies(ledger, {"require_owner": True})

    assert codes(ask(ledger, model="medium"), "reasons") == ["owner_missing"]

    register(ledger, OwnerKind.TEAM, "growth", email="ana@example.com")
    assert ask(ledger, model="medium")["decision"] == "allow"


def test_a_retired_feature_warns_until_a_policy_denies_it(ledger: Ledger) -> None:
    register(ledger, OwnerKind.FEATURE, "summarise", lifecycle=Lifecycle.RETIRED)

    assert codes(ask(ledger, model="medium"), "warnings") == ["feature_retired"]

    put_policies(ledger, {"on_retired": "deny"})
    denied = ask(ledger, model="medium")
    assert (codes(denied, "reasons"), codes(denied, "warnings")) == (["feature_retired"], [])


def test_a_deprecated_feature_warns(ledger: Ledger) -> None:
    register(ledger, OwnerKind.FEATURE, "summarise", lifecycle=Lifecycle.DEPRECATED)

    answer = ask(ledger, model="medium")

    assert (answer["decision"], codes(answer, "warnings")) == ("allow", ["feature_deprecated"])


def test_a_change_of_lifecycle_is_followed_when_it_begins(
    ledger: Ledger, clock: FrozenClock
) -> None:
    begins = clock().replace(hour=12, minute=15)
    entry = OwnerEntry(
        OwnerKind.FEATURE, "summarise", OwnerFacts(lifecycle=Lifecycle.RETIRED), begins
    )
    apply_owners(ledger.database, [entry], now=clock())

    before = ask(ledger, model="medium")
    clock.advance(seconds=int((begins - clock()).total_seconds()))
    after = ask(ledger, model="medium")

    assert (codes(before, "warnings"), codes(after, "warnings")) == ([], ["feature_retired"])


def test_a_model_past_its_sunset_warns_until_a_policy_denies_it(ledger: Ledger) -> None:
    assert codes(ask(ledger, model="ended"), "warnings") == ["model_sunset"]

    put_policies(ledger, {"on_sunset": "deny"})
    assert codes(ask(ledger, model="ended"), "reasons") == ["model_sunset"]
    ending = ask(ledger, model="ending")
    assert (ending["decision"], codes(ending, "warnings")) == ("allow", ["model_sunset"])


def test_a_sunset_is_noticed_the_moment_it_comes(ledger: Ledger, clock: FrozenClock) -> None:
    put_policies(ledger, {"on_sunset": "deny"})
    sunset = SIZES.schedule("acme", "ending", None, None).match_at(clock(), 0)
    assert sunset is not None
    assert sunset.model.sunset is not None
    seconds = int((sunset.model.sunset - clock()).total_seconds())

    clock.advance(seconds=seconds - 1)
    last = ask(ledger, model="ending")
    clock.advance(seconds=1)

    assert (last["decision"], ask(ledger, model="ending")["decision"]) == ("allow", "deny")


def test_an_estimate_of_the_caller_does_not_get_around_a_policy(ledger: Ledger) -> None:
    put_policies(ledger, {**MEDIUM_ONLY, "ladder": ["medium"]})

    answer = ask(
        ledger,
        provider=None,
        model=None,
        estimate="0.01",
        input_tokens=None,
        max_output_tokens=None,
    )

    assert codes(answer, "reasons") == ["model_not_allowed"]


def away() -> Unavailable:
    """Give what the store raises when the database cannot answer."""
    error = Unavailable("the database cannot answer: connection refused")
    error.__cause__ = ConnectionRefusedError("connection refused")
    return error


@pytest.mark.parametrize(
    ("model", "decision", "reasons", "warnings"),
    [
        ("large", "deny", ["model_not_allowed"], []),
        ("ended", "deny", ["model_not_allowed"], ["model_sunset"]),
        ("medium", "allow", [], ["budget_not_checked"]),
    ],
)
def test_policies_hold_while_the_database_cannot_answer(
    ledger: Ledger, model: str, decision: str, reasons: list[str], warnings: list[str]
) -> None:
    limit_to(ledger, "1.00", fail_mode="open")
    put_policies(ledger, {**MEDIUM_ONLY, "ladder": ["medium"]})
    modes = FailModes(ledger)
    modes.learn()
    check = parse_check(msgspec.json.encode(make_check(model=model)))

    answer = modes.answer(check, Caller(), away(), now=ledger.clock())

    assert (answer["decision"], answer["hold_id"]) == (decision, None)
    assert (codes(answer, "reasons"), codes(answer, "warnings")) == (reasons, warnings)


def test_a_gate_is_worked_out_once_a_quarter_hour(ledger: Ledger, clock: FrozenClock) -> None:
    put_policies(ledger, MEDIUM_ONLY)
    ask(ledger, model="medium")
    [placement] = ledger.memory.placements.values()
    first = placement.gate

    clock.advance(seconds=899)
    ask(ledger, model="medium")
    same = placement.gate
    clock.advance(seconds=1)
    ask(ledger, model="medium")

    assert first is not None
    assert same is first
    assert placement.gate is not first
    assert placement.gate is not None
    assert placement.gate.policies is first.policies


def test_usage_is_a_fact_whatever_policies_say(ledger: Ledger, database: Database) -> None:
    put_policies(ledger, MEDIUM_ONLY)

    answer = record(ledger, make_event(model="large"))

    assert (answer.accepted, len(rows_of(database, UsageRow))) == (1, 1)


def test_every_worker_follows_a_new_version_with_its_next_check(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    before = ask(other_ledger, model="large")["decision"]

    put_policies(ledger, MEDIUM_ONLY)
    under_it = ask(other_ledger, model="large")["decision"]
    put_policies(ledger)

    assert [before, under_it, ask(other_ledger, model="large")["decision"]] == [
        "allow",
        "deny",
        "allow",
    ]


def test_versions_tell_what_changed_and_a_repeat_changes_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    first = put_policies(ledger, MEDIUM_ONLY, {"require_owner": True})
    again = put_policies(ledger, MEDIUM_ONLY, {"require_owner": True})
    draft = parse_policies(
        {
            "classes": {"big": ["large"]},
            "policy": [
                {"id": "p2", "mode": "hard", "require_owner": True},
                {"id": "p1", "mode": "soft", "allowed_classes": ["big"]},
                {"id": "p3"},
            ],
        }
    )
    second = apply_policies(database, draft, now=clock(), by="key-1")
    third = put_policies(ledger)

    assert (first.version, again.version, again.is_changed) == (1, 1, False)
    assert [(each.kind, each.name, each.action) for each in second.changes] == [
        ("class", "big", "added"),
        ("policy", "p2", "moved"),
        ("policy", "p1", "changed"),
        ("policy", "p3", "added"),
    ]
    assert {each.action for each in third.changes} == {"removed"}
    versions = list_versions(database, limit=10)
    assert [(each.version, each.recorded_by) for each in versions] == [
        (3, None),
        (2, "key-1"),
        (1, None),
    ]
    assert get_policies(database).content == {"classes": {}, "policy": []}


def test_a_dry_run_writes_nothing(ledger: Ledger, database: Database, clock: FrozenClock) -> None:
    before = contents(database)

    shown = apply_policies(
        database, parse_policies({"policy": [{"id": "p"}]}), now=clock(), dry_run=True
    )

    assert (shown.version, shown.is_changed) == (1, True)
    assert contents(database) == before


def test_without_any_policy_there_is_version_zero(database: Database) -> None:
    assert get_policies(database).version == 0
