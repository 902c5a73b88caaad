"""A divided month as it is shown: teams and pools that add up."""

from __future__ import annotations

from tests.allocation_cases import make_line, make_metered, make_month, make_terms
from tokenbudget.domain.allocation_rules import Driver, PoolRule
from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.invoice_allocation import allocate_invoices
from tokenbudget.domain.statements import Refusal
from tokenbudget.formats.allocation_previews import describe_allocation, describe_refusal


def test_teams_and_pools_are_summed_by_what_they_bear() -> None:
    metered = [make_metered("30", "a"), make_metered("10", "b")]
    lines = [
        make_line("40"),
        make_line("6", project="p2", model="m2"),
        make_line("4", category=ChargeCategory.TAX),
    ]
    month = make_month(metered, lines)

    shown = describe_allocation(
        allocate_invoices(month, make_terms(PoolRule("tax", driver=Driver.EVEN)))
    )

    assert shown == {
        "period": "2026-09",
        "currency": "USD",
        "version": 1,
        "total": "50.000000000",
        "can_close": True,
        "refusals": [],
        "invoices": [
            {"provider": "openai", "account": "org", "amount": "50.000000000", "is_billed": True}
        ],
        "teams": [
            {
                "team": "a",
                "amount": "32.000000000",
                "usage": "30.000000000",
                "untracked": "0.000000000",
                "shared": "2.000000000",
                "metered": "30.000000000",
                "requests": 1,
                "tokens": 10,
            },
            {
                "team": "b",
                "amount": "18.000000000",
                "usage": "10.000000000",
                "untracked": "6.000000000",
                "shared": "2.000000000",
                "metered": "10.000000000",
                "requests": 1,
                "tokens": 10,
            },
        ],
        "pools": [
            {
                "rule": "tax",
                "origin": "tax",
                "method": "evenly",
                "provider": "openai",
                "account": "org",
                "bearers": 2,
                "amount": "4.000000000",
            }
        ],
    }


def test_a_refusal_keeps_the_month_open() -> None:
    shown = describe_allocation(
        allocate_invoices(make_month([make_metered("1")], []), make_terms())
    )

    assert shown["can_close"] is False
    assert [refusal["code"] for refusal in shown["refusals"]] == ["missing_bill"]
    assert describe_refusal(Refusal("unconverted", "why"))["amount"] is None
