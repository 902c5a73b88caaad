"""What the tests of carries, raises and operations share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.builders import CENT, ask, make_budget
from tokenbudget.domain.money import parse_nanos
from tokenbudget.formats.budgets import BudgetDraft
from tokenbudget.formats.raises import RaiseDraft, RaiseView
from tokenbudget.services.budgets import list_standings
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.raises import Asker, create_raise
from tokenbudget.store.db import Database


def carrying(**overrides: Any) -> BudgetDraft:
    """Give a hard budget of one dollar a day that carries over what is left."""
    return make_budget(**{"window": "day", "rollover": {}, **overrides})


def allowed(ledger: Ledger, **overrides: Any) -> tuple[int, int, int]:
    """Give (carry, raised, headroom) that a check of nothing is decided on, in cents."""
    binding = ask(ledger, estimate="0", dry_run=True, **overrides)["binding"]
    carry, raised, headroom = (
        parse_nanos(binding[name]) // CENT for name in ("carry", "raised", "headroom")
    )
    return carry, raised, headroom


def standing_of(database: Database, now: datetime) -> tuple[int, int, int]:
    """Give (carry, raised, headroom) of the one counter that stands, in cents."""
    [standing] = list_standings(database, now=now)
    return standing.carry // CENT, standing.raised // CENT, standing.headroom // CENT


def raise_by(
    database: Database,
    cents: int,
    *,
    until: datetime,
    now: datetime,
    since: datetime | None = None,
) -> RaiseView:
    """Raise the budget ``all`` by so many cents and give the raise."""
    draft = RaiseDraft(cents * CENT, since, until, "the launch")
    view, _ = create_raise(database, "all", draft, asker=Asker("key-1"), now=now)
    return view
