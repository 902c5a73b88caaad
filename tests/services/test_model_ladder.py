"""The ladder: the model in full, the first rung in full, less of the model, or nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    make_budget,
    make_check,
    make_event,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.policy_cases import LADDER, SIZES, asked, codes, limit_to, put_policies
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.money import parse_nanos
from tokenbudget.domain.rating import RatingFacts, upper_bound_cost
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import HoldRow

NUMBERS = count()


@pytest.fixture
def ledger(services: Services) -> Ledger:
    """Give a ledger that prices models of several sizes."""
    return make_ledger(replace(services, price_list=SIZES))


def test_the_model_is_given_in_full_while_it_fits(ledger: Ledger) -> None:
    limit_to(ledger, "0.20")
    put_policies(ledger, {"ladder": LADDER})

    assert asked(ledger) == ("allow", "large", 5_000)


@pytest.mark.parametrize(
    ("limit", "model"), [("0.19", "medium"), ("0.02", "medium"), ("0.019", "small")]
)
def test_the_first_rung_that_fits_in_full_stands_in(
    ledger: Ledger, database: Database, clock: FrozenClock, limit: str, model: str
) -> None:
    limit_to(ledger, limit)
    put_policies(ledger, {"ladder": LADDER})

    answer = ask(ledger, model="large")

    assert (answer["decision"], answer["limits"]["model"]) == ("reduce", model)
    assert answer["limits"]["max_output_tokens"] == 5_000
    assert "provider" not in answer["limits"]
    [hold] = rows_of(database, HoldRow)
    assert (hold["provider"], hold["model"]) == ("acme", model)
    assert hold["estimate_nanos"] == parse_nanos(answer["estimate"])
    assert standings(database, now=clock())["all",] == (0, hold["estimate_nanos"])


def test_without_a_rung_that_fits_the_model_is_given_with_less_output(ledger: Ledger) -> None:
    limit_to(ledger, "0.15")
    put_policies(ledger, {"ladder": ["large"]})

    # Ten cents of input leave five for output at two cents a thousand.
    assert asked(ledger) == ("reduce", "large", 2_500)


def test_less_output_than_a_policy_wants_is_denied(ledger: Ledger) -> None:
    limit_to(ledger, "0.15")
    put_policies(ledger, {"min_output_tokens": 2_500})
    enough = asked(ledger, dry_run=True)
    put_policies(ledger, {"min_output_tokens": 2_501})

    too_little = ask(ledger, model="large")

    assert enough == ("reduce", "large", 2_500)
    assert codes(too_little, "reasons") == ["budget_exhausted"]


def test_nothing_that_fits_is_a_denial_by_the_budgets_of_the_asked_model(ledger: Ledger) -> None:
    limit_to(ledger, "0.0001")
    put_policies(ledger, {"ladder": LADDER})

    answer = ask(ledger, model="large")

    assert (answer["decision"], answer["limits"]["model"]) == ("deny", "large")
    assert codes(answer, "reasons") == ["budget_exhausted"]
    assert answer["binding"]["budget"] == "all"


def test_only_rungs_behind_the_asked_model_stand_in(ledger: Ledger) -> None:
    limit_to(ledger, "0.019")
    put_policies(ledger, {"ladder": ["small", "medium", "large"]})

    # Nothing stands behind large; of the others, medium costs two cents.
    assert asked(ledger) == ("deny", "large", None)
    assert asked(ledger, model="small") == ("allow", "small", 5_000)


def test_a_dated_name_finds_its_place_on_the_ladder(ledger: Ledger) -> None:
    limit_to(ledger, "0.03")
    put_policies(ledger, {"ladder": ["medium", "large", "small"]})

    assert asked(ledger, model="large-2026-05-01")[:2] == ("reduce", "small")


def test_a_model_that_is_not_on_the_ladder_may_take_any_rung(ledger: Ledger) -> None:
    limit_to(ledger, "0.02")
    put_policies(ledger, {"ladder": ["medium", "small"]})

    assert asked(ledger)[:2] == ("reduce", "medium")


def test_a_rung_of_another_provider_is_told_with_it(ledger: Ledger, database: Database) -> None:
    limit_to(ledger, "0.01")
    put_policies(ledger, {"ladder": ["reseller/tiny"]})

    answer = ask(ledger, model="large")

    assert answer["limits"] == {
        "max_output_tokens": 5_000,
        "model": "tiny",
        "provider": "reseller",
        "requests": 1,
    }
    [hold] = rows_of(database, HoldRow)
    assert (hold["provider"], hold["model"]) == ("reseller", "tiny")


def test_a_model_that_is_not_allowed_is_answered_by_the_first_rung_that_is(ledger: Ledger) -> None:
    limit_to(ledger, "100.00")
    put_policies(ledger, {"ladder": LADDER, "denied_models": ["large", "medium"]})

    answer = ask(ledger, model="large")

    assert (answer["decision"], answer["limits"]["model"]) == ("reduce", "small")
    assert codes(answer, "warnings") == ["model_not_allowed"]
    assert answer["reasons"] == []


def test_a_model_that_is_not_allowed_is_never_given_in_part(ledger: Ledger) -> None:
    limit_to(ledger, "0.15")
    put_policies(ledger, {"denied_models": ["large"], "ladder": ["large", "large-2026-05-01"]})

    answer = ask(ledger, model="large")

    assert (answer["decision"], answer["binding"]) == ("deny", None)
    assert codes(answer, "reasons") == ["model_not_allowed"]


def test_a_rung_cannot_mend_what_is_no_matter_of_the_model(ledger: Ledger) -> None:
    put_policies(ledger, {"ladder": LADDER, "require_owner": True})

    assert codes(ask(ledger, model="large"), "reasons") == ["owner_missing"]


def test_a_rung_counts_in_the_budgets_of_its_own_model(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    put_policies(ledger, {"ladder": LADDER})
    set_budgets(
        database,
        make_budget(id="large", limit="0", selector={"model": "large"}),
        make_budget(id="medium", limit="0.01", selector={"model": "medium"}),
        make_budget(id="small", limit="0.01", selector={"model": "small"}),
        now=clock(),
    )

    answer = ask(ledger, model="large")

    assert (answer["limits"]["model"], answer["binding"]["budget"]) == ("small", "small")
    assert standings(database, now=clock()) == {
        ("large",): (0, 0),
        ("medium",): (0, 0),
        ("small",): (0, CENT // 5),
    }


def test_usage_of_the_rung_settles_the_hold(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    limit_to(ledger, "0.02")
    put_policies(ledger, {"ladder": LADDER})
    hold_id = ask(ledger, model="large")["hold_id"]

    record(ledger, make_event(model="medium", hold_id=hold_id))

    assert standings(database, now=clock())["all",] == (2 * CENT, 0)
    assert broken_rules(database) == []


def test_an_unpriced_model_is_stood_in_for_where_money_is_limited(ledger: Ledger) -> None:
    limit_to(ledger, "1.00")
    put_policies(ledger, {"ladder": ["medium"]})

    assert asked(ledger, model="unheard-of")[:2] == ("reduce", "medium")


def test_an_unpriced_rung_is_passed_over_where_money_is_limited(ledger: Ledger) -> None:
    limit_to(ledger, "0.02")
    put_policies(ledger, {"ladder": ["unheard-of", "medium"]})

    assert asked(ledger)[:2] == ("reduce", "medium")


def test_an_estimate_of_the_caller_is_of_no_other_model(ledger: Ledger) -> None:
    limit_to(ledger, "0.10")
    put_policies(ledger, {"ladder": LADDER})

    assert asked(ledger, estimate="0.11")[0] == "deny"


def test_a_rung_is_given_for_all_requests_or_not_at_all(ledger: Ledger) -> None:
    limit_to(ledger, "0.10")
    put_policies(ledger, {"ladder": LADDER})

    answer = ask(ledger, model="large", requests=10)

    # Ten of medium are twenty cents, ten of small two.
    assert (answer["limits"]["model"], answer["limits"]["requests"]) == ("small", 10)
    assert answer["estimate"] == "0.020000000"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit_cents=st.integers(0, 60),
    limit_tokens=st.integers(0, 40_000),
    ladder=st.permutations(["large", "medium", "small", "reseller/tiny"]),
    denied=st.lists(st.sampled_from(["large", "medium", "small"]), max_size=2),
    checks=st.lists(
        st.fixed_dictionaries(
            {
                "model": st.sampled_from(["large", "medium", "small"]),
                "input_tokens": st.integers(0, 12_000),
                "max_output_tokens": st.integers(0, 8_000),
            }
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_the_hold_is_what_the_answer_permits_and_never_above_headroom(
    services: Services,
    limit_cents: int,
    limit_tokens: int,
    ladder: list[str],
    denied: list[str],
    checks: list[dict[str, Any]],
) -> None:
    ledger = make_ledger(replace(services, price_list=SIZES))
    number = next(NUMBERS)
    team = {"team": f"t{number}"}
    money = make_budget(id=f"m{number}", limit=f"{limit_cents / 100:.2f}", selector=team)
    tokens = make_budget(id=f"t{number}", limit=str(limit_tokens), unit="tokens", selector=team)
    set_budgets(ledger.database, money, tokens, now=ledger.clock())
    demands = {"denied_models": denied} if denied else {}
    put_policies(ledger, {"ladder": ladder, "selector": team, **demands})
    held_nanos, held_tokens = 0, 0

    for check in checks:
        answer = ask(ledger, **{**make_check(), **check, "tags": team})
        if answer["decision"] == "deny":
            continue
        limits = answer["limits"]
        facts = RatingFacts(limits.get("provider", "acme"), limits["model"], ledger.clock())
        permitted = upper_bound_cost(
            check["input_tokens"], limits["max_output_tokens"], facts, SIZES
        ).effective_nanos
        assert permitted == parse_nanos(answer["estimate"])
        assert limits["model"] not in denied
        held_nanos += permitted or 0
        held_tokens += check["input_tokens"] + limits["max_output_tokens"]

    stand = standings(ledger.database, now=ledger.clock())
    assert stand[f"m{number}",] == (0, held_nanos)
    assert stand[f"t{number}",] == (0, held_tokens)
    assert held_nanos <= limit_cents * CENT
    assert held_tokens <= limit_tokens
