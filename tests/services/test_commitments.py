"""Covered usage is free until its day is shared; then everything adds up, however often it runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from structlog.testing import capture_logs

from tests.builders import (
    CENT,
    DOLLAR,
    PRICES,
    ask,
    broken_rules,
    contents,
    make_budget,
    make_event,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.price_builders import day
from tokenbudget.bootstrap import Services, make_ledger
from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.commitments import Commitment, Per
from tokenbudget.domain.costs import CostQuery
from tokenbudget.domain.exchange import FxTable, Quote
from tokenbudget.domain.periods import Period
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.jobs import Jobs
from tokenbudget.services.commitments import DaySharing, list_days_due, share_days
from tokenbudget.services.costs import query_costs
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, CommitmentShareRow, PriceRow

PROD = {"team": "growth", "feature": "summarise", "tenant": "acme", "deployment": "prod"}
YESTERDAY = "2026-11-19T10:07:00Z"


def make_commitment(**overrides: Any) -> Commitment:
    """Give a dollar an hour for the deployment ``prod``, since the nineteenth."""
    usual: dict[str, Any] = {
        "id": "ptu",
        "provider": "acme",
        "covers": {"deployment": ("prod",)},
        "nanos_per_time": Fraction(DOLLAR),
        "per": Per.HOUR,
        "valid_from": day("2026-11-19"),
    }
    return Commitment(**{**usual, **overrides})


def commit(services: Services, *commitments: Commitment, **others: Any) -> Ledger:
    """Give a ledger whose prices know these commitments."""
    agreements = Agreements(commitments=commitments, version="agreed", **others)
    return make_ledger(replace(services, price_list=PRICES.with_agreements(agreements)))


def share(ledger: Ledger, *commitments: Commitment) -> list[DaySharing]:
    """Share the days that are due and give how they stand."""
    days = list_days_due(ledger.database, commitments, now=ledger.clock())
    return list(share_days(days, ledger.apply))


def covered_event(**overrides: Any) -> dict[str, Any]:
    """Give an event of the deployment yesterday, whose list cost is two cents."""
    return make_event(**{"occurred_at": YESTERDAY, "tags": PROD, **overrides})


def costs_by_team(database: Database) -> dict[tuple[str | None, ...], tuple[int, int, int]]:
    """Give (list, contracted, effective) cost by team of the days around yesterday."""
    period = Period(day("2026-11-18"), day("2026-11-21"))
    table = query_costs(database, CostQuery(period, group_by=("team",)))
    return {
        row.group: (row.list_nanos, row.contracted_nanos, row.effective_nanos) for row in table.rows
    }


def test_covered_usage_keeps_its_list_cost_and_waits_for_its_share(services: Services) -> None:
    ledger = commit(services, make_commitment())

    record(ledger, covered_event())

    [charge] = rows_of(services.database, ChargeRow)
    [price] = rows_of(services.database, PriceRow)
    assert (charge["list_nanos"], charge["effective_nanos"]) == (2 * CENT, 0)
    assert charge["flags"] == "commitment:ptu"
    assert price["commitment"] == "ptu"


def test_a_finished_day_is_shared_and_everything_still_adds_up(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    other = {**PROD, "team": "search"}
    record(ledger, covered_event(), covered_event(event_id="e2", tags=other))
    record(ledger, make_event(event_id="e3"))

    [sharing] = share(ledger, commitment)

    assert (sharing.fixed, sharing.unused, sharing.is_changed) == (24 * DOLLAR, 0, True)
    assert costs_by_team(services.database) == {
        ("growth",): (4 * CENT, 4 * CENT, 12 * DOLLAR + 2 * CENT),
        ("search",): (2 * CENT, 2 * CENT, 12 * DOLLAR),
    }
    assert broken_rules(services.database) == []


def test_sharing_a_day_again_changes_nothing(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    record(ledger, covered_event())
    share(ledger, commitment)
    before = contents(services.database)

    [again] = share(ledger, commitment)

    assert not again.is_changed
    assert contents(services.database) == before


def test_late_usage_moves_the_shares_and_not_their_sum(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    record(ledger, covered_event())
    share(ledger, commitment)

    record(ledger, covered_event(event_id="late", tags={**PROD, "team": "search"}))
    [sharing] = share(ledger, commitment)

    assert sharing.is_changed
    assert costs_by_team(services.database) == {
        ("growth",): (2 * CENT, 2 * CENT, 12 * DOLLAR),
        ("search",): (2 * CENT, 2 * CENT, 12 * DOLLAR),
    }
    assert broken_rules(services.database) == []


def test_a_revision_of_covered_usage_takes_its_share_along(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    record(ledger, covered_event())
    share(ledger, commitment)

    moved = {**PROD, "team": "search"}
    record(ledger, covered_event(revision=1, tags=moved))
    share(ledger, commitment)

    assert costs_by_team(services.database) == {
        ("growth",): (0, 0, 0),
        ("search",): (2 * CENT, 2 * CENT, 24 * DOLLAR),
    }
    assert broken_rules(services.database) == []


def test_a_day_that_nobody_used_is_a_line_of_its_own(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)

    [sharing] = share(ledger, commitment)

    assert sharing.unused == 24 * DOLLAR
    query = CostQuery(
        Period(day("2026-11-19"), day("2026-11-20")),
        group_by=("team", "feature", "tag:commitment", "tag:kind"),
        granularity="hour",
    )
    rows = query_costs(services.database, query).rows
    assert [row.effective_nanos for row in rows] == [DOLLAR] * 24
    assert {row.group for row in rows} == {("unallocated", None, "ptu", "unused")}
    assert broken_rules(services.database) == []


def test_budgets_count_shares_in_the_windows_they_are_for(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    budgets = (
        make_budget(id="team", limit="100.00", selector={"team": "growth"}),
        make_budget(id="day", limit="100.00", window="day", valid_from="2026-11-01T00:00:00Z"),
        make_budget(id="calls", limit="100", unit="requests"),
    )
    set_budgets(services.database, *budgets, now=ledger.clock())
    record(ledger, covered_event())

    share(ledger, commitment)

    figures = standings(services.database, now=datetime.fromisoformat(YESTERDAY))
    assert figures[("team",)] == (24 * DOLLAR, 0)
    assert figures[("day",)] == (24 * DOLLAR, 0)
    assert figures[("calls",)] == (1, 0)
    assert broken_rules(services.database) == []


def test_a_share_that_crosses_a_threshold_raises_its_alert(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    set_budgets(services.database, make_budget(limit="20.00"), now=ledger.clock())
    record(ledger, covered_event())

    share(ledger, commitment)

    assert [row["threshold"] for row in alerts_of(services.database)] == ["0.5", "0.8", "1"]


def alerts_of(database: Database) -> Sequence[Any]:
    """Give the alerts in order of threshold."""
    from_table = contents(database)["alerts"]
    return sorted(from_table, key=lambda row: row["threshold"])


def test_usage_beyond_capacity_spills_and_costs_what_it_would_have_cost(
    services: Services,
) -> None:
    # A hundred tokens a minute are 1,500 a quarter-hour; the event has 15,000 and costs two cents.
    commitment = make_commitment(tokens_per_minute=100, spills=True)
    ledger = commit(services, commitment)
    record(ledger, covered_event())

    [sharing] = share(ledger, commitment)

    # Nine tenths of two cents spill; one of 96 quarter-hours was used: a quarter of a dollar.
    assert sharing.spilled == 18_000_000
    assert sharing.unused == 23_750_000_000
    assert costs_by_team(services.database)[("growth",)] == (2 * CENT, 2 * CENT, 268_000_000)
    assert broken_rules(services.database) == []


def test_a_commitment_starts_and_ends_within_a_day(services: Services) -> None:
    noon = datetime(2026, 11, 19, 12, tzinfo=UTC)
    commitment = make_commitment(valid_from=noon, valid_to=noon + timedelta(hours=6))
    ledger = commit(services, commitment)
    record(ledger, covered_event(), covered_event(event_id="e2", occurred_at=noon.isoformat()))

    [sharing] = share(ledger, commitment)

    assert sharing.fixed == 6 * DOLLAR
    assert costs_by_team(services.database)[("growth",)] == (
        4 * CENT,
        4 * CENT,
        6 * DOLLAR + 2 * CENT,
    )


def test_a_commitment_in_a_currency_without_a_quote_waits_with_its_later_days(
    services: Services, clock: FrozenClock
) -> None:
    commitment = make_commitment(currency="EUR")
    waiting = commit(services, commitment)
    clock.advance(days=3)

    assert [item.fixed for item in share(waiting, commitment)] == [None]
    quote = Quote(day("2026-11-19").date(), "EUR", {"USD": Fraction(5, 4)}, "bank")
    quoted = commit(services, commitment, exchange=FxTable((quote,)))

    assert [item.fixed for item in share(quoted, commitment)] == [30 * DOLLAR] * 4


def test_only_finished_days_are_due_and_those_that_late_usage_may_change(
    services: Services, clock: FrozenClock
) -> None:
    commitment = make_commitment(valid_from=day("2026-11-01"))
    ledger = commit(services, commitment)

    first = share(ledger, commitment)
    clock.advance(days=1)
    second = share(ledger, commitment)

    assert [first[0].day.start, first[-1].day.start] == [day("2026-11-01"), day("2026-11-19")]
    assert [second[0].day.start, second[-1].day.start] == [day("2026-11-14"), day("2026-11-20")]
    assert [sharing.is_changed for sharing in second] == [False] * 6 + [True]


def test_a_commitment_that_has_not_begun_or_has_long_been_shared_is_not_due(
    services: Services, clock: FrozenClock
) -> None:
    future = make_commitment(valid_from=day("2026-12-01"))
    ended = make_commitment(id="ended", valid_to=day("2026-11-20"))
    ledger = commit(services, future, ended)
    assert len(share(ledger, future, ended)) == 1

    clock.advance(days=8)

    assert list_days_due(services.database, [future, ended], now=clock()) == []


def test_a_check_of_covered_usage_holds_no_money(services: Services) -> None:
    ledger = commit(services, make_commitment())
    set_budgets(services.database, make_budget(limit="0.01"), now=ledger.clock())

    covered = ask(ledger, tags=PROD)
    other = ask(ledger)

    assert (covered["decision"], covered["estimate"]) == ("allow", "0.000000000")
    assert other["decision"] != "allow"


def test_an_answer_from_the_gateways_cache_uses_nothing_of_a_commitment(
    services: Services,
) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    record(ledger, covered_event(cache_hit=True))

    [sharing] = share(ledger, commitment)

    assert sharing.unused == 24 * DOLLAR


def test_a_charge_can_be_worked_out_again_from_its_price_row(services: Services) -> None:
    contract = Contract("own", rates={"output_tokens": Fraction(1_000_000, 3)})
    quote = Quote(day("2026-11-19").date(), "EUR", {"USD": Fraction(5, 4)}, "bank")
    agreements = Agreements((contract,), exchange=FxTable((quote,)), version="agreed")
    price_list = PriceList(PRICES.providers, version="euro", currency="EUR")
    ledger = make_ledger(replace(services, price_list=price_list.with_agreements(agreements)))

    record(ledger, covered_event())

    [charge] = rows_of(services.database, ChargeRow)
    [price] = rows_of(services.database, PriceRow)
    agreed = price["agreed"]
    rates = {unit: Fraction(rate) for unit, rate in agreed["rates"].items()}
    picos = 10_000 * rates["input_tokens"] + 5_000 * rates["output_tokens"]
    published = 10_000 * price["rates"]["input_tokens"] + 5_000 * price["rates"]["output_tokens"]
    assert charge["flags"] == "contract:own,fx:USD@2026-11-19"
    assert agreed["contracts"] == ["own"]
    assert agreed["exchange"] == {
        "into": "EUR",
        "rate": "4/5",
        "day": "2026-11-19",
        "source": "bank",
    }
    # Two cents are 1.6 euro cents; under contract a cent and a sixth of one are 9 1/3 milli-euro.
    assert charge["list_nanos"] == round(published * Fraction(4, 5) / 1_000) == 16_000_000
    assert charge["contracted_nanos"] == round(picos * Fraction(agreed["times"]) / 1_000)
    assert charge["contracted_nanos"] == 9_333_333


def test_shares_are_rows_by_commitment_quarter_hour_and_bearer(services: Services) -> None:
    commitment = make_commitment()
    ledger = commit(services, commitment)
    record(ledger, covered_event())

    share(ledger, commitment)

    [row] = rows_of(services.database, CommitmentShareRow)
    assert (row["commitment_id"], row["kind"]) == ("ptu", "used")
    assert row["starts_at"] == datetime.fromisoformat("2026-11-19T10:00:00Z")
    assert row["nanos"] == 24 * DOLLAR


def test_workers_that_share_a_day_at_once_share_it_once(services: Services) -> None:
    commitment = make_commitment()
    ledgers = [commit(services, commitment) for _ in range(4)]
    record(ledgers[0], covered_event())

    with ThreadPoolExecutor(len(ledgers)) as pool:
        sharings = list(pool.map(lambda ledger: share(ledger, commitment), ledgers))

    assert sum(sharing.is_changed for [sharing] in sharings) == 1
    assert costs_by_team(services.database)[("growth",)] == (2 * CENT, 2 * CENT, 24 * DOLLAR)
    assert broken_rules(services.database) == []


def test_the_scheduled_job_shares_and_tells_what_waits(
    services: Services,
) -> None:
    commitments = (make_commitment(), make_commitment(id="yen", currency="JPY"))
    price_list = PRICES.with_agreements(Agreements(commitments=commitments, version="agreed"))
    jobs = Jobs(replace(services, price_list=price_list))

    with capture_logs() as logged:
        jobs.share_commitments()

    jobs.http.close()
    rows = rows_of(services.database, CommitmentShareRow)
    assert {row["commitment_id"] for row in rows} == {"ptu"}
    assert sum(row["nanos"] for row in rows) == 24 * DOLLAR
    assert "commitment_not_shared" in [line["event"] for line in logged]
