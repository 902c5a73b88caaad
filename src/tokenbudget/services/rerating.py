"""Rating usage again after the fact: propose, approve, apply.

A proposal (dry run) says what would move and keeps a digest of what it saw. Approving it applies
just that, part by part in transactions of bounded size; what a crash leaves is continued by
approving again, and approving what is applied changes nothing. Usage that had no price rates
itself the same way, without approval, when a price appears.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rerating import (
    CostDelta,
    DeltaKey,
    PartState,
    Reason,
    Rerate,
    RerateScope,
    RerateState,
    delta_of,
    largest_first,
    sum_deltas,
)
from tokenbudget.formats.rerating import describe_scope, parse_scope
from tokenbudget.services.placement import Memory
from tokenbudget.services.rerate_posting import Poster
from tokenbudget.services.rerate_scan import (
    USAGES_PER_PART,
    Finding,
    digest_moves,
    find_part_moves,
    pose_question,
    scan_ledger,
)
from tokenbudget.services.rulebook import RulebookShelf
from tokenbudget.store import rerating as store
from tokenbudget.store.budgets import shut_out_batches
from tokenbudget.store.db import Database
from tokenbudget.store.ledger import intern_price_list
from tokenbudget.store.rerate_charges import has_unpriced_after, last_usage_id
from tokenbudget.store.tables import RerateDeltaRow, ReratePartRow, RerateRow

BREATH_SECONDS: Final = 0.12
"""Between parts SQLite gets a pause longer than the sleeps of its waiting writers."""

MAX_UNFINISHED: Final = 100

Advance = Callable[[int], object]


def propose_rerate(
    database: Database,
    price_list: PriceList,
    scope: RerateScope,
    *,
    now: datetime,
    usages_per_part: int = USAGES_PER_PART,
) -> Rerate:
    """Give what rating the scope again would move; nothing is charged.

    While nothing has changed since, the proposal that waits already is given again.
    """
    with database.reading() as session:
        question = pose_question(session, price_list, scope)
        finding = scan_ledger(session, replace(question, usages_per_part=usages_per_part))
    with database.transaction() as session:
        known = store.find_proposal(session, finding.digest)
        if known is not None:
            return _view(session, known)
        rerate_id = _add_proposal(session, finding, scope, price_list.version, now=now)
        return _get(session, rerate_id)


def approve_rerate(
    database: Database,
    price_list: PriceList,
    rerate_id: int,
    *,
    now: datetime,
    advance: Advance = lambda _count: None,
) -> Rerate:
    """Give the re-rating, applied; ``advance`` is told the usages of each part that is done.

    Raises NotFound, and Conflict when the price list or what is eligible is no longer what the
    dry run saw: then nothing was charged.
    """
    rerate = get_rerate(database, rerate_id)
    if rerate.state is RerateState.APPLIED:
        return rerate
    if rerate.price_list_version != price_list.version:
        raise Conflict(
            f"re-rating {rerate_id} was proposed under price list "
            f"{rerate.price_list_version[:12]} and {price_list.version[:12]} is in force; "
            "make a new dry run"
        )
    if rerate.state is RerateState.PROPOSED:
        _require_unchanged(database, price_list, rerate)
    _apply_parts(database, price_list, rerate, now=now, advance=advance)
    return get_rerate(database, rerate_id)


def get_rerate(database: Database, rerate_id: int) -> Rerate:
    """Give a re-rating as it stands; raises NotFound."""
    with database.reading() as session:
        return _get(session, rerate_id)


def list_rerates(database: Database, *, limit: int) -> list[Rerate]:
    """Give the latest re-ratings, newest first."""
    with database.reading() as session:
        return [_view(session, row) for row in store.list_rerates(session, limit=limit)]


def rate_unpriced(database: Database, price_list: PriceList, *, now: datetime) -> CostDelta:
    """Rate what had no price and has one now, and give what was posted.

    Each unpriced usage is looked at once a price list, so that what can never be priced is not
    looked at again until there is a new one. What changed meanwhile is left to the next round.
    """
    _finish_automatic(database, price_list, now=now)
    with database.reading() as session:
        checked_to = store.unpriced_checked_to(session, price_list.version)
        if not has_unpriced_after(session, checked_to):
            return CostDelta()
    with database.transaction() as session:
        # No batch in flight may hold an id below the highest that is looked at.
        shut_out_batches(session)
        up_to = last_usage_id(session)
        price_list_id = intern_price_list(session, price_list.version, now=now)
    scope = RerateScope(frozenset({Reason.UNPRICED}), after_usage_id=checked_to)
    rerate = _rate_at_once(database, price_list, scope, now=now)
    if rerate is None or not rerate.stale.usages:
        with database.transaction() as session:
            store.mark_unpriced_checked(session, price_list_id, up_to)
    return CostDelta() if rerate is None else rerate.applied


def _rate_at_once(
    database: Database, price_list: PriceList, scope: RerateScope, *, now: datetime
) -> Rerate | None:
    """Apply a scope without asking anyone, and leave no trace when nothing moves."""
    with database.reading() as session:
        finding = scan_ledger(session, pose_question(session, price_list, scope))
    if not finding.parts:
        return None
    with database.transaction() as session:
        version = price_list.version
        rerate_id = _add_proposal(session, finding, scope, version, now=now, is_automatic=True)
    _apply_parts(database, price_list, get_rerate(database, rerate_id), now=now)
    return get_rerate(database, rerate_id)


def _finish_automatic(database: Database, price_list: PriceList, *, now: datetime) -> None:
    """Apply what a crash left; parts that another price list saw turn out stale."""
    with database.reading() as session:
        unfinished = [
            _view(session, row) for row in store.list_unfinished(session, limit=MAX_UNFINISHED)
        ]
    for rerate in unfinished:
        _apply_parts(database, price_list, rerate, now=now)


def _require_unchanged(database: Database, price_list: PriceList, rerate: Rerate) -> None:
    with database.reading() as session:
        finding = scan_ledger(session, pose_question(session, price_list, rerate.scope))
    # Whoever approved it at the same time may be applying it by now.
    is_still_proposed = get_rerate(database, rerate.rerate_id).state is RerateState.PROPOSED
    if finding.digest != rerate.digest and is_still_proposed:
        raise Conflict(
            f"what re-rating {rerate.rerate_id} would move has changed since its dry run; "
            "make a new one"
        )


def _apply_parts(
    database: Database,
    price_list: PriceList,
    rerate: Rerate,
    *,
    now: datetime,
    advance: Advance = lambda _count: None,
) -> None:
    """Apply what waits, each part in a transaction of its own."""
    rerate_id = rerate.rerate_id
    with database.transaction() as session:
        store.mark_approved(session, rerate_id, now=now)
        waiting = store.list_parts(session, rerate_id, state=PartState.WAITING)
        session.expunge_all()
    shelf, memory = RulebookShelf(price_list), Memory(frozenset())
    for place, part in enumerate(waiting):
        if place and database.is_sqlite:
            time.sleep(BREATH_SECONDS)
        with database.transaction() as session:
            shut_out_batches(session)
            rules = shelf.consult(session)
            memory.follow(rules)
            _apply_part(Poster(session, rules, memory, now), part, rerate.scope)
        advance(part.usages)
    with database.transaction() as session:
        store.mark_applied(session, rerate_id, now=now)


def _apply_part(poster: Poster, part: ReratePartRow, scope: RerateScope) -> None:
    """Post the part if it still is what was proposed, else leave it alone."""
    session = poster.session
    if not store.is_waiting(session, part.rerate_id, part.part):
        return
    question = pose_question(session, poster.rules.price_list, scope)
    moves = find_part_moves(session, question, first=part.first_usage_id, last=part.last_usage_id)
    is_unchanged = digest_moves(moves) == part.digest
    if is_unchanged:
        poster.post(moves, rerate_id=part.rerate_id)
    state = PartState.APPLIED if is_unchanged else PartState.STALE
    store.set_part_state(session, part.rerate_id, part.part, state)


def _add_proposal(
    session: Session,
    finding: Finding,
    scope: RerateScope,
    version: str,
    *,
    now: datetime,
    is_automatic: bool = False,
) -> int:
    """Store what was found and give its id."""
    row = {
        "price_list_id": intern_price_list(session, version, now=now),
        "scope": {**describe_scope(scope), "after_usage_id": scope.after_usage_id},
        "is_automatic": is_automatic,
        "state": RerateState.PROPOSED.value,
        "digest": finding.digest,
        **asdict(sum_deltas(finding.deltas.values())),
        "created_at": now,
    }
    parts = [part.waiting_row() for part in finding.parts]
    deltas = [
        {**key._asdict(), "reason": key.reason.value, **asdict(delta)}
        for key, delta in sorted(finding.deltas.items(), key=largest_first)
    ]
    return store.add_rerate(session, row, parts, deltas)


def _get(session: Session, rerate_id: int) -> Rerate:
    row = store.find_rerate(session, rerate_id)
    if row is None:
        raise NotFound(f"re-rating {rerate_id} does not exist")
    return _view(session, row)


def _view(session: Session, row: RerateRow) -> Rerate:
    rerate_id = row.id or 0
    parts = store.list_parts(session, rerate_id)
    scope = dict(row.scope)
    after_usage_id = scope.pop("after_usage_id")
    return Rerate(
        rerate_id=rerate_id,
        state=RerateState(row.state),
        scope=replace(parse_scope(scope), after_usage_id=after_usage_id),
        is_automatic=row.is_automatic,
        price_list_version=store.get_price_list_version(session, row.price_list_id),
        digest=row.digest,
        created_at=row.created_at,
        approved_at=row.approved_at,
        applied_at=row.applied_at,
        proposed=delta_of(row),
        applied=sum_deltas(delta_of(part) for part in parts if part.state == PartState.APPLIED),
        stale=sum_deltas(delta_of(part) for part in parts if part.state == PartState.STALE),
        deltas={_key_of(each): delta_of(each) for each in store.list_deltas(session, rerate_id)},
    )


def _key_of(row: RerateDeltaRow) -> DeltaKey:
    return DeltaKey(row.team, row.feature, row.tenant, row.accounting_period, Reason(row.reason))
