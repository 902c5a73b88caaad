"""When PostgreSQL gives a transaction up to let another pass, the ledger does it once more."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from tests.builders import make_event, record, rows_of
from tests.conftest import FrozenClock
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.identity import event_key
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import EventKeyRow, UsageRow

LONG_ENOUGH_TO_BLOCK = 0.3


def test_a_transaction_given_up_to_a_deadlock_is_done_again(
    postgres_database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    ledger = make_ledger(make_services(postgres_database, clock, tmp_path))
    first, second = sorted(event_key("api", name, 0) for name in ("e1", "e2"))
    claim = sa.insert(table_of(EventKeyRow))
    with ThreadPoolExecutor(1) as pool, postgres_database.engine.connect() as other:
        transaction = other.begin()
        other.execute(claim, {"key": second, "usage_id": 1})
        recording = pool.submit(record, ledger, make_event(), make_event(event_id="e2"))
        time.sleep(LONG_ENOUGH_TO_BLOCK)
        # The batch has the first key and waits for the second; whoever waited first is given up.
        other.execute(claim, {"key": first, "usage_id": 1})
        transaction.rollback()
        answer = recording.result()

    assert answer.accepted == 2
    assert len(rows_of(postgres_database, UsageRow)) == 2
