"""How long it takes to divide a month of a million metered rows, in this process.

One provider, 33,333 combinations of 10,000 bearers, 40 models and 20 projects on each of 30 days,
and a line for every model, day and project: as metered, one per cent above it, or 3.7 per cent,
which is untracked. Tax is shared by tenant, and what nobody is known for by direct cost. What is
measured is dividing what has been compared already.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from random import Random
from time import perf_counter

from tests.allocation_cases import MONTH, day, equal, make_month, make_terms, total
from tests.bench import BenchRow
from tokenbudget.domain.allocation_rules import PoolRule
from tokenbudget.domain.bills import BilledCost, ChargeCategory
from tokenbudget.domain.periods import Period
from tokenbudget.domain.reconciliation import MeteredCost
from tokenbudget.domain.statements import Bearer
from tokenbudget.frames.invoice_allocation import allocate_invoices

ROWS = 1_000_000
QUICK_ROWS = 30_000
DAYS = [day(number) for number in range(1, 31)]
BEARERS = [
    Bearer(f"team-{number % 200}", f"feature-{number % 7}", f"tenant-{number}")
    for number in range(10_000)
]
FACTORS = (Decimal(1), Decimal("1.01"), Decimal("1.037"))
MAX_SECONDS = 10


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give the time of dividing, and what is lost on the way."""
    chance = Random(1)
    metered = make_rows(chance, QUICK_ROWS if is_quick else ROWS)
    lines = make_lines(chance, metered)
    month = make_month(metered, lines)
    terms = make_terms(
        PoolRule("tax", match=equal(category="tax"), by=("team", "feature", "tenant")),
        PoolRule("untracked", bearer=equal(team="Untracked")),
    )
    started = perf_counter()
    divided = allocate_invoices(month, terms)
    seconds = perf_counter() - started
    lost = total(divided.costs) - sum(each.amount_nanos for each in divided.invoices)
    name = f"dividing {len(metered):,} metered rows into {len(divided.costs):,}"
    return [
        BenchRow(
            name, seconds, "s", None, None, f"<= {MAX_SECONDS}", is_quick or seconds <= MAX_SECONDS
        ),
        BenchRow(f"{name}: nanos lost", abs(lost), "nanos", None, None, "0", lost == 0),
    ]


def make_rows(chance: Random, count: int) -> list[MeteredCost]:
    """Give what was metered of every combination on every day."""
    keys = [
        (f"model-{chance.randrange(40)}", f"project-{chance.randrange(20)}", number)
        for number in range(count // len(DAYS))
    ]
    return [
        MeteredCost(
            provider="openai",
            model=model,
            period=period,
            effective_nanos=chance.randrange(1, 10**9),
            account=project,
            bearer=BEARERS[number % len(BEARERS)],
            requests=1,
            tokens=100,
        )
        for model, project, number in keys
        for period in DAYS
    ]


def make_lines(chance: Random, metered: list[MeteredCost]) -> list[BilledCost]:
    """Give a line for each model, day and project, and a day's tax on each of three accounts."""
    sums: dict[tuple[str, str | None, Period], int] = defaultdict(int)
    for cost in metered:
        sums[cost.model, cost.account, cost.period] += cost.effective_nanos
    usage = [
        BilledCost(
            provider="openai",
            period=period,
            category=ChargeCategory.USAGE,
            amount=(nanos * chance.choice(FACTORS)).scaleb(-9),
            currency="USD",
            billing_month=MONTH,
            account=f"org-{chance.randrange(3)}",
            project=project,
            model=model,
        )
        for (model, project, period), nanos in sums.items()
    ]
    taxes = [
        BilledCost(
            provider="openai",
            period=period,
            category=ChargeCategory.TAX,
            amount=Decimal("10.123"),
            currency="USD",
            billing_month=MONTH,
            account=f"org-{number % 3}",
        )
        for number, period in enumerate(DAYS)
    ]
    return [*usage, *taxes]
