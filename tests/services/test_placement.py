"""What a worker remembers of where usage counts, and when it forgets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tests.builders import PRICES, make_budget, make_event, record, rows_of, set_budgets
from tests.conftest import FrozenClock
from tests.domain.budget_cases import make_live_budget
from tokenbudget.domain.allocation import CallFacts
from tokenbudget.domain.budgets import Budget, BudgetIndex
from tokenbudget.domain.owners import Owner, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import EPOCH
from tokenbudget.domain.tag_rules import Condition, TagRule, TagRules
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import MAX_REMEMBERED, Caller, Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DimensionSetRow

CALL = CallFacts("acme", "plain")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OWNED = TagRules.build(
    [], [], [Owner(OwnerKind.FEATURE, "summarise", OwnerFacts(parent="growth"), EPOCH)]
)


def make_rules(*budgets: Budget, number: int = 1, tag_rules: TagRules | None = None) -> Rulebook:
    """Give rules in which the growth team owns the feature ``summarise``."""
    return Rulebook(
        number=number,
        price_list=PRICES,
        index=BudgetIndex.build(budgets),
        budgets={budget.id: budget for budget in budgets},
        tag_rules=tag_rules or OWNED,
    )


def make_memory() -> Memory:
    """Give the memory of a worker that has just started."""
    return Memory(frozenset({"user"}))


def place(
    memory: Memory,
    rules: Rulebook,
    tags: Mapping[str, str],
    caller: Caller | None = None,
    at: datetime = NOON,
) -> Placement:
    """Give where a call with these tags counts."""
    return memory.place(CALL, tags, caller or Caller(), rules, at)


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


def test_usage_before_and_after_a_turn_of_the_rules_is_placed_apart() -> None:
    moved = TagRule("moved", (Condition("tenant", frozenset({"acme"})),), {"team": "search"}, NOON)
    memory, rules = make_memory(), make_rules(tag_rules=TagRules.build([], [moved]))
    before, after = NOON - timedelta(seconds=1), NOON + timedelta(days=1)

    placed = [place(memory, rules, {"tenant": "acme"}, at=at) for at in (before, NOON, after)]

    assert [each.dimensions.team for each in placed] == ["unallocated", "search", "search"]
    assert placed[1] is placed[2]


def test_a_key_that_demands_a_tag_refuses_a_call_that_nothing_gives_it() -> None:
    memory, rules = make_memory(), make_rules()
    strict = Caller("k", required_tags=("team", "user"), rejects_missing=True)
    lenient = Caller("l", required_tags=("team",))

    def refusal(tags: Mapping[str, str], caller: Caller) -> str | None:
        return memory.refusal(place(memory, rules, tags, caller), tags, caller)

    assert refusal({"user": "u-1"}, strict) == (
        "the API key requires the tag 'team', and nothing gives it"
    )
    assert refusal({"team": "growth"}, strict) is not None
    assert refusal({"feature": "summarise", "user": "u-1"}, strict) is None
    assert refusal({}, lenient) is None


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
