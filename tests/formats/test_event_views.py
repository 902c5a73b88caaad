"""Single usages on the wire: names, nulls, kinds of movements and differences of witnesses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.domain.test_event_queries import make_charge, make_record, reversal
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.costs import CostFilter
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.event_queries import (
    ChargeRecord,
    EventHistory,
    EventPage,
    PriceRef,
    operation_totals,
)
from tokenbudget.domain.usage import Basis, Witness
from tokenbudget.formats.event_views import (
    EventQueryText,
    describe_charge,
    describe_event,
    describe_history,
    describe_operation,
    describe_page,
    parse_event_query,
)

TEXT = EventQueryText(start="2026-11-01T00:00:00Z", end="2026-12-01T00:00:00Z")
MOVED = DimensionSet(team="search", provider="acme", model="plain")


def test_the_status_is_one_more_filter() -> None:
    query = parse_event_query(replace(TEXT, filter=["team:!growth"], status="error"))

    assert query.filters == (
        CostFilter("team", ("growth",), negated=True),
        CostFilter("status", ("error",)),
    )


def test_a_basis_is_read_by_name() -> None:
    assert parse_event_query(replace(TEXT, basis="unpriced")).basis is Basis.UNPRICED


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (replace(TEXT, basis="guessed"), "basis"),
        (replace(TEXT, start=None), "start"),
        (replace(TEXT, end=None), "end"),
        (replace(TEXT, end=TEXT.start), "end"),
        (EventQueryText(), "start"),
    ],
)
def test_what_is_wrong_is_named(text: EventQueryText, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_event_query(text)

    assert caught.value.facts["field"] == field


def test_an_unknown_usage_is_null_and_not_zero() -> None:
    described = describe_event(make_record(quantities=None, charge=None))

    assert described["usage"] is None
    assert described["charge"] is None
    assert described["counts"] is False


def test_a_price_says_where_it_came_from_and_when_it_held() -> None:
    price = PriceRef(7, "acme", "plain", "acme.toml", datetime(2026, 1, 1, tzinfo=UTC))
    ended = replace(price, valid_to=datetime(2026, 12, 1, tzinfo=UTC), valid_from=None)

    shown = describe_event(make_record(charge=make_charge(price=price, list_version="a" * 64)))

    assert shown["charge"]["price"] == {
        "id": "7",
        "provider": "acme",
        "model": "plain",
        "origin": "acme.toml",
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_to": None,
    }
    assert shown["charge"]["price_list"] == "a" * 12
    assert describe_charge(make_charge(price=ended))["price"]["valid_to"] == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(
    ("charge", "kind"),
    [
        (make_charge(), "charge"),
        (reversal(1, by=2), "reversal"),
        (reversal(1, by=1), "retag"),
        (make_charge(dimensions=MOVED), "retag"),
        (make_charge(reattribution_id=3), "retag"),
        (make_charge(rerate_id=3, reverses_usage_id=1), "rerate"),
    ],
)
def test_a_movement_says_what_moved_it(charge: ChargeRecord, kind: str) -> None:
    described = describe_charge(charge)

    assert described["kind"] == kind
    assert (described["moved_to"] is None) == (charge.dimensions is None)


def test_evidence_is_compared_with_the_witness_that_counts() -> None:
    gateway = make_record(witness=Witness.GATEWAY, charge=make_charge(nanos=20))
    sdk = make_record(
        usage_id=2, charge=None, quantities={"input_tokens": 9}, reported_nanos=18, call_id=1
    )

    shown = describe_history(
        EventHistory(sdk, [sdk], [gateway, sdk], [make_charge(nanos=20)]), currency="USD"
    )

    first, second = shown["witnesses"]
    assert (first["kind"], first["counts"], first["usage_difference"]) == ("gateway", True, {})
    assert (second["kind"], second["counts"]) == ("sdk", False)
    assert second["usage_difference"] == {"input_tokens": -1}
    assert second["reported_difference"] == "-0.000000002"
    assert shown["effective_cost"] == "0.000000020"


def test_without_a_witness_that_counts_nothing_is_compared() -> None:
    evidence = make_record(charge=None, reported_nanos=18, quantities=None)

    shown = describe_history(EventHistory(evidence, [evidence], [evidence], []), currency="USD")

    [witness] = shown["witnesses"]
    assert (witness["usage"], witness["usage_difference"]) == (None, {})
    assert witness["reported_difference"] is None


def test_an_operation_shows_its_attempts_and_its_waste() -> None:
    totals = operation_totals("op", [make_record(), make_record(usage_id=2, attempt=2)])

    shown = describe_operation(totals, currency="USD")

    assert (shown["operation_id"], shown["attempts"], shown["retries"]) == ("op", 2, 1)
    assert (shown["effective_cost"], shown["waste"]) == ("0.000000010", "0.000000000")
    assert [event["id"] for event in shown["events"]] == ["1", "2"]


def test_an_empty_page_keeps_its_shape() -> None:
    assert describe_page(EventPage([], "next"), currency="USD") == {
        "currency": "USD",
        "events": [],
        "next": "next",
    }
