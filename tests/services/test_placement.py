"""What a worker remembers of where usage counts, and when it forgets."""

from __future__ import annotations

from collections.abc import Mapping

from tests.builders import PRICES, make_budget, make_event, record, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.allocation import CallFacts
from tokenbudget.domain.budgets import Budget, BudgetIndex
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import MAX_REMEMBERED, Caller, Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DimensionSetRow

CALL = CallFacts("acme", "plain")


def make_rules(*budgets: Budget, number: int = 1) -> Rulebook:
    """Give rules in which the growth team owns the feature ``summarise``."""
    return Rulebook(
        number=number,
        price_list=PRICES,
        index=BudgetIndex.build(budgets),
        budgets={budget.id: budget for budget in budgets},
        feature_teams={"summarise": "growth"},
    )


def make_memory() -> Memory:
    """Give the memory of a worker that has just started."""
    return Memory(frozenset({"user"}))


def place(
    memory: Memory, rules: Rulebook, tags: Mapping[str, str], caller: Caller | None = None
) -> Placement:
    """Give where a call with these tags counts."""
    return memory.place(CALL, tags, caller or Caller(), rules)


def test_a_placement_names_dimensions_and_budgets() -> None:
    rules = make_rules(make_live_budget(selector={"team": frozenset({"growth"})}))

    placed = place(make_memory(), rules, {"feature": "summarise", "user": "u-17"})

    assert (placed.dimensions.team, placed.dimension_set_id) == ("growth", 0)
    assert [match.budget.id for match in placed.matches] == ["b"]


def test_tags_with_too_many_values_share_a_placement_and_are_kept() -> None:
    memory, rules = make_memory(), make_rules()
    pinned = Caller(pinned_tags={"user": "u-99"})

    first = place(memory, rules, {"feature": "summarise", "user": "u-17"})
    second = place(memory, rules, {"feature": "summarise", "user": "u-18"})

    assert first is second
    assert memory.kept_tags({"feature": "summarise", "user": "u-17"}, Caller()) == {"user": "u-17"}
    assert memory.kept_tags({"user": "u-17"}, pinned) == {"user": "u-99"}


def test_a_dimension_counts_even_if_the_settings_name_it_as_unrolled() -> None:
    memory, rules = Memory({"tenant"}), make_rules()

    first = place(memory, rules, {"tenant": "acme"})
    second = place(memory, rules, {"tenant": "globex"})

    assert (first.dimensions.tenant, second.dimensions.tenant) == ("acme", "globex")
    assert memory.kept_tags({"tenant": "acme"}, Caller()) == {}


def test_the_same_tags_of_the_same_caller_are_resolved_once() -> None:
    memory, rules = make_memory(), make_rules()

    assert place(memory, rules, {"a": "1", "b": "2"}) is place(memory, rules, {"b": "2", "a": "1"})


def test_callers_with_other_pinned_tags_are_kept_apart() -> None:
    memory, rules = make_memory(), make_rules()

    teams = [
        place(memory, rules, {"team": "x"}, Caller(key_id, {"team": key_id})).dimensions.team
        for key_id in ("growth", "search")
    ]

    assert teams == ["growth", "search"]


def test_new_rules_are_followed_and_what_the_old_ones_said_is_dropped() -> None:
    memory = make_memory()
    old, new = make_rules(), make_rules(make_live_budget(), number=2)
    memory.follow(old)
    before = place(memory, old, {})

    memory.follow(new)

    assert before.matches == ()
    assert [match.budget.id for match in place(memory, new, {}).matches] == ["b"]


def test_the_same_rules_again_forget_nothing() -> None:
    memory, rules = make_memory(), make_rules()
    memory.follow(rules)
    before = place(memory, rules, {})

    memory.follow(rules)

    assert place(memory, rules, {}) is before


def test_memory_is_bounded() -> None:
    memory, rules = make_memory(), make_rules()
    memory.follow(rules)
    place(memory, rules, {})
    memory.source_ids = {str(number): number for number in range(MAX_REMEMBERED + 1)}

    memory.follow(rules)

    assert memory.source_ids == {}
    assert memory.placements == {}


def test_nothing_is_lost_when_a_worker_forgets(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event())
    ledger.memory.forget()

    record(ledger, make_event(event_id="e2"), make_event(usage={"input_tokens": 1}, revision=1))

    assert len(rows_of(database, DimensionSetRow)) == 1


def test_a_budget_written_meanwhile_is_matched_from_then_on(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    record(ledger, make_event())
    set_budgets(database, make_budget(id="late"), now=clock())

    record(ledger, make_event(event_id="e2"))

    assert ledger.shelf.current is not None
    assert list(ledger.shelf.current.budgets) == ["late"]
