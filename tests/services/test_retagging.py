"""Tags that are learned later move what was charged, once, and nothing that was known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tests.builders import (
    CENT,
    DOLLAR,
    PRICES,
    cents,
    contents,
    hold_cents,
    make_budget,
    make_event,
    record,
    record_work,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.price_builders import day
from tests.services.rerate_cases import BOOK, FIXED_BOOK, ledger_by, rerate, spent_nanos
from tests.services.witness_cases import (
    GATEWAY,
    OTLP,
    SDK,
    effective_total,
    standing_nanos,
    tell,
    tell_work,
    told,
)
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.agreements import Agreements
from tokenbudget.domain.commitments import Commitment, Per
from tokenbudget.domain.owners import OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.domain.periods import format_instant
from tokenbudget.services.holds import get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.owners import apply_owners
from tokenbudget.services.placement import Caller
from tokenbudget.services.retagging import (
    EventTarget,
    RetagAnswer,
    RetagUsage,
    SpanTarget,
    TagChange,
    Target,
)
from tokenbudget.store.db import Database, insert_rows
from tokenbudget.store.tables import (
    ChargeRow,
    DimensionSetRow,
    PeriodCloseRow,
    RollupRow,
    UsageRow,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
E1 = EventTarget("api", "e1")


def retag(ledger: Ledger, target: Target, **tags: str) -> RetagAnswer:
    """Tell what was learned of one usage and give the answer."""
    [answer] = ledger.apply([RetagUsage([TagChange(target, tags)])])
    assert isinstance(answer, RetagAnswer)
    return answer


def counted_as(database: Database) -> list[tuple[str, str | None, str | None]]:
    """Give (team, feature, tenant) of every charge in order of usage and sequence."""
    sets = {row["id"]: row for row in rows_of(database, DimensionSetRow)}
    own = {row["id"]: row["dimension_set_id"] for row in rows_of(database, UsageRow)}
    rows = [
        sets[row["dimension_set_id"] or own[row["usage_id"]]]
        for row in rows_of(database, ChargeRow)
    ]
    return [(row["team"], row["feature"], row["tenant"]) for row in rows]


def test_a_tag_that_is_learned_later_moves_the_charge(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    record(ledger, make_event(tags={"team": "growth"}))

    answer = retag(ledger, E1, tenant="acme")

    shown = [
        (row["sequence"], row["effective_nanos"], row["reverses_usage_id"] is None)
        for row in rows_of(database, ChargeRow)
    ]
    assert answer == RetagAnswer(moved=1, unchanged=0, unknown=0)
    assert shown == [(0, 2 * CENT, True), (2, -2 * CENT, False), (3, 2 * CENT, True)]
    assert counted_as(database) == [
        ("growth", None, None),
        ("growth", None, None),
        ("growth", None, "acme"),
    ]
    assert standings(database, now=clock())["all", "acme"] == (2 * CENT, 0)
    assert sum(row["requests"] for row in rows_of(database, RollupRow)) == 2
    assert standing_nanos(database) == [("e1", 2 * CENT)]


def test_the_same_tags_again_move_nothing(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(tags={}))
    retag(ledger, E1, team="growth", kind="batch")
    before = contents(database)

    answer = retag(ledger, E1, team="growth", kind="batch")

    assert answer == RetagAnswer(moved=0, unchanged=1, unknown=0)
    assert contents(database) == before


def test_tags_that_were_given_or_pinned_stay(ledger: Ledger, database: Database) -> None:
    record(
        ledger,
        make_event(tags={"feature": "summarise"}),
        caller=Caller("key-1", {"team": "growth"}),
    )

    answer = retag(ledger, E1, team="search", feature="other")

    assert answer.unchanged == 1
    assert counted_as(database) == [("growth", "summarise", None)]


def test_a_feature_that_is_learned_finds_its_registered_team(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    entries = [
        OwnerEntry(OwnerKind.TEAM, "research", OwnerFacts(), None),
        OwnerEntry(OwnerKind.FEATURE, "search", OwnerFacts(parent="research"), None),
    ]
    apply_owners(database, entries, now=clock())
    record(ledger, make_event(tags={}))

    retag(ledger, E1, feature="search")

    assert counted_as(database)[-1] == ("research", "search", None)


def test_tags_that_are_no_dimensions_move_nothing(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event())

    assert retag(ledger, E1, user="u-17").unchanged == 1


def test_usage_is_named_by_event_by_span_and_by_id(ledger: Ledger, database: Database) -> None:
    for number in (1, 2, 3):
        span = {"trace_id": TRACE, "span_id": f"{SPAN}{number}"}
        record(ledger, make_event(event_id=f"e{number}", tags={}, **span))
    third = rows_of(database, UsageRow)[2]["id"]

    answers = ledger.apply(
        [
            RetagUsage(
                [
                    TagChange(EventTarget("api", "e1"), {"tenant": "a"}),
                    TagChange(SpanTarget(TRACE, f"{SPAN}2"), {"tenant": "b"}),
                    TagChange(third, {"tenant": "c"}),
                    TagChange(EventTarget("api", "never"), {"tenant": "d"}),
                    TagChange(10**15, {"tenant": "d"}),
                ]
            )
        ]
    )

    assert answers == [RetagAnswer(moved=3, unchanged=0, unknown=2)]
    assert [tenant for _, _, tenant in counted_as(database)[2::3]] == ["a", "b", "c"]


def test_usage_of_the_same_batch_is_charged_where_it_belongs_at_once(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    work = record_work([make_event(tags={})], now=clock())

    ledger.apply([RetagUsage([TagChange(E1, {"tenant": "acme"})]), work])

    assert counted_as(database) == [("unallocated", None, "acme")]
    assert standing_nanos(database) == [("e1", 2 * CENT)]


def test_what_is_learned_of_evidence_moves_what_counts(ledger: Ledger, database: Database) -> None:
    tell(ledger, GATEWAY, tags={})
    tell(ledger, OTLP, tags={})

    retag(ledger, EventTarget("otlp", "otlp-1"), team="growth")

    assert counted_as(database)[-1] == ("growth", None, None)
    assert standing_nanos(database) == [("proxy-1", 2 * CENT)]


def test_what_was_learned_stays_when_a_better_witness_counts(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, OTLP, tags={})
    retag(ledger, EventTarget("otlp", "otlp-1"), team="growth")

    tell(ledger, GATEWAY, tags={}, usage=cents(5))

    assert counted_as(database)[-1] == ("growth", None, None)
    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]


def test_what_was_learned_stays_after_a_revision(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(tags={}))
    retag(ledger, E1, team="growth")

    record(ledger, make_event(tags={}, usage=cents(5), revision=1))

    assert standing_nanos(database) == [("e1", 5 * CENT)]
    assert ("growth", None, None) in counted_as(database)[-2:]


def test_nothing_is_learned_of_what_was_voided(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(tags={}))
    record(ledger, make_event(tags={}, void=True, revision=1))

    answer = retag(ledger, E1, team="growth")

    assert answer.unchanged == 1
    assert effective_total(database) == 0


def test_a_hold_moves_with_its_usage(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    hold_id = hold_cents(ledger, 9, tags={})
    clock.advance(days=1)
    later = format_instant(clock())
    record(ledger, make_event(tags={}, hold_id=hold_id, occurred_at=later))

    retag(ledger, E1, tenant="acme")

    yesterday = standings(database, now=clock() - timedelta(days=1))
    assert get_hold(database, hold_id).state == "settled"
    assert yesterday["all",] == (2 * CENT, 0)
    assert standing_nanos(database) == [("e1", 2 * CENT)]


def test_what_was_moved_is_rated_again_where_it_counts_now(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    record(ledger, make_event(tags={}))
    retag(ledger, E1, tenant="acme")

    rerate(database, FIXED_BOOK, clock)

    assert spent_nanos(database) == 25_000_000
    assert counted_as(database)[-1] == ("unallocated", None, "acme")
    assert standings(database, now=clock())["all", "acme"] == (25_000_000, 0)


def test_what_was_rated_again_is_moved_as_it_stands(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    record(ledger, make_event(tags={}))
    rerate(database, FIXED_BOOK, clock)

    retag(ledger, E1, tenant="acme")

    assert [row["sequence"] for row in rows_of(database, ChargeRow)] == [0, 2, 3, 4, 5]
    assert spent_nanos(database) == 25_000_000


def test_a_displaced_witness_is_not_rated_again(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    tell(ledger, SDK)
    tell(ledger, GATEWAY, usage=cents(5))

    applied = rerate(database, FIXED_BOOK, clock)

    assert applied.applied.usages == 1
    assert standing_nanos(database) == [("proxy-1", 75_000_000)]


def test_a_hold_in_another_window_follows_a_rating_again_after_it_was_moved(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, BOOK)
    set_budgets(database, make_budget(window="day"), now=clock())
    hold_id = hold_cents(ledger, 9, tags={})
    clock.advance(days=1)
    later = format_instant(clock())
    record(ledger, make_event(tags={}, hold_id=hold_id, occurred_at=later))
    retag(ledger, E1, tenant="acme")

    rerate(database, FIXED_BOOK, clock)

    assert standings(database, now=clock())["all",] == (0, 0)
    assert standings(database, now=clock() - timedelta(days=1))["all",] == (25_000_000, 0)
    assert spent_nanos(database) == 25_000_000


def test_a_charge_of_a_closed_period_moves_in_the_open_one(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event(tags={}, occurred_at="2026-10-31T12:00:00Z"))
    with database.transaction() as session:
        row = {"closed_before": 202611, "recorded_at": datetime(2026, 11, 5, tzinfo=UTC)}
        insert_rows(session, PeriodCloseRow, [row])

    retag(ledger, E1, team="growth")

    posted = [row["accounting_period"] for row in rows_of(database, ChargeRow)]
    assert posted == [202610, 202611, 202611]


def test_usage_that_turns_out_to_be_covered_is_rated_again(
    services: Services, database: Database
) -> None:
    commitment = Commitment(
        id="ptu",
        provider="acme",
        covers={"deployment": ("prod",)},
        nanos_per_time=Fraction(DOLLAR),
        per=Per.HOUR,
        valid_from=day("2026-11-19"),
    )
    prices = PRICES.with_agreements(Agreements(commitments=(commitment,), version="1"))
    ledger = make_ledger(replace(services, price_list=prices))
    record(ledger, make_event(tags={}))

    retag(ledger, E1, deployment="prod")

    assert [row["effective_nanos"] for row in rows_of(database, ChargeRow)] == [
        2 * CENT,
        -2 * CENT,
        0,
    ]
    assert standing_nanos(database) == [("e1", 0)]


def test_a_batch_may_hold_witnesses_and_tags_of_one_call(
    ledger: Ledger, database: Database
) -> None:
    ledger.apply(
        [
            tell_work(ledger, OTLP, [told(OTLP, tags={}, trace_id=TRACE, span_id=SPAN)]),
            RetagUsage([TagChange(SpanTarget(TRACE, SPAN), {"team": "growth"})]),
            tell_work(ledger, SDK, [told(SDK, tags={"tenant": "acme"}, usage=cents(3))]),
        ]
    )

    assert counted_as(database) == [("growth", None, "acme")]
    assert standing_nanos(database) == [("app-1", 3 * CENT)]
