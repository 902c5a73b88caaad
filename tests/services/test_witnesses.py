"""One call told of by several witnesses is charged once, whatever their order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations
from threading import Barrier
from typing import Any

import pytest

from tests.builders import (
    CENT,
    ask,
    broken_rules,
    cents,
    contents,
    hold_cents,
    make_budget,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.services.witness_cases import (
    GATEWAY,
    OTLP,
    PROVIDER,
    SDK,
    effective_total,
    standing_nanos,
    tell,
    tell_work,
    told,
)
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.usage import Witness
from tokenbudget.services.holds import get_hold
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.db import Database
from tokenbudget.store.tables import (
    ChargeRow,
    DimensionSetRow,
    EventKeyRow,
    RollupRow,
    UsageRow,
)

SPAN = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
FIGURES = {SDK: cents(3), GATEWAY: cents(5), OTLP: cents(7), PROVIDER: cents(11)}


def tell_all(ledger: Ledger, *witnesses: Witness, **overrides: Any) -> None:
    for witness in witnesses:
        assert tell(ledger, witness, usage=FIGURES[witness], **overrides).accepted == 1


@pytest.mark.parametrize("order", list(permutations((SDK, GATEWAY, OTLP))))
def test_three_witnesses_in_any_order_are_one_charge(
    order: tuple[Witness, ...], ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())

    tell_all(ledger, *order)

    usages = rows_of(database, UsageRow)
    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]
    assert effective_total(database) == 5 * CENT
    assert standings(database, now=clock())["all",] == (5 * CENT, 0)
    assert [row["call_id"] for row in usages] == [None, usages[0]["id"], usages[0]["id"]]
    assert {row["witness"] for row in usages} == {SDK, GATEWAY, OTLP}


@pytest.mark.parametrize("order", list(permutations((PROVIDER, GATEWAY, OTLP))))
def test_witnesses_of_one_batch_are_one_charge(
    order: tuple[Witness, ...], ledger: Ledger, database: Database
) -> None:
    works = [
        tell_work(ledger, witness, [told(witness, usage=FIGURES[witness])]) for witness in order
    ]

    ledger.apply(works)

    assert standing_nanos(database) == [("invoice-1", 11 * CENT)]
    assert len(rows_of(database, ChargeRow)) == 1
    assert len(rows_of(database, UsageRow)) == 3


def test_evidence_is_accepted_and_costs_nothing(ledger: Ledger, database: Database) -> None:
    tell(ledger, GATEWAY)
    before = contents(database)

    answer = tell(ledger, OTLP, usage=cents(9))

    changed = {name for name, rows in contents(database).items() if rows != before[name]}
    assert answer == RecordAnswer(accepted=1, duplicates=0, unpriced=0, rejected=())
    assert changed == {"event_keys", "sources", "usage"} | (changed & {"usage_stretches"})
    assert standing_nanos(database) == [("proxy-1", 2 * CENT)]


def test_the_same_evidence_again_is_a_duplicate(ledger: Ledger, database: Database) -> None:
    tell_all(ledger, GATEWAY, SDK)
    before = contents(database)

    answer = tell(ledger, SDK, usage=FIGURES[SDK])

    assert (answer.accepted, answer.duplicates) == (0, 1)
    assert contents(database) == before


def test_a_better_witness_takes_the_others_charge_back(ledger: Ledger, database: Database) -> None:
    tell_all(ledger, SDK, GATEWAY)

    first, second = (row["id"] for row in rows_of(database, UsageRow))
    shown = [
        (row["usage_id"], row["sequence"], row["effective_nanos"], row["reverses_usage_id"])
        for row in rows_of(database, ChargeRow)
    ]
    assert shown == [
        (first, 0, 3 * CENT, None),
        (first, 2, -3 * CENT, first),
        (second, 0, 5 * CENT, None),
    ]
    assert {row["requests"] for row in rows_of(database, RollupRow) if row["effective_nanos"]} == {
        1
    }


def test_providers_are_the_same_however_they_are_spelt(ledger: Ledger, database: Database) -> None:
    tell(ledger, SDK, provider="acme")

    tell(ledger, OTLP, provider="Acme")

    assert standing_nanos(database) == [("app-1", 2 * CENT)]


def test_the_response_id_of_another_provider_is_another_call(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, provider="acme")

    tell(ledger, OTLP, provider="reseller")

    assert len(standing_nanos(database)) == 2


def test_numbers_that_a_provider_gives_out_again_join_nothing(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, provider="ollama", response_id="chatcmpl-17")

    tell(ledger, SDK, provider="ollama", response_id="chatcmpl-17", event_id="app-2")

    assert [row["call_id"] for row in rows_of(database, UsageRow)] == [None, None]


def test_witnesses_without_a_response_id_are_joined_by_their_span(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, response_id=None, **SPAN)

    tell(ledger, OTLP, response_id=None, **SPAN)

    assert standing_nanos(database) == [("app-1", 2 * CENT)]


def test_evidence_may_bring_the_key_that_a_third_witness_knows(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK)
    tell(ledger, OTLP, **SPAN)

    tell(ledger, GATEWAY, response_id=None, usage=cents(5), **SPAN)

    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]
    assert len({row["call_id"] or row["id"] for row in rows_of(database, UsageRow)}) == 1


def test_a_witness_that_knows_both_keys_makes_two_calls_one(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    tell(ledger, SDK, usage=FIGURES[SDK])
    tell(ledger, OTLP, response_id=None, usage=FIGURES[OTLP], **SPAN)
    assert effective_total(database) == 10 * CENT

    tell(ledger, GATEWAY, usage=FIGURES[GATEWAY], **SPAN)

    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]
    assert standings(database, now=clock())["all",] == (5 * CENT, 0)
    assert len({row["call_id"] or row["id"] for row in rows_of(database, UsageRow)}) == 1


def test_several_calls_within_one_span_stay_several(ledger: Ledger, database: Database) -> None:
    tell(ledger, SDK, event_id="first", response_id="resp_first", **SPAN)
    tell(ledger, SDK, event_id="second", response_id="resp_second", **SPAN)
    tell(ledger, SDK, event_id="third", response_id=None, attempt=2, **SPAN)

    assert [ref for ref, _ in standing_nanos(database)] == ["first", "second", "third"]


def test_what_a_gateway_answers_from_its_cache_is_a_call_of_its_own(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, GATEWAY, event_id="cached", cache_hit=True)

    tell(ledger, GATEWAY, event_id="real")

    assert standing_nanos(database) == [("cached", 0), ("real", 2 * CENT)]


def test_a_call_told_twice_by_one_source_counts_once(ledger: Ledger, database: Database) -> None:
    tell(ledger, OTLP, event_id="span-1")

    answer = tell(ledger, OTLP, event_id="span-2")

    assert answer.accepted == 1
    assert standing_nanos(database) == [("span-1", 2 * CENT)]


def test_of_two_equal_witnesses_the_one_with_more_detail_counts(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, OTLP, event_id="poor", model="caching")

    usage = {"input_tokens": 10_000, "cached_input_tokens": 10_000, "output_tokens": 5_000}
    tell(ledger, OTLP, event_id="rich", model="caching", usage=usage)

    assert standing_nanos(database) == [("rich", 11 * CENT // 10)]


@pytest.mark.parametrize("better", [SDK, GATEWAY])
def test_unknown_usage_never_displaces_known_usage(
    better: Witness, ledger: Ledger, database: Database
) -> None:
    tell(ledger, OTLP)

    tell(ledger, better, usage=None, status="timeout")

    assert standing_nanos(database) == [("otlp-1", 2 * CENT)]


def test_unknown_usage_counts_until_somebody_knows(ledger: Ledger, database: Database) -> None:
    tell(ledger, GATEWAY, usage=None)
    assert standing_nanos(database) == [("proxy-1", None)]

    tell(ledger, OTLP)

    assert standing_nanos(database) == [("otlp-1", 2 * CENT)]
    assert sum(row["unpriced_requests"] for row in rows_of(database, RollupRow)) == 0


def test_a_measured_figure_replaces_an_estimated_one(ledger: Ledger, database: Database) -> None:
    tell(ledger, SDK, usage=None, text="How many tokens are these?")

    tell(ledger, OTLP)

    assert standing_nanos(database) == [("otlp-1", 2 * CENT)]


def test_a_revision_of_what_counts_counts(ledger: Ledger, database: Database) -> None:
    tell_all(ledger, SDK, GATEWAY)

    tell(ledger, GATEWAY, usage=cents(6), revision=1)

    assert standing_nanos(database) == [("proxy-1", 6 * CENT)]


def test_a_revision_of_evidence_stays_evidence(ledger: Ledger, database: Database) -> None:
    tell_all(ledger, GATEWAY, SDK)

    answer = tell(ledger, SDK, usage=cents(4), revision=1)

    assert answer.accepted == 1
    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]
    assert len(rows_of(database, ChargeRow)) == 1


def test_a_witness_may_be_displaced_and_counted_again(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    tell_all(ledger, SDK, GATEWAY)

    tell(ledger, GATEWAY, usage=None, status="cancelled", revision=1)
    assert standing_nanos(database) == [("app-1", 3 * CENT)]
    tell(ledger, GATEWAY, usage=cents(8), revision=2)

    assert standing_nanos(database) == [("proxy-1", 8 * CENT)]
    assert standings(database, now=clock())["all",] == (8 * CENT, 0)


def test_when_what_counts_is_voided_the_next_best_witness_counts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    tell_all(ledger, GATEWAY, SDK, OTLP)

    tell(ledger, GATEWAY, void=True, revision=1)

    assert standing_nanos(database) == [("app-1", 3 * CENT)]
    assert standings(database, now=clock())["all",] == (3 * CENT, 0)


def test_voiding_evidence_changes_nothing(ledger: Ledger, database: Database) -> None:
    tell_all(ledger, GATEWAY, SDK)

    tell(ledger, SDK, void=True, revision=1)

    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]
    assert len(rows_of(database, ChargeRow)) == 1


def test_what_counts_knows_the_tags_that_only_evidence_has(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    tell(ledger, GATEWAY, tags={"feature": "search", "region_of": "eu"})

    tell(ledger, SDK, tags={"team": "growth", "feature": "other", "tenant": "acme"})

    counted = {row["id"]: row for row in rows_of(database, DimensionSetRow)}
    last = rows_of(database, ChargeRow)[-1]
    known = counted[last["dimension_set_id"]]
    assert (known["team"], known["feature"], known["tenant"]) == ("growth", "search", "acme")
    assert known["tags"] == {"region_of": "eu"}
    assert standings(database, now=clock())["all", "acme"] == (2 * CENT, 0)
    assert standing_nanos(database) == [("proxy-1", 2 * CENT)]


def test_a_better_witness_takes_over_the_tags_of_the_others(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    tell(ledger, SDK, tags={"team": "growth", "tenant": "acme"})

    tell(ledger, GATEWAY, tags={}, usage=cents(5))

    assert standings(database, now=clock())["all", "acme"] == (5 * CENT, 0)
    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]


def test_the_hold_that_evidence_names_settles_what_counts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    hold_id = hold_cents(ledger, 9)
    tell(ledger, GATEWAY, usage=cents(5))
    assert standings(database, now=clock())["all",] == (5 * CENT, 9 * CENT)

    tell(ledger, SDK, usage=cents(3), hold_id=hold_id)

    assert get_hold(database, hold_id).state == "settled"
    assert standings(database, now=clock())["all",] == (5 * CENT, 0)
    assert standing_nanos(database) == [("proxy-1", 5 * CENT)]


def test_a_hold_that_the_first_witness_settled_is_kept_by_the_better_one(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())
    hold_id = hold_cents(ledger, 9)
    clock.advance(days=1)
    later = format_instant(clock())
    tell(ledger, SDK, usage=cents(3), hold_id=hold_id, occurred_at=later)

    tell(ledger, GATEWAY, usage=cents(5), occurred_at=later)
    tell(ledger, PROVIDER, usage=cents(6), occurred_at=later)

    # All of it counts in the window the hold was granted in, yesterday.
    assert standings(database, now=clock())["all",] == (0, 0)
    assert standings(database, now=clock() - timedelta(days=1))["all",] == (6 * CENT, 0)
    assert standing_nanos(database) == [("invoice-1", 6 * CENT)]


def test_in_one_batch_the_hold_of_the_sdk_settles_what_the_gateway_tells(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    hold_id = ask(ledger)["hold_id"]

    ledger.apply(
        [
            tell_work(ledger, SDK, [told(SDK, hold_id=hold_id)]),
            tell_work(ledger, GATEWAY, [told(GATEWAY, usage=cents(5))]),
        ]
    )

    assert get_hold(database, hold_id).state == "settled"
    assert standings(database, now=clock())["all",] == (5 * CENT, 0)
    assert broken_rules(database) == []


def test_a_refused_event_keeps_no_key_of_a_call(ledger: Ledger, database: Database) -> None:
    tell(ledger, SDK, response_id=None)
    other = "resp_of_another_call"

    answer = tell(ledger, SDK, response_id=other)
    tell(ledger, OTLP, response_id=other)

    assert [rejection.code for rejection in answer.rejected] == ["conflict"]
    assert [ref for ref, _ in standing_nanos(database)] == ["app-1", "otlp-1"]
    kept = {row["usage_id"] for row in rows_of(database, EventKeyRow)}
    assert kept == {row["id"] for row in rows_of(database, UsageRow)}


def test_the_key_of_a_refused_event_goes_to_the_next_of_its_batch(
    ledger: Ledger, database: Database
) -> None:
    tell(ledger, SDK, response_id=None)

    ledger.apply(
        [
            tell_work(ledger, SDK, [told(SDK)]),
            tell_work(ledger, OTLP, [told(OTLP)]),
            tell_work(ledger, GATEWAY, [told(GATEWAY, usage=cents(5))]),
        ]
    )

    assert standing_nanos(database) == [("app-1", 2 * CENT), ("proxy-1", 5 * CENT)]


def test_witnesses_that_arrive_at_two_workers_at_once_are_one_charge(
    postgres_database: Database, clock: FrozenClock, tmp_path: Any
) -> None:
    services = make_services(postgres_database, clock, tmp_path)
    set_budgets(postgres_database, make_budget(limit="1000.00"), now=clock())
    ledgers = [make_ledger(services) for _ in range(4)]
    witnesses = (SDK, GATEWAY, OTLP, PROVIDER)
    calls = 12
    barrier = Barrier(len(witnesses))

    def work(place: int) -> None:
        ledger, witness = ledgers[place], witnesses[place]
        numbers = range(calls) if place % 2 else reversed(range(calls))
        for number in numbers:
            barrier.wait()
            event = told(
                witness,
                event_id=f"{witness.name}-{number}",
                response_id=f"resp_{number % 6}",
                usage=FIGURES[witness],
            )
            ledger.apply([tell_work(ledger, witness, [event])])

    with ThreadPoolExecutor(len(witnesses)) as pool:
        list(pool.map(work, range(len(witnesses))))

    assert len(rows_of(postgres_database, UsageRow)) == 4 * calls
    assert effective_total(postgres_database) == 6 * 11 * CENT
    assert standings(postgres_database, now=clock())["all",] == (6 * 11 * CENT, 0)
    assert len(standing_nanos(postgres_database)) == 6
