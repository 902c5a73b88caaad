"""Dividing invoices by whole tables gives what the definition gives."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.allocation_cases import MONTHS, OUTCOMES, RULES, make_month, terms_of
from tokenbudget.domain import invoice_allocation as definition
from tokenbudget.domain.allocation_rules import AllocationRules
from tokenbudget.domain.bills import BilledCost
from tokenbudget.domain.reconciliation import MeteredCost
from tokenbudget.domain.statements import Bearer
from tokenbudget.frames.invoice_allocation import allocate_invoices

Sides = tuple[list[MeteredCost], list[BilledCost]]


@settings(max_examples=200, deadline=None)
@given(MONTHS, RULES, OUTCOMES, st.sampled_from(["USD", "JPY"]))
def test_tables_divide_like_the_definition(
    both: Sides,
    rules: AllocationRules,
    outcomes: dict[Bearer, int],
    currency: str,
) -> None:
    metered, lines = both
    told = [replace(line, currency=currency) for line in lines]
    month = make_month(metered, told, currency=currency)
    terms = terms_of(rules, outcomes)

    divided = allocate_invoices(month, terms)

    assert divided == definition.allocate_invoices(month, terms)


def test_a_month_without_anything_is_divided_into_nothing() -> None:
    divided = allocate_invoices(make_month([], []), terms_of(AllocationRules(), {}))

    assert (divided.costs, divided.invoices, divided.refusals) == ((), (), ())
