"""Recording usage: identity, answers by item, charges, rollups and counters in one transaction."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.builders import (
    CENT,
    DOLLAR,
    WRITE_FAILURE,
    ask,
    broken_rules,
    cents,
    contents,
    make_budget,
    make_event,
    make_events,
    record,
    record_work,
    rows_of,
    set_budgets,
    standings,
    table_away,
)
from tests.conftest import FrozenClock
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import (
    ChargeRow,
    DimensionSetRow,
    PriceListRow,
    PriceRow,
    RollupRow,
    UsageRow,
)


def effective_total(database: Database) -> int:
    """Give the sum of all charges in nanos."""
    charges = table_of(ChargeRow)
    with database.reading() as session:
        statement = sa.select(sa.func.sum(charges.c.effective_nanos))
        return int(session.connection().execute(statement).scalar() or 0)


def test_an_event_becomes_usage_a_charge_and_rollups(ledger: Ledger, database: Database) -> None:
    answer = record(ledger, make_event())

    [charge] = rows_of(database, ChargeRow)
    rollups = rows_of(database, RollupRow)
    assert answer == RecordAnswer(accepted=1, duplicates=0, unpriced=0, rejected=())
    assert charge["effective_nanos"] == 2 * CENT
    assert (charge["basis"], charge["accounting_period"]) == ("rated", 202611)
    assert [row["grain_seconds"] for row in rollups] == [900, 86_400]
    assert {row["effective_nanos"] for row in rollups} == {2 * CENT}
    assert broken_rules(database) == []


def test_a_charge_names_its_price_row_and_the_version_of_the_price_list(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event())

    [charge] = rows_of(database, ChargeRow)
    [price] = rows_of(database, PriceRow)
    [price_list] = rows_of(database, PriceListRow)
    assert charge["price_row_id"] == price["id"]
    assert charge["price_list_id"] == price_list["id"]
    assert price["rates"] == {"input_tokens": 1_000_000, "output_tokens": 2_000_000}
    assert price_list["sha256"] == "test-prices"


def test_the_same_event_again_is_a_duplicate(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event())

    answer = record(ledger, make_event())

    assert (answer.accepted, answer.duplicates, answer.rejected) == (0, 1, ())
    assert effective_total(database) == 2 * CENT


def test_a_second_ingest_of_a_batch_changes_nothing(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    events = make_events(20, usage=cents(1))
    record(ledger, *events)
    before = contents(database)
    clock.advance(minutes=20)

    answer = record(ledger, *events)

    assert (answer.accepted, answer.duplicates) == (0, 20)
    assert contents(database) == before


def test_a_new_worker_knows_what_another_recorded(
    ledger: Ledger, other_ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event())

    answer = record(other_ledger, make_event(), make_event(event_id="e2"))

    assert (answer.accepted, answer.duplicates) == (1, 1)
    assert broken_rules(database) == []


def test_the_order_of_fields_makes_no_difference(ledger: Ledger) -> None:
    record(ledger, make_event())

    answer = record(ledger, dict(reversed(make_event().items())))

    assert answer.duplicates == 1


def test_the_same_id_with_other_content_is_a_conflict(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event())

    answer = record(ledger, make_event(usage=cents(7)))

    [rejection] = answer.rejected
    assert (rejection.index, rejection.event_id, rejection.code) == (0, "e1", "conflict")
    assert "revision 1 would replace it" in rejection.detail
    assert effective_total(database) == 2 * CENT


def test_the_time_is_no_part_of_the_identity(ledger: Ledger) -> None:
    record(ledger, make_event())

    answer = record(ledger, make_event(occurred_at="2026-11-20T11:00:00Z"))

    assert [rejection.code for rejection in answer.rejected] == ["conflict"]


def test_the_same_id_of_another_source_is_another_event(ledger: Ledger) -> None:
    answer = record(ledger, make_event(source="checkout"), make_event(source="search"))

    assert (answer.accepted, answer.rejected) == (2, ())


def test_duplicates_within_one_batch_count_once(ledger: Ledger, database: Database) -> None:
    answer = record(ledger, make_event(), make_event(), make_event())

    assert (answer.accepted, answer.duplicates) == (1, 2)
    assert effective_total(database) == 2 * CENT


def test_a_conflict_within_one_batch_keeps_the_first(ledger: Ledger, database: Database) -> None:
    answer = record(ledger, make_event(), make_event(usage=cents(9)))

    assert (answer.accepted, [rejection.index for rejection in answer.rejected]) == (1, [1])
    assert effective_total(database) == 2 * CENT


def test_duplicates_across_the_requests_of_one_commit_count_once(
    ledger: Ledger, clock: FrozenClock
) -> None:
    works = [record_work([make_event()], now=clock()) for _ in range(2)]

    first, second = ledger.apply(works)

    assert isinstance(first, RecordAnswer)
    assert isinstance(second, RecordAnswer)
    assert (first.accepted, first.duplicates) == (1, 0)
    assert (second.accepted, second.duplicates) == (0, 1)


def test_a_bad_item_does_not_spoil_its_neighbours(ledger: Ledger, database: Database) -> None:
    answer = record(
        ledger,
        make_event(event_id="e1"),
        make_event(event_id="e2", usage={"input_tokens": 10, "cached_input_tokens": 20}),
        make_event(event_id="e3", occurred_at="2026-11-20T12:00:00"),
        make_event(event_id="e4"),
    )

    assert answer.accepted == 2
    assert [(item.index, item.event_id, item.code) for item in answer.rejected] == [
        (1, "e2", "usage_inconsistent"),
        (2, "e3", "naive_timestamp"),
    ]
    assert [row["event_ref"] for row in rows_of(database, UsageRow)] == ["e1", "e4"]


def test_a_batch_of_nothing_but_rejections_writes_nothing(
    ledger: Ledger, database: Database
) -> None:
    answer = record(ledger, make_event(model=""))

    assert (answer.accepted, len(answer.rejected)) == (0, 1)
    assert rows_of(database, UsageRow) == []
    assert rows_of(database, DimensionSetRow) == []


def test_a_revision_takes_the_old_charges_back_and_posts_the_new(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(ledger, make_event(usage=cents(30)))

    answer = record(ledger, make_event(usage=cents(10), revision=1))

    charges = rows_of(database, ChargeRow)
    assert answer.accepted == 1
    assert [(row["sequence"], row["effective_nanos"]) for row in charges] == [
        (0, 30 * CENT),
        (0, 10 * CENT),
        (1, -30 * CENT),
    ]
    assert [row["reverses_usage_id"] for row in charges] == [None, None, charges[0]["usage_id"]]
    assert standings(database, now=clock())["all",] == (10 * CENT, 0)
    assert broken_rules(database) == []


def test_a_revision_may_move_usage_to_another_team(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["team"]), now=clock())
    record(ledger, make_event(tags={"team": "growth"}))

    record(ledger, make_event(tags={"team": "search"}, revision=1))

    assert standings(database, now=clock()) == {
        ("all", "growth"): (0, 0),
        ("all", "search"): (2 * CENT, 0),
    }
    assert broken_rules(database) == []


def test_revisions_follow_each_other_within_one_batch(ledger: Ledger, database: Database) -> None:
    answer = record(
        ledger,
        make_event(usage=cents(3), revision=2),
        make_event(usage=cents(1)),
        make_event(usage=cents(2), revision=1),
    )

    assert (answer.accepted, answer.rejected) == (3, ())
    assert effective_total(database) == 3 * CENT
    assert broken_rules(database) == []


def test_a_repeated_revision_is_a_duplicate(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(), make_event(usage=cents(5), revision=1))

    answer = record(ledger, make_event(usage=cents(5), revision=1))

    assert (answer.accepted, answer.duplicates) == (0, 1)
    assert effective_total(database) == 5 * CENT


def test_a_revision_that_skips_one_is_a_conflict(ledger: Ledger) -> None:
    record(ledger, make_event())

    answer = record(ledger, make_event(revision=2), make_event(event_id="e9", revision=1))

    assert [rejection.detail for rejection in answer.rejected] == [
        "revision 2 cannot follow revision 0",
        "revision 1 cannot follow nothing",
    ]


def test_a_revision_known_already_with_other_content_is_a_conflict(ledger: Ledger) -> None:
    record(ledger, make_event(), make_event(usage=cents(5), revision=1))

    answer = record(ledger, make_event(usage=cents(6), revision=1))

    [rejection] = answer.rejected
    assert "revision 2 would replace it" in rejection.detail


def test_a_revision_of_what_another_worker_recorded_counts_where_that_stood(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(split_by=["tenant"]), now=clock())
    record(ledger, make_event(tags={"tenant": "a"}))

    record(other_ledger, make_event(tags={"tenant": "b"}, revision=1))

    assert standings(database, now=clock()) == {("all", "a"): (0, 0), ("all", "b"): (2 * CENT, 0)}


def test_usage_of_an_unknown_model_is_kept_without_an_amount(
    ledger: Ledger, database: Database
) -> None:
    answer = record(ledger, make_event(model="mystery"))

    [charge] = rows_of(database, ChargeRow)
    assert (answer.accepted, answer.unpriced) == (1, 1)
    assert (charge["basis"], charge["effective_nanos"]) == ("unpriced", None)
    assert charge["flags"] == "model_unknown"
    assert {row["unpriced_requests"] for row in rows_of(database, RollupRow)} == {1}
    assert broken_rules(database) == []


def test_unpriced_usage_that_is_revised_becomes_priced(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(model="mystery"))

    record(ledger, make_event(revision=1))

    assert effective_total(database) == 2 * CENT
    assert sum(row["unpriced_requests"] for row in rows_of(database, RollupRow)) == 0
    assert broken_rules(database) == []


def test_absent_quantities_are_stored_as_absent_and_zeros_as_zero(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event(usage={"input_tokens": 0, "output_tokens": None}))

    [usage] = rows_of(database, UsageRow)
    assert (usage["input_tokens"], usage["output_tokens"]) == (0, None)


def test_units_without_a_column_are_kept_too(ledger: Ledger, database: Database) -> None:
    record(ledger, make_event(usage={"input_tokens": 10_000, "requests": 3, "web_searches": 0}))

    [usage] = rows_of(database, UsageRow)
    assert usage["other_units"] == {"requests": 3, "web_searches": 0}
    assert {row["requests"] for row in rows_of(database, RollupRow)} == {3}


def test_an_answer_from_the_gateways_own_cache_costs_nothing(
    ledger: Ledger, database: Database
) -> None:
    record(ledger, make_event(cache_hit=True))

    [charge] = rows_of(database, ChargeRow)
    assert (charge["basis"], charge["effective_nanos"]) == ("rated", 0)
    assert charge["flags"] == "gateway_cache_hit"


def test_usage_counted_from_text_is_marked_as_estimated(ledger: Ledger, database: Database) -> None:
    event = make_event(text="How many tokens are these?")
    del event["usage"]

    record(ledger, event)

    [charge] = rows_of(database, ChargeRow)
    [usage] = rows_of(database, UsageRow)
    assert charge["basis"] == "estimated"
    assert usage["flags"].startswith("estimated_")


def test_every_envelope_field_is_kept(ledger: Ledger, database: Database) -> None:
    record(
        ledger,
        make_event(
            attempt=2,
            operation_id="op-1",
            trace_id="trace-1",
            response_id="resp_1",
            request_model="plain-latest",
            latency_ms=812,
            time_to_first_token_ms=240,
            reported_cost="0.5",
            tags={"team": "growth", "user": "u-17"},
        ),
    )

    [usage] = rows_of(database, UsageRow)
    [dimensions] = rows_of(database, DimensionSetRow)
    assert (usage["attempt"], usage["operation_ref"], usage["trace_ref"]) == (2, "op-1", "trace-1")
    assert (usage["response_ref"], usage["request_model"]) == ("resp_1", "plain-latest")
    assert (usage["latency_ms"], usage["time_to_first_token_ms"]) == (812, 240)
    assert usage["reported_nanos"] == DOLLAR // 2
    assert usage["extra_tags"] == {"user": "u-17"}
    assert (dimensions["is_retry"], dimensions["tags"]) == (True, {})


def test_the_same_dimensions_are_stored_once(ledger: Ledger, database: Database) -> None:
    record(ledger, *make_events(5))
    record(ledger, *make_events(7))

    assert len(rows_of(database, DimensionSetRow)) == 1


def test_a_tag_pinned_by_the_key_decides_which_budget_counts(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(selector={"team": "search"}), now=clock())

    record(ledger, make_event(), caller=Caller("key-1", {"team": "search"}))

    assert standings(database, now=clock())["all",] == (2 * CENT, 0)


def test_token_and_request_budgets_count_their_own_units(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(
        database,
        make_budget(id="tokens", unit="tokens", limit=1_000_000),
        make_budget(id="requests", unit="requests", limit=100),
        now=clock(),
    )

    record(
        ledger,
        make_event(usage={"input_tokens": 700, "cached_input_tokens": 600, "output_tokens": 50}),
        make_event(event_id="e2", usage={"input_tokens": 10, "requests": 4}),
    )

    counted = standings(database, now=clock())
    assert counted["tokens",] == (760, 0)
    assert counted["requests",] == (5, 0)
    assert broken_rules(database) == []


def test_usage_settles_the_window_in_which_it_occurred(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(window="day"), now=clock())

    record(ledger, make_event(occurred_at="2026-11-19T23:59:59Z"))

    assert standings(database, now=clock())["all",] == (0, 0)
    assert broken_rules(database) == []


def test_when_the_transaction_fails_nothing_of_it_remains(
    ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    hold_id = ask(ledger)["hold_id"]
    before = contents(database)

    with table_away(database, "rollups"), pytest.raises(WRITE_FAILURE):
        record(ledger, make_event(usage=cents(90), hold_id=hold_id))

    assert contents(database) == before


def test_after_a_failed_transaction_the_same_worker_records_the_same_event(
    ledger: Ledger, database: Database
) -> None:
    with table_away(database, "rollups"), pytest.raises(WRITE_FAILURE):
        record(ledger, make_event())

    answer = record(ledger, make_event())

    assert answer.accepted == 1
    assert broken_rules(database) == []
