"""Taking back an import that was wrong: it owns what is in force afterwards.

It refuses to import (``bills.py``). Nothing is deleted: what is in force is what the imports that
are left would have made it, one after the other. A closed month shows the change as a correction
in the next statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session, SQLModel

from tokenbudget.domain.errors import InvalidInput, NotFound
from tokenbudget.formats.wire import UNSTORABLE
from tokenbudget.store import bill_withdrawals as store
from tokenbudget.store.bill_listing import get_import
from tokenbudget.store.bills import lock_imports, tables_with
from tokenbudget.store.db import Database

MAX_REASON_LENGTH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What came of withdrawing an import.

    ``is_new`` is false when it was withdrawn before: then nothing was changed. ``withdrawn_lines``
    of its rows were in force; ``restored_lines`` of other imports stand in force again.
    """

    import_id: str
    is_new: bool
    withdrawn_lines: int
    restored_lines: int


def withdraw_import(
    database: Database, import_id: str, *, reason: str, now: datetime, by: str | None = None
) -> Withdrawal:
    """Take an import back, so that it is as if it had never been; its bytes may be imported again.

    Rows that it superseded stand in force again where no later import restates them. Doing it again
    changes nothing. ``by`` is the id of the key that asks, None for the command line. Raises
    NotFound, and InvalidInput without a reason.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON_LENGTH:
        raise InvalidInput(f"reason must have 1 to {MAX_REASON_LENGTH} characters", field="reason")
    if UNSTORABLE.search(reason):
        raise InvalidInput("reason must be a text that can be stored", field="reason")
    with database.transaction() as session:
        lock_imports(session)
        row = get_import(session, import_id)
        if row is None:
            raise NotFound(f"there is no import of bills {import_id!r}", id=import_id)
        if row.withdrawn_at is not None:
            return Withdrawal(import_id, False, 0, 0)
        held = tables_with(session, source=row.source)
        places = store.list_places(session, import_id)
        store.note_withdrawal(session, import_id, now=now, by=by, reason=reason)
        withdrawn = restored = 0
        for place in places:
            for model in held:
                withdrawn += store.take_out_of_force(session, model, place)
                restored += _hand_back(session, model, place)
        return Withdrawal(import_id, True, withdrawn, restored)


def _hand_back(session: Session, model: type[SQLModel], place: store.Place) -> int:
    """Leave what was superseded to the first import that comes next, and give what has none."""
    left = store.count_superseded(session, model, place)
    if left == 0:
        return 0
    for successor in list(store.iterate_successors(session, place)):
        left -= store.pass_on(session, model, place, successor)
        if left == 0:
            return 0
    return store.bring_back(session, model, place)
