"""The scope of a re-rating in, and the re-rating out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.price_builders import day
from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.rerating import (
    CostDelta,
    DeltaKey,
    Reason,
    Rerate,
    RerateScope,
    RerateState,
)
from tokenbudget.formats.rerating import describe_rerate, describe_scope, parse_scope


def test_an_empty_body_means_every_mistake() -> None:
    assert parse_scope({}) == RerateScope()


def test_a_full_scope_is_read_and_written_back() -> None:
    body = {
        "reasons": ["changed", "fixed"],
        "provider": "openai",
        "model": "gpt-5.2",
        "start": "2026-11-01T00:00:00Z",
        "end": "2026-12-01T00:00:00Z",
    }

    scope = parse_scope(body)

    assert scope == RerateScope(
        reasons=frozenset({Reason.FIXED, Reason.CHANGED}),
        provider="openai",
        model="gpt-5.2",
        start=day("2026-11-01"),
        end=day("2026-12-01"),
    )
    assert describe_scope(scope) == body


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"team": "growth"}, "unknown field 'team'"),
        ({"reasons": "fixed"}, "reasons must list some of fixed, unpriced, changed"),
        ({"reasons": ["late"]}, "reasons must list some of fixed, unpriced, changed"),
        ({"reasons": []}, "reasons must name at least one"),
        ({"provider": 7}, "provider must be a text"),
        ({"model": ""}, "model must be a text"),
        ({"start": "2026-11-01T00:00:00"}, "start '2026-11-01T00:00:00' has no UTC offset"),
        (
            {"start": "2026-11-02T00:00:00Z", "end": "2026-11-01T00:00:00Z"},
            "end must be later than start",
        ),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        parse_scope(body)


def test_a_rerate_on_the_wire_has_decimal_amounts_and_every_field() -> None:
    key = DeltaKey("growth", "summarise", None, 202611, Reason.FIXED)
    delta = CostDelta(3, -1, 2_000_000_000, 5)
    rerate = Rerate(
        rerate_id=7,
        state=RerateState.APPROVED,
        scope=RerateScope(frozenset({Reason.FIXED})),
        is_automatic=False,
        price_list_version="abc",
        digest="def",
        created_at=day("2026-11-20"),
        approved_at=day("2026-11-21"),
        applied_at=None,
        proposed=delta,
        applied=CostDelta(),
        stale=CostDelta(),
        deltas={key: delta},
    )

    wire = describe_rerate(rerate, currency="USD")

    moved = {
        "usages": 3,
        "list_cost": "-0.000000001",
        "contracted_cost": "2.000000000",
        "effective_cost": "0.000000005",
    }
    assert wire["deltas"] == [
        {
            "team": "growth",
            "feature": "summarise",
            "tenant": None,
            "accounting_period": "2026-11",
            "reason": "fixed",
            **moved,
        }
    ]
    assert (wire["id"], wire["state"], wire["currency"]) == (7, "approved", "USD")
    assert (wire["proposed"], wire["applied"]["usages"]) == (moved, 0)
    assert (wire["approved_at"], wire["applied_at"]) == ("2026-11-21T00:00:00Z", None)
