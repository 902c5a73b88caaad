"""A digest of a day tells a restatement from the same said in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tokenbudget.domain.bills import ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.formats.bill_digests import digest_entries
from tokenbudget.formats.bills.lines import BillEntry, BillLine, EmptyPeriod, UsageLine

DAY = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC))
LINE = BillLine(
    row_number=1,
    provider="openai",
    account="acme",
    period=DAY,
    category=ChargeCategory.USAGE,
    billed=Decimal("1.50"),
    currency="USD",
    quantity=Decimal(100),
    tags={"a": "1", "b": "2"},
)
USAGE = UsageLine(1, "openai", "acme", DAY, {"input_tokens": 5})


def digest(*entries: BillEntry, name: str = "costs/2026-09-01", generation: int = 0) -> str:
    """Give the digest of these entries."""
    return digest_entries(entries, name=name, generation=generation)


def test_the_digest_is_64_hex_digits_and_always_the_same() -> None:
    assert digest(LINE) == digest(LINE)
    assert len(bytes.fromhex(digest(LINE))) == 32


@pytest.mark.parametrize(
    "told",
    [
        [replace(LINE, row_number=2), USAGE],
        [USAGE, LINE],
        [replace(LINE, billed=Decimal("1.5")), USAGE],
        [replace(LINE, billed=Decimal("15E-1")), USAGE],
        [replace(LINE, quantity=Decimal("1E+2")), USAGE],
        [replace(LINE, tags={"b": "2", "a": "1"}), USAGE],
    ],
)
def test_the_same_said_in_another_way_has_the_same_digest(told: Sequence[BillEntry]) -> None:
    assert digest(*told) == digest(LINE, USAGE)


@pytest.mark.parametrize(
    "told",
    [
        replace(LINE, billed=Decimal("1.500000000000000000000000000001")),
        replace(LINE, quantity=Decimal(10)),
        replace(LINE, project="p"),
        replace(LINE, tags={"a": "1"}),
        replace(LINE, category=ChargeCategory.CREDIT),
        replace(LINE, period=Period(DAY.start, datetime(2026, 9, 1, 12, tzinfo=UTC))),
        USAGE,
        EmptyPeriod("acme", DAY),
    ],
)
def test_what_says_something_else_has_another_digest(told: BillEntry) -> None:
    assert digest(told) != digest(LINE)


def test_name_and_telling_are_part_of_it_so_that_a_day_may_go_back() -> None:
    assert len({digest(LINE), digest(LINE, name="other"), digest(LINE, generation=1)}) == 3


def test_zero_has_one_digest_whatever_its_sign_and_scale() -> None:
    zeros = {digest(replace(LINE, billed=Decimal(text))) for text in ("0", "-0.00", "0E-30")}

    assert len(zeros) == 1
