"""Usage that had no price rates itself once there is one, each usage looked at once a book."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.builders import (
    CENT,
    DOUBLED_RATES,
    contents,
    make_budget,
    make_event,
    make_events,
    record,
    rows_of,
    set_budgets,
    standings,
)
from tests.conftest import FrozenClock
from tests.price_builders import day, make_price, make_price_list
from tests.services.rerate_cases import BOOK, WRONG, book_of, ledger_by, spent_nanos
from tokenbudget.bootstrap import Services
from tokenbudget.domain.periods import Period
from tokenbudget.domain.rerating import CostDelta, Reason, RerateScope, RerateState
from tokenbudget.services.rerating import list_rerates, propose_rerate, rate_unpriced
from tokenbudget.services.unpriced import list_unpriced
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import ChargeRow, RerateRow

EMPTY_BOOK = make_price_list(version="empty")
NOVEMBER = Period(day("2026-11-01"), day("2026-12-01"))


def test_what_had_no_price_is_charged_and_no_longer_listed(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    set_budgets(database, make_budget(), now=clock())
    record(ledger_by(services, EMPTY_BOOK), *make_events(2))

    posted = rate_unpriced(database, BOOK, now=clock())

    assert posted == CostDelta(2, 40_000_000, 40_000_000, 40_000_000)
    assert list_unpriced(database, period=NOVEMBER) == []
    assert standings(database, now=clock()) == {("all",): (40_000_000, 0)}
    assert spent_nanos(database) == 40_000_000


def test_it_is_on_record_as_a_rerate_that_nobody_had_to_approve(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, EMPTY_BOOK), make_event())

    rate_unpriced(database, BOOK, now=clock())

    [listed] = list_rerates(database, limit=10)
    assert (listed.state, listed.is_automatic) == (RerateState.APPLIED, True)
    assert listed.applied == CostDelta(1, 20_000_000, 20_000_000, 20_000_000)


def test_a_second_round_changes_nothing(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, EMPTY_BOOK), make_event(), make_event(event_id="x", model="mystery"))
    rate_unpriced(database, BOOK, now=clock())
    before = contents(database)

    assert rate_unpriced(database, BOOK, now=clock()) == CostDelta()
    assert contents(database) == before


def test_what_still_has_no_price_stays_listed_and_leaves_no_trace(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, EMPTY_BOOK), make_event(model="mystery"))

    assert rate_unpriced(database, BOOK, now=clock()) == CostDelta()

    assert [usage.model for usage in list_unpriced(database, period=NOVEMBER)] == ["mystery"]
    assert list_rerates(database, limit=10) == []


def test_each_new_price_book_gets_its_round(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, EMPTY_BOOK), make_event())
    rate_unpriced(database, make_price_list(version="still empty"), now=clock())
    rate_unpriced(database, BOOK, now=clock())

    assert spent_nanos(database) == 2 * CENT


def test_usage_that_comes_unpriced_later_gets_its_round_too(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    ledger = ledger_by(services, EMPTY_BOOK)
    record(ledger, make_event(event_id="first"))
    rate_unpriced(database, BOOK, now=clock())
    record(ledger, make_event(event_id="from a worker with the old book"))

    assert rate_unpriced(database, BOOK, now=clock()).usages == 1
    assert spent_nanos(database) == 4 * CENT


def test_charges_are_never_touched(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, BOOK), make_event())
    before = rows_of(database, ChargeRow)

    rate_unpriced(database, book_of(WRONG, version="another"), now=clock())

    assert rows_of(database, ChargeRow) == before


def leave_unfinished(database: Database, *, state: RerateState, clock: FrozenClock) -> None:
    """Leave what a round leaves that a crash cut short after it had been noted."""
    scope = RerateScope(frozenset({Reason.UNPRICED}))
    propose_rerate(database, BOOK, scope, now=clock(), usages_per_part=1)
    with database.transaction() as session:
        statement = sa.update(table_of(RerateRow)).values(is_automatic=True, state=state.value)
        session.connection().execute(statement)


@pytest.mark.parametrize("state", [RerateState.PROPOSED, RerateState.APPROVED])
def test_a_round_that_a_crash_cut_short_is_finished_by_the_next(
    services: Services, database: Database, clock: FrozenClock, state: RerateState
) -> None:
    record(ledger_by(services, EMPTY_BOOK), *make_events(2))
    leave_unfinished(database, state=state, clock=clock)

    rate_unpriced(database, BOOK, now=clock())

    assert [each.state for each in list_rerates(database, limit=9)] == [RerateState.APPLIED]
    assert spent_nanos(database) == 4 * CENT


def test_a_round_cut_short_under_another_book_is_given_up_for_a_new_one(
    services: Services, database: Database, clock: FrozenClock
) -> None:
    record(ledger_by(services, EMPTY_BOOK), make_event())
    leave_unfinished(database, state=RerateState.APPROVED, clock=clock)
    doubled = book_of(make_price(DOUBLED_RATES, model="plain"), version="doubled")

    rate_unpriced(database, doubled, now=clock())

    made_anew, given_up = list_rerates(database, limit=9)
    assert (given_up.applied.usages, given_up.stale.usages) == (0, 1)
    assert (made_anew.applied.usages, made_anew.stale.usages) == (1, 0)
    assert spent_nanos(database) == 4 * CENT
