"""Attributing usage again after the fact: propose, approve, apply.

A proposal (dry run) says what would count elsewhere by the mappings, rules and owners of today and
keeps a digest of what it saw. Approving it applies just that, part by part in transactions of
bounded size; what a crash leaves is continued by approving again, and approving what is applied
changes nothing. Amounts never change, only who bears them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlmodel import Session

from tokenbudget.domain.errors import Conflict, NotFound
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.reattribution import OwnerKey, Reattribution, UsePeriod
from tokenbudget.domain.rerating import (
    PartState,
    RerateState,
    delta_of,
    largest_first,
    sum_deltas,
)
from tokenbudget.domain.tag_rules import TagRules
from tokenbudget.services.placement import Memory
from tokenbudget.services.reattribution_posting import Mover
from tokenbudget.services.reattribution_scan import (
    USAGES_PER_PART,
    Finding,
    Question,
    digest_moves,
    find_part_moves,
    pose_question,
    scan_ledger,
)
from tokenbudget.services.rulebook import Rulebook, RulebookShelf, load_tag_rules
from tokenbudget.store import reattribution as store
from tokenbudget.store.budgets import rules_number, shut_out_batches
from tokenbudget.store.db import Database
from tokenbudget.store.rerating import find_closed_before
from tokenbudget.store.tables import (
    ReattributionPartRow,
    ReattributionRow,
)

BREATH_SECONDS: Final = 0.12
"""Between parts SQLite gets a pause longer than the sleeps of its waiting writers."""

Advance = Callable[[int], object]


def propose_reattribution(
    database: Database,
    period: UsePeriod,
    *,
    now: datetime,
    by: str | None = None,
    usages_per_part: int = USAGES_PER_PART,
) -> Reattribution:
    """Give what attributing the usage of a period again would move; nothing is charged.

    ``by`` is the id of the API key that asks. While nothing has changed since, the proposal that
    waits already is given again.
    """
    with database.reading() as session:
        rules = load_tag_rules(session)
        question = pose_question(session, rules, period, usages_per_part=usages_per_part)
        finding = scan_ledger(session, question)
    with database.transaction() as session:
        known = store.find_proposal(session, finding.digest)
        if known is not None:
            return _view(session, known)
        return _get(session, _add_proposal(session, finding, period, by=by, now=now))


def approve_reattribution(
    database: Database,
    price_list: PriceList,
    reattribution_id: int,
    *,
    now: datetime,
    by: str | None = None,
    advance: Advance = lambda _count: None,
) -> Reattribution:
    """Give the re-attribution, applied; ``advance`` is told the usages of each part that is done.

    Raises NotFound, and Conflict when what would move is no longer what the dry run saw: then
    nothing was posted.
    """
    known = get_reattribution(database, reattribution_id)
    if known.state is RerateState.APPLIED:
        return known
    if known.state is RerateState.PROPOSED:
        _require_unchanged(database, known)
    with database.transaction() as session:
        store.mark_approved(session, reattribution_id, by=by, now=now)
        waiting = store.list_parts(session, reattribution_id, state=PartState.WAITING)
        session.expunge_all()
    crew = _Crew(known.period, RulebookShelf(price_list), Memory(frozenset()), now)
    with database.reading() as session:
        # Worked out ahead of the parts, which keep everybody else waiting.
        crew.pose(session, rules_number(session), load_tag_rules(session))
    for place, part in enumerate(waiting):
        if place and database.is_sqlite:
            time.sleep(BREATH_SECONDS)
        with database.transaction() as session:
            shut_out_batches(session)
            crew.apply(session, part)
        advance(part.usages)
    with database.transaction() as session:
        store.mark_applied(session, reattribution_id, now=now)
    return get_reattribution(database, reattribution_id)


def get_reattribution(database: Database, reattribution_id: int) -> Reattribution:
    """Give a re-attribution as it stands; raises NotFound."""
    with database.reading() as session:
        return _get(session, reattribution_id)


def list_reattributions(database: Database, *, limit: int) -> list[Reattribution]:
    """Give the latest re-attributions, newest first."""
    with database.reading() as session:
        return [_view(session, row) for row in store.list_reattributions(session, limit=limit)]


@dataclass(slots=True)
class _Crew:
    """Applies parts by the rules in force, which it works out anew only when they change."""

    period: UsePeriod
    shelf: RulebookShelf
    memory: Memory
    now: datetime
    posed: tuple[int, Question] | None = field(default=None)

    def apply(self, session: Session, part: ReattributionPartRow) -> None:
        """Post the part if it still is what was proposed, else leave it alone."""
        if not store.is_waiting(session, part.reattribution_id, part.part):
            return
        rules = self.shelf.consult(session)
        self.memory.follow(rules)
        question = self._question(session, rules)
        moves = find_part_moves(
            session, question, first=part.first_usage_id, last=part.last_usage_id
        )
        is_unchanged = digest_moves(moves) == part.digest
        if is_unchanged:
            mover = Mover(session, rules, self.memory, self.now)
            found = question.resolver.found
            mover.post(moves, found, reattribution_id=part.reattribution_id)
        state = PartState.APPLIED if is_unchanged else PartState.STALE
        store.set_part_state(session, part.reattribution_id, part.part, state)

    def pose(self, session: Session, number: int, rules: TagRules) -> Question:
        """Give the question by the rules with this number, and keep it for the parts to come."""
        question = pose_question(session, rules, self.period)
        self.posed = number, question
        return question

    def _question(self, session: Session, rules: Rulebook) -> Question:
        if self.posed is None or self.posed[0] != rules.number:
            return self.pose(session, rules.number, rules.tag_rules)
        return replace(self.posed[1], closed_before=find_closed_before(session))


def _require_unchanged(database: Database, known: Reattribution) -> None:
    with database.reading() as session:
        question = pose_question(session, load_tag_rules(session), known.period)
        finding = scan_ledger(session, question)
    # Whoever approved it at the same time may be applying it by now.
    present = get_reattribution(database, known.reattribution_id)
    if finding.digest != known.digest and present.state is RerateState.PROPOSED:
        raise Conflict(
            f"what re-attribution {known.reattribution_id} would move has changed since its dry "
            "run; make a new one"
        )


def _add_proposal(
    session: Session, finding: Finding, period: UsePeriod, *, by: str | None, now: datetime
) -> int:
    """Store what was found and give its id."""
    row = {
        "starts_at": period.start,
        "ends_at": period.end,
        "state": RerateState.PROPOSED.value,
        "digest": finding.digest,
        **asdict(sum_deltas(part.delta for part in finding.parts)),
        "created_at": now,
        "created_by": by,
    }
    parts = [part.waiting_row() for part in finding.parts]
    deltas = [
        {**key._asdict(), **asdict(delta)}
        for key, delta in sorted(finding.deltas.items(), key=largest_first)
    ]
    return store.add_reattribution(session, row, parts, deltas)


def _get(session: Session, reattribution_id: int) -> Reattribution:
    row = store.find_reattribution(session, reattribution_id)
    if row is None:
        raise NotFound(f"re-attribution {reattribution_id} does not exist")
    return _view(session, row)


def _view(session: Session, row: ReattributionRow) -> Reattribution:
    reattribution_id = row.id or 0
    parts = store.list_parts(session, reattribution_id)
    return Reattribution(
        reattribution_id=reattribution_id,
        state=RerateState(row.state),
        period=UsePeriod(row.starts_at, row.ends_at),
        digest=row.digest,
        created_at=row.created_at,
        created_by=row.created_by,
        approved_at=row.approved_at,
        approved_by=row.approved_by,
        applied_at=row.applied_at,
        proposed=delta_of(row),
        applied=sum_deltas(delta_of(part) for part in parts if part.state == PartState.APPLIED),
        stale=sum_deltas(delta_of(part) for part in parts if part.state == PartState.STALE),
        deltas={
            OwnerKey(each.team, each.feature, each.tenant, each.accounting_period): delta_of(each)
            for each in store.list_deltas(session, reattribution_id)
        },
    )
