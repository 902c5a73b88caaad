"""The rules in force as a worker knows them: loaded once, and again when they changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.builders import PRICES, make_budget, set_budgets
from tests.conftest import FrozenClock
from tokenbudget.domain.budgets import Mode, ThresholdOn, Unit
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.rulebook import Rulebook, RulebookShelf
from tokenbudget.store.db import Database


def consult(database: Database, shelf: RulebookShelf) -> Rulebook:
    """Give the rules in force in a transaction of their own."""
    with database.transaction() as session:
        return shelf.consult(session)


def test_an_empty_ledger_has_rules_too(database: Database, clock: FrozenClock) -> None:
    rules = consult(database, RulebookShelf(PRICES))

    assert (rules.number, rules.budgets, rules.tag_rules) == (0, {}, TagRules())
    assert rules.price_list is PRICES


def test_rules_that_did_not_change_are_not_loaded_again(
    database: Database, clock: FrozenClock
) -> None:
    shelf = RulebookShelf(PRICES)

    assert consult(database, shelf) is consult(database, shelf)


def test_a_changed_budget_is_seen_by_the_next_transaction(
    database: Database, clock: FrozenClock
) -> None:
    shelf = RulebookShelf(PRICES)
    before = consult(database, shelf)

    set_budgets(database, make_budget(), now=clock())

    after = consult(database, shelf)
    assert after.number == before.number + 1
    assert list(after.budgets) == ["all"]


def test_a_budget_is_loaded_as_it_was_written(database: Database, clock: FrozenClock) -> None:
    draft = make_budget(
        selector={"team": ["growth", "search"], "environment": "prod"},
        split_by=["tenant"],
        unit="tokens",
        limit=5_000,
        window="week",
        timezone="Asia/Kolkata",
        mode="soft",
        thresholds=["0.9", "0.25"],
        on="actual",
        overdraft=100,
        baseline="creation",
        fail_mode="open",
        owner="ana@example.com",
        channels=["finance"],
        valid_to="2027-01-01T00:00:00Z",
    )
    set_budgets(database, draft, now=clock())

    budget = consult(database, RulebookShelf(PRICES)).budgets["all"]

    assert budget.selector == {
        "team": frozenset({"growth", "search"}),
        "environment": frozenset({"prod"}),
    }
    assert (budget.split_by, budget.unit, budget.limit) == (("tenant",), Unit.TOKENS, 5_000)
    assert (budget.window, budget.window_text) == (draft.window, "week")
    assert (budget.mode, budget.thresholds) == (Mode.SOFT, (2_500, 9_000))
    assert (budget.threshold_on, budget.overdraft) == (ThresholdOn.ACTUAL, 100)
    assert (budget.counts_from_window, budget.fails_open) == (False, True)
    assert (budget.owner, budget.channels) == ("ana@example.com", ("finance",))
    assert (budget.valid_from, budget.valid_to) == (clock(), draft.valid_to)


def test_the_registry_says_which_team_owns_a_feature(
    database: Database, clock: FrozenClock
) -> None:
    entries = [
        OwnerEntry(OwnerKind.TEAM, "growth", OwnerFacts()),
        OwnerEntry(OwnerKind.FEATURE, "summarise", OwnerFacts(parent="growth")),
        OwnerEntry(OwnerKind.FEATURE, "orphan", OwnerFacts()),
    ]
    apply_owners(database, entries, now=clock())

    rules = consult(database, RulebookShelf(PRICES)).tag_rules

    assert [rules.team_of(name, clock()) for name in ("summarise", "orphan", "unknown")] == [
        "growth",
        None,
        None,
    ]


def test_a_feature_that_changed_teams_belonged_to_each_in_its_time(
    database: Database, clock: FrozenClock
) -> None:
    move = datetime(2026, 11, 1, tzinfo=UTC)
    apply_owners(
        database,
        [
            OwnerEntry(OwnerKind.TEAM, "growth", OwnerFacts()),
            OwnerEntry(OwnerKind.TEAM, "search", OwnerFacts()),
            OwnerEntry(OwnerKind.FEATURE, "summarise", OwnerFacts(parent="growth")),
            OwnerEntry(OwnerKind.FEATURE, "summarise", OwnerFacts(parent="search"), move),
        ],
        now=clock(),
    )

    rules = consult(database, RulebookShelf(PRICES)).tag_rules

    assert rules.team_of("summarise", move - timedelta(seconds=1)) == "growth"
    assert rules.team_of("summarise", move) == "search"
