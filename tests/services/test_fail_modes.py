"""What checks are answered while the database cannot answer, by the budgets that apply to them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.builders import ask, make_budget, make_check, set_budgets
from tests.conftest import FrozenClock
from tests.faults.outages import no_answers
from tokenbudget.domain.errors import QueueFull, Unavailable
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.formats.quota import parse_check
from tokenbudget.services.fail_modes import FailModes
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.store.db import Database

GROWTH = {"team": "growth"}
SEARCH = {"team": "search"}
CALLER = Caller("key-1", pinned_tags={"tenant": "acme"})


def lost_connection() -> Unavailable:
    """Give what the store raises when the database cannot answer."""
    error = Unavailable("the database cannot answer: connection refused", retry_after_seconds=3)
    error.__cause__ = ConnectionRefusedError("connection refused")
    return error


def knowing(ledger: Ledger, *drafts: BudgetDraft) -> FailModes:
    """Give the fail modes of a ledger whose last batch read these budgets."""
    set_budgets(ledger.database, *drafts, now=ledger.clock())
    modes = FailModes(ledger)
    modes.learn()
    return modes


def answer(modes: FailModes, failure: Unavailable | None = None, **asked: Any) -> dict[str, Any]:
    """Give the answer to ``make_check(**asked)`` at the time of the ledger's clock."""
    check = parse_check(msgspec.json.encode(make_check(**asked)))
    failure = failure or lost_connection()
    return modes.answer(check, CALLER, failure, now=modes.ledger.clock())


def codes(notices: list[dict[str, str]]) -> list[str]:
    """Give the codes of warnings or reasons."""
    return [notice["code"] for notice in notices]


def test_an_open_budget_lets_a_call_through_and_says_so(ledger: Ledger) -> None:
    modes = knowing(ledger, make_budget(fail_mode="open"))

    with capture_logs() as lines:
        told = answer(modes)

    [warning] = told.pop("warnings")
    assert warning["code"] == "budget_not_checked"
    assert told == {
        "decision": "allow",
        "hold_id": None,
        "expires_at": None,
        "estimate": "0.020000000",
        "currency": "USD",
        "basis": "rated",
        "limits": {"max_output_tokens": 5_000, "model": "plain", "requests": 1},
        "binding": None,
        "reasons": [],
        "fail_mode": "open",
    }
    assert lines == [
        {
            "event": "budget_not_checked",
            "log_level": "warning",
            "budgets": ["all"],
            "decision": "allow",
            "provider": "acme",
            "model": "plain",
            "estimate_nanos": 20_000_000,
            "key_id": "key-1",
            "error": "the database cannot answer: connection refused",
        }
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"max_output_tokens": None},
        {"estimate": "0.07"},
        {"estimate": "0.07", "max_output_tokens": None},
        {"service_tier": "flex"},
        {"input_tokens": 250_000, "model": "stepped"},
    ],
)
def test_the_estimate_is_the_one_the_writer_gives(ledger: Ledger, asked: dict[str, Any]) -> None:
    modes = knowing(ledger, make_budget(limit="100.00", fail_mode="open"))

    decided, told = ask(ledger, **asked), answer(modes, **asked)

    assert decided["decision"] == told["decision"] == "allow"
    for member in ("estimate", "basis", "limits", "currency"):
        assert told[member] == decided[member], member


def test_one_closed_budget_among_those_that_apply_refuses(ledger: Ledger) -> None:
    modes = knowing(
        ledger,
        make_budget(id="open", fail_mode="open"),
        make_budget(id="shut", selector=GROWTH),
        make_budget(id="other", selector=SEARCH),
    )

    with pytest.raises(Unavailable) as caught:
        answer(modes, tags=GROWTH)

    assert caught.value.facts == {"fail_mode": "closed", "budgets": ["shut"]}
    assert caught.value.retry_after_seconds == 3
    assert answer(modes, tags={"team": "platform"})["decision"] == "allow"


@pytest.mark.parametrize(
    "overrides",
    [
        {"mode": "soft"},
        {"mode": "shadow"},
        {"selector": SEARCH},
        {"window": "range:2026-01-01/2026-02-01"},
        {"valid_to": "2026-11-20T12:00:00Z"},
        {"valid_from": "2026-11-20T12:00:01Z"},
    ],
)
def test_a_budget_that_could_not_have_denied_the_call_does_not_refuse_it(
    ledger: Ledger, overrides: dict[str, Any]
) -> None:
    modes = knowing(ledger, make_budget(id="closed", **overrides))

    assert answer(modes, tags=GROWTH)["decision"] == "allow"


def test_pinned_tags_choose_the_budgets_as_ever(ledger: Ledger) -> None:
    modes = knowing(ledger, make_budget(id="acme", selector={"tenant": "acme"}))

    with pytest.raises(Unavailable):
        answer(modes, tags={"tenant": "somebody-else"})


def test_a_model_without_a_price_is_denied_where_money_is_limited(ledger: Ledger) -> None:
    modes = knowing(ledger, make_budget(selector=GROWTH, fail_mode="open"))

    denied = answer(modes, model="unheard-of", tags=GROWTH)
    allowed = answer(modes, model="unheard-of", tags=SEARCH)

    assert (denied["decision"], codes(denied["reasons"])) == ("deny", ["unpriced_model"])
    assert (denied["estimate"], denied["basis"]) == (None, "unpriced")
    assert allowed["decision"] == "allow"
    assert codes(allowed["warnings"]) == ["budget_not_checked", "unpriced_model"]


@pytest.mark.parametrize(
    "failure", [QueueFull("10 items are waiting"), Unavailable("the service is stopping")]
)
def test_an_open_budget_is_not_open_to_a_service_that_is_busy(
    ledger: Ledger, failure: Unavailable
) -> None:
    modes = knowing(ledger, make_budget(fail_mode="open"))

    with pytest.raises(Unavailable) as caught:
        answer(modes, failure)

    assert caught.value is failure


def test_who_never_read_the_rules_lets_nothing_through(ledger: Ledger, database: Database) -> None:
    modes = FailModes(ledger)

    with no_answers(database):
        modes.learn()

    with pytest.raises(Unavailable):
        answer(modes)


def test_the_rules_are_those_that_the_writer_read_last(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    modes = knowing(ledger, make_budget(fail_mode="open"))
    set_budgets(database, make_budget(fail_mode="closed"), now=clock())
    assert answer(modes)["decision"] == "allow"

    ask(ledger)

    with no_answers(database), pytest.raises(Unavailable):
        answer(modes)
