"""Quota before the request.

What a call may cost at most, whether every budget has room, and what is set aside.

It works inside one transaction that has the counters locked, and decides the checks of that
transaction one after the other. It refuses to write counters itself; the batch does that once for
all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from tokenbudget.domain.allocation import CallFacts
from tokenbudget.domain.budgets import Budget, Mode, Unit
from tokenbudget.domain.errors import Conflict, TokenbudgetError
from tokenbudget.domain.holds import (
    Account,
    CheckRequest,
    Decision,
    Demand,
    Notice,
    Outcome,
    Verdict,
    binding_of,
    exhausted_notice,
    grant,
    judge,
    output_room,
)
from tokenbudget.domain.rating import RatingFacts, affordable_output_tokens, upper_bound_cost
from tokenbudget.domain.usage import MAX_QUANTITY, Basis
from tokenbudget.formats.quota import describe_decision
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.holds import HoldTerms
from tokenbudget.services.ids import new_id
from tokenbudget.services.placement import Caller, Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.usage import STANDARD_TIER
from tokenbudget.store.budgets import CounterKey, add_answers, add_holds, find_answers

UNPRICED_REASON: Final = "unpriced_model"


@dataclass(frozen=True, slots=True)
class CheckQuota:
    """Work for the writer: one quota check."""

    request: CheckRequest
    caller: Caller
    weight: int = 1

    @property
    def answer_key(self) -> tuple[str, str] | None:
        """Give what a repeated check is known by, None when it carries no idempotency key."""
        if self.request.idempotency_key is None:
            return None
        return self.caller.key_id, self.request.idempotency_key


@dataclass(frozen=True, slots=True)
class Terms:
    """What checks are granted under; ``output_bound`` is assumed when a check names no maximum."""

    currency: str
    holds: HoldTerms
    output_bound: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A check that is prepared: where it counts, what it may need and which counters decide."""

    work: CheckQuota
    facts: RatingFacts
    demand: Demand
    input_tokens: int
    output_tokens: int
    notices: tuple[Notice, ...]
    keys: tuple[tuple[Budget, CounterKey], ...]


@dataclass(slots=True)
class CheckDesk:
    """Decides the checks of one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    terms: Terms
    now: datetime
    stored: dict[tuple[str, str], tuple[str, dict[str, Any]]] = field(default_factory=dict)
    hold_rows: list[dict[str, Any]] = field(default_factory=list)
    answer_rows: list[dict[str, Any]] = field(default_factory=list)

    def prepare(self, works: list[CheckQuota], book: CounterBook) -> list[Pending]:
        """Estimate every check and ask the book for the counters that decide it."""
        keys = {work.answer_key for work in works if work.answer_key is not None}
        for key, row in find_answers(self.session, keys).items():
            self.stored[key] = (row.request_digest, row.answer)
        return [self._prepare(work, book) for work in works]

    def decide(self, pending: Pending, book: CounterBook) -> dict[str, Any] | TokenbudgetError:
        """Give the wire answer of one check, holding what it grants.

        A repeat gets its first answer.
        """
        key = pending.work.answer_key
        if key is not None and key in self.stored:
            digest, answer = self.stored[key]
            if digest == pending.work.request.request_digest:
                return answer
            return Conflict(f"idempotency_key {key[1]!r} was used for another check")
        accounts = [
            Account(budget, book.counter(counter_key)) for budget, counter_key in pending.keys
        ]
        decision = self._decide(pending, accounts)
        fails_open = all(
            budget.fails_open for budget, _ in pending.keys if budget.mode is Mode.HARD
        )
        answer = describe_decision(decision, currency=self.terms.currency, fails_open=fails_open)
        if key is not None and not pending.work.request.dry_run:
            self._remember(key, pending.work.request.request_digest, answer)
        return answer

    def write(self) -> None:
        """Write the holds and the answers to be repeated."""
        add_holds(self.session, self.hold_rows)
        add_answers(self.session, self.answer_rows)

    def _prepare(self, work: CheckQuota, book: CounterBook) -> Pending:
        request = work.request
        tier = request.service_tier or STANDARD_TIER
        call = CallFacts(request.provider, request.model, None, tier)
        placement = self.memory.place(call, request.tags, work.caller, self.rules, self.now)
        covering = self.rules.price_list.find_commitment(placement.dimensions, self.now)
        facts = RatingFacts(
            request.provider,
            request.model,
            self.now,
            request.service_tier,
            commitment=covering.id if covering else None,
        )
        output_tokens, notices = self._output_bound(request)
        input_tokens = request.input_tokens or 0
        return Pending(
            work=work,
            facts=facts,
            demand=self._demand(request, facts, input_tokens, output_tokens),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            notices=notices,
            keys=self._keys_of(placement, book),
        )

    def _keys_of(
        self, placement: Placement, book: CounterBook
    ) -> tuple[tuple[Budget, CounterKey], ...]:
        return tuple(
            (match.budget, key)
            for match, key in book.keys_of(placement, self.now)
            if key is not None and match.budget.is_in_force(self.now)
        )

    def _output_bound(self, request: CheckRequest) -> tuple[int, tuple[Notice, ...]]:
        if request.max_output_tokens is not None:
            return request.max_output_tokens, ()
        if request.estimate_nanos is not None:
            return 0, ()
        bound = self.terms.output_bound
        detail = f"no max_output_tokens was given; {bound} were assumed"
        return bound, (Notice("output_bound_assumed", detail),)

    def _demand(
        self, request: CheckRequest, facts: RatingFacts, input_tokens: int, output_tokens: int
    ) -> Demand:
        tokens = input_tokens + output_tokens
        if request.estimate_nanos is not None:
            return Demand(request.estimate_nanos, tokens, Basis.ESTIMATED)
        charge = upper_bound_cost(input_tokens, output_tokens, facts, self.rules.price_list)
        return Demand(charge.effective_nanos, tokens, charge.basis)

    def _decide(self, pending: Pending, accounts: list[Account]) -> Decision:
        if pending.demand.nanos is None and any(map(_limits_money, accounts)):
            verdict = judge(pending.demand, accounts)
            detail = f"no price is known for {pending.facts.provider}/{pending.facts.model}"
            return _denial(pending, verdict, (Notice(UNPRICED_REASON, detail),))
        verdict = judge(pending.demand, accounts)
        if not verdict.refusing:
            return self._allow(pending, accounts, verdict, Outcome.ALLOW)
        reduced = self._reduce(pending, accounts)
        if reduced is not None:
            return self._allow(reduced, accounts, judge(reduced.demand, accounts), Outcome.REDUCE)
        return _denial(pending, verdict, tuple(map(exhausted_notice, verdict.refusing)))

    def _reduce(self, pending: Pending, accounts: list[Account]) -> Pending | None:
        """Give the check with the output tokens there is room for, None when not one fits."""
        if pending.work.request.estimate_nanos is not None:
            return None
        money, tokens = output_room(accounts, pending.input_tokens)
        output_tokens = min(pending.output_tokens, MAX_QUANTITY if tokens is None else tokens)
        if money is not None:
            affordable = affordable_output_tokens(
                money, pending.input_tokens, pending.facts, self.rules.price_list
            )
            output_tokens = min(output_tokens, affordable)
        if output_tokens < 1:
            return None
        demand = self._demand(
            pending.work.request, pending.facts, pending.input_tokens, output_tokens
        )
        if judge(demand, accounts).refusing:
            return None
        return replace(pending, demand=demand, output_tokens=output_tokens)

    def _allow(
        self, pending: Pending, accounts: list[Account], verdict: Verdict, outcome: Outcome
    ) -> Decision:
        request = pending.work.request
        is_bounded = request.max_output_tokens is not None or request.estimate_nanos is None
        hold_id, expires_at = None, None
        if not request.dry_run:
            hold_id, expires_at = self._hold(pending, accounts)
        return Decision(
            outcome=outcome,
            demand=pending.demand,
            max_output_tokens=pending.output_tokens if is_bounded else None,
            model=request.model,
            hold_id=hold_id,
            expires_at=expires_at,
            binding=binding_of(verdict.binding) if verdict.binding else None,
            warnings=(*pending.notices, *verdict.warnings, *_unpriced_notice(pending.demand)),
        )

    def _hold(self, pending: Pending, accounts: list[Account]) -> tuple[str, datetime]:
        """Set the demand aside and give the id of the hold and when it ends."""
        terms = self.terms.holds
        expires_at = self.now + min(pending.work.request.ttl or terms.usual, terms.longest)
        hold_id = new_id(self.now)
        count = pending.work.request.text_count
        self.hold_rows.append(
            {
                "id": hold_id,
                "created_at": self.now,
                "expires_at": expires_at,
                "state": "held",
                "provider": pending.facts.provider,
                "model": pending.facts.model,
                "estimate_nanos": pending.demand.nanos,
                "counted_tokens": count.tokens if count else None,
                "counting_method": count.method if count else None,
                "grants": grant(pending.demand, accounts),
            }
        )
        return hold_id, expires_at

    def _remember(self, key: tuple[str, str], digest: str, answer: dict[str, Any]) -> None:
        self.stored[key] = (digest, answer)
        self.answer_rows.append(
            {
                "key_id": key[0],
                "idempotency_key": key[1],
                "request_digest": digest,
                "answer": answer,
                "created_at": self.now,
            }
        )


def _limits_money(account: Account) -> bool:
    return account.budget.mode is Mode.HARD and account.budget.unit is Unit.MONEY


def _unpriced_notice(demand: Demand) -> tuple[Notice, ...]:
    if demand.nanos is not None:
        return ()
    return (Notice(UNPRICED_REASON, "no price is known for this model; no money is held"),)


def _denial(pending: Pending, verdict: Verdict, reasons: tuple[Notice, ...]) -> Decision:
    return Decision(
        outcome=Outcome.DENY,
        demand=pending.demand,
        max_output_tokens=None,
        model=pending.work.request.model,
        binding=binding_of(verdict.binding) if verdict.binding else None,
        warnings=pending.notices,
        reasons=reasons,
    )
