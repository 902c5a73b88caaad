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

from tokenbudget.domain.allocation import CallFacts, DimensionSet
from tokenbudget.domain.budgets import Budget, Mode, Unit
from tokenbudget.domain.errors import Conflict, InvalidInput, TokenbudgetError
from tokenbudget.domain.holds import (
    MAX_DEMAND_NANOS,
    Account,
    CheckRequest,
    Decision,
    Demand,
    Notice,
    Outcome,
    Verdict,
    affordable_requests,
    binding_of,
    exhausted_notice,
    grant,
    judge,
    output_room,
)
from tokenbudget.domain.money import NANOS_PER_UNIT
from tokenbudget.domain.output_bounds import BOUND_DAYS
from tokenbudget.domain.rating import RatingFacts, affordable_output_tokens, upper_bound_cost
from tokenbudget.domain.usage import MAX_QUANTITY, Basis
from tokenbudget.formats.quota import describe_decision
from tokenbudget.services.counting import CounterBook
from tokenbudget.services.decisions import DecisionLog, LogTerms
from tokenbudget.services.holds import HoldTerms
from tokenbudget.services.ids import new_id
from tokenbudget.services.output_bounds import OutputShelf
from tokenbudget.services.placement import Caller, Memory, Placement
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.screening import Gate, gate_of
from tokenbudget.services.usage import STANDARD_TIER
from tokenbudget.store.budgets import CounterKey
from tokenbudget.store.holds import add_answers, add_holds, find_answers

UNPRICED_REASON: Final = "unpriced_model"
UNKNOWN_OPERATION: Final = "operation_unknown"


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
    """What checks are granted under.

    When a check names no maximum, ``outputs`` tells what output such calls have, and
    ``output_bound`` is assumed where that is not known. ``log`` says which decisions are kept.
    """

    currency: str
    holds: HoldTerms
    output_bound: int
    outputs: OutputShelf = field(default_factory=OutputShelf)
    log: LogTerms = field(default_factory=LogTerms)

    def assumed_output(self, dimensions: DimensionSet) -> tuple[int, Notice]:
        """Give the output assumed of a call that names no maximum, and what is said of it."""
        tokens, method = self.output_bound, "TOKENBUDGET_DEFAULT_MAX_OUTPUT_TOKENS"
        known = self.outputs.find(dimensions.provider, dimensions.model, dimensions.feature)
        if known is not None:
            tokens, method = known.tokens, f"p95 of {known.calls} calls in {BOUND_DAYS} days"
        detail = f"no max_output_tokens was given; {tokens} were assumed ({method})"
        return tokens, Notice("output_bound_assumed", detail)


@dataclass(frozen=True, slots=True)
class Pending:
    """A check that is prepared: where it counts, what it may need and which counters decide.

    ``one`` is what one of its requests may need, as are the tokens; ``demand`` is that of them all.
    ``rungs`` are the same check for models that may stand in, best first.
    """

    work: CheckQuota
    facts: RatingFacts
    dimensions: DimensionSet
    one: Demand
    demand: Demand
    input_tokens: int
    output_tokens: int
    notices: tuple[Notice, ...]
    keys: tuple[tuple[Budget, CounterKey], ...]
    gate: Gate
    rungs: tuple[Pending, ...] = ()

    @property
    def other_provider(self) -> str | None:
        """Give the provider of the model where it is another than was asked for, else None."""
        provider = self.facts.provider
        return provider if provider != self.work.request.provider else None


@dataclass(slots=True)
class CheckDesk:
    """Decides the checks of one transaction."""

    session: Session
    rules: Rulebook
    memory: Memory
    terms: Terms
    now: datetime
    stored: dict[tuple[str, str], tuple[str, dict[str, Any]]] = field(default_factory=dict)
    log: DecisionLog = field(init=False)
    hold_rows: list[dict[str, Any]] = field(default_factory=list)
    piecewise_rows: list[dict[str, Any]] = field(default_factory=list)
    answer_rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the log of what is decided."""
        self.log = DecisionLog(self.session, self.terms.log, self.now)

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
        if (pending.demand.nanos or 0) > MAX_DEMAND_NANOS:
            most = MAX_DEMAND_NANOS // NANOS_PER_UNIT
            return InvalidInput(f"the check asks for more than {most} {self.terms.currency}")
        decision = self._decide(pending, book)
        fails_open = all(
            budget.fails_open for budget, _ in pending.keys if budget.mode is Mode.HARD
        )
        self.log.note(
            decision,
            pending.dimensions,
            key_id=pending.work.caller.key_id,
            is_dry_run=pending.work.request.dry_run,
        )
        answer = describe_decision(decision, currency=self.terms.currency, fails_open=fails_open)
        if key is not None and not pending.work.request.dry_run:
            self._remember(key, pending.work.request.request_digest, answer)
        return answer

    def write(self) -> None:
        """Write the holds and the answers to be repeated."""
        add_holds(self.session, self.hold_rows)
        add_holds(self.session, self.piecewise_rows)
        add_answers(self.session, self.answer_rows)
        self.log.write()

    def _prepare(self, work: CheckQuota, book: CounterBook) -> Pending:
        request = work.request
        pending = self._place(work, request, book)
        if not pending.gate.rungs or request.estimate_nanos is not None:
            return pending
        candidates = [
            replace(request, provider=provider, model=model)
            for provider, model in pending.gate.rungs
        ]
        rungs = [self._place(work, candidate, book) for candidate in candidates]
        return replace(pending, rungs=tuple(filter(_may_stand_in, rungs)))

    def _place(self, work: CheckQuota, request: CheckRequest, book: CounterBook) -> Pending:
        """Estimate a check, or one for a model that may stand in, and ask for its counters."""
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
        gate = gate_of(placement, self.rules, self.now)
        output_tokens, notices = self._output_bound(request, placement)
        input_tokens = request.input_tokens or 0
        one = self._demand(request, facts, input_tokens, output_tokens)
        keys = self._keys_of(placement, request, book)
        return Pending(
            work=work,
            facts=facts,
            dimensions=placement.dimensions,
            one=one,
            demand=one.times(request.requests),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            notices=(*gate.warnings, *notices, *_unknown_operation(placement, request, self.now)),
            keys=keys,
            gate=gate,
        )

    def _keys_of(
        self, placement: Placement, request: CheckRequest, book: CounterBook
    ) -> tuple[tuple[Budget, CounterKey], ...]:
        return tuple(
            (match.budget, key)
            for match, key in book.keys_of(placement, self.now, request.operation_ref)
            if key is not None and match.budget.is_in_force(self.now)
        )

    def _output_bound(
        self, request: CheckRequest, placement: Placement
    ) -> tuple[int, tuple[Notice, ...]]:
        if request.max_output_tokens is not None:
            return request.max_output_tokens, ()
        if request.estimate_nanos is not None:
            return 0, ()
        bound, notice = self.terms.assumed_output(placement.dimensions)
        return bound, (notice,)

    def _demand(
        self, request: CheckRequest, facts: RatingFacts, input_tokens: int, output_tokens: int
    ) -> Demand:
        """Give what one request may use at most."""
        tokens = input_tokens + output_tokens
        if request.estimate_nanos is not None:
            return Demand(request.estimate_nanos, tokens, Basis.ESTIMATED)
        charge = upper_bound_cost(input_tokens, output_tokens, facts, self.rules.price_list)
        return Demand(charge.effective_nanos, tokens, charge.basis)

    def _decide(self, pending: Pending, book: CounterBook) -> Decision:
        """Decide: the model in full, the first rung in full, less of the model, or nothing.

        A model that no policy allows is not given at all, however little of it would fit.
        """
        denials = pending.gate.denials
        accounts = _accounts(pending, book)
        verdict = judge(pending.demand, accounts)
        reasons = denials or _refusals(pending, accounts, verdict)
        if not reasons:
            return self._allow(pending, accounts, verdict, Outcome.ALLOW)
        for rung in pending.rungs:
            stand_ins = _accounts(rung, book)
            stand_in = judge(rung.demand, stand_ins)
            if not _refusals(rung, stand_ins, stand_in):
                told = replace(rung, notices=(*denials, *rung.notices))
                return self._allow(told, stand_ins, stand_in, Outcome.REDUCE)
        if denials:
            return _denial(pending, Verdict(), denials)
        reduced = None if _is_unpriced(pending, accounts) else self._reduce(pending, accounts)
        if reduced is not None:
            return self._allow(reduced, accounts, judge(reduced.demand, accounts), Outcome.REDUCE)
        return _denial(pending, verdict, reasons)

    def _reduce(self, pending: Pending, accounts: list[Account]) -> Pending | None:
        """Give the check with the output tokens there is room for, None when not one fits.

        A check for several requests is given fewer of them instead.
        """
        if pending.work.request.requests > 1:
            return _with_fewer_requests(pending, accounts)
        if pending.work.request.estimate_nanos is not None:
            return None
        money, tokens = output_room(accounts, pending.input_tokens)
        output_tokens = min(pending.output_tokens, MAX_QUANTITY if tokens is None else tokens)
        if money is not None:
            affordable = affordable_output_tokens(
                money, pending.input_tokens, pending.facts, self.rules.price_list
            )
            output_tokens = min(output_tokens, affordable)
        if output_tokens < pending.gate.min_output_tokens:
            return None
        demand = self._demand(
            pending.work.request, pending.facts, pending.input_tokens, output_tokens
        )
        if judge(demand, accounts).refusing:
            return None
        return replace(pending, one=demand, demand=demand, output_tokens=output_tokens)

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
            model=pending.facts.model,
            provider=pending.other_provider,
            hold_id=hold_id,
            expires_at=expires_at,
            binding=binding_of(verdict.binding) if verdict.binding else None,
            warnings=(*pending.notices, *verdict.warnings, *_unpriced_notice(pending.demand)),
        )

    def _hold(self, pending: Pending, accounts: list[Account]) -> tuple[str, datetime]:
        """Set the demand aside and give the id of the hold and when it ends."""
        terms, request, demand = self.terms.holds, pending.work.request, pending.demand
        by_pieces = request.requests > 1
        latest = terms.latest(self.now, by_pieces=by_pieces)
        expires_at = min(self.now + (request.ttl or terms.usual), latest)
        hold_id = new_id(self.now)
        count = None if by_pieces else request.text_count
        row = {
            "id": hold_id,
            "created_at": self.now,
            "expires_at": expires_at,
            "state": "held",
            "provider": pending.facts.provider,
            "model": pending.facts.model,
            "team": pending.dimensions.team,
            "feature": pending.dimensions.feature,
            "input_tokens": request.input_tokens,
            "estimate_nanos": demand.nanos,
            "counted_tokens": count.tokens if count else None,
            "counting_method": count.method if count else None,
            "grants": grant(demand, accounts),
            "requests": demand.requests,
            "pieces_settled": 0,
        }
        if by_pieces:
            self.piecewise_rows.append({**row, **_whole_of(demand)})
        else:
            self.hold_rows.append(row)
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


def _with_fewer_requests(pending: Pending, accounts: list[Account]) -> Pending | None:
    """Give the check with as many requests as there is room for, None when not one fits."""
    affordable = affordable_requests(pending.one, accounts)
    if not affordable:
        return None
    demand = pending.one.times(min(affordable, pending.demand.requests))
    return None if judge(demand, accounts).refusing else replace(pending, demand=demand)


def _whole_of(demand: Demand) -> dict[str, int]:
    """Give what is left of a hold of which no piece is taken yet."""
    return {
        "remaining_nanos": demand.nanos or 0,
        "remaining_tokens": demand.tokens,
        "remaining_requests": demand.requests,
    }


def _may_stand_in(rung: Pending) -> bool:
    return not rung.gate.denials and (rung.demand.nanos or 0) <= MAX_DEMAND_NANOS


def _accounts(pending: Pending, book: CounterBook) -> list[Account]:
    return [Account(budget, book.counter(key)) for budget, key in pending.keys]


def _refusals(pending: Pending, accounts: list[Account], verdict: Verdict) -> tuple[Notice, ...]:
    """Give why the budgets refuse the demand in full, nothing when they do not."""
    if _is_unpriced(pending, accounts):
        detail = f"no price is known for {pending.facts.provider}/{pending.facts.model}"
        return (Notice(UNPRICED_REASON, detail),)
    return tuple(map(exhausted_notice, verdict.refusing))


def _is_unpriced(pending: Pending, accounts: list[Account]) -> bool:
    """Tell whether money is limited and nobody knows what the check may cost."""
    return pending.demand.nanos is None and any(map(_limits_money, accounts))


def _limits_money(account: Account) -> bool:
    return account.budget.mode is Mode.HARD and account.budget.unit is Unit.MONEY


def _unknown_operation(
    placement: Placement, request: CheckRequest, now: datetime
) -> tuple[Notice, ...]:
    """Give the warning that hard budgets for each operation do not know which one this is."""
    aim = placement.aim
    if request.operation_ref is not None or aim is None or not aim.by_operation:
        return ()
    passed_over = [
        match.budget.id
        for match in aim.by_operation
        if match.budget.mode is Mode.HARD and match.budget.is_in_force(now)
    ]
    if not passed_over:
        return ()
    detail = f"no operation_id was given; budget {', '.join(passed_over)} was not checked"
    return (Notice(UNKNOWN_OPERATION, detail),)


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
