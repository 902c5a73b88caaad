"""What a check is answered while the database cannot answer: what its budgets say for that case.

It owns the choice between letting a call through unchecked and refusing to decide. It goes by the
rules that the writer last read and asks the database for nothing; what room there is, nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from tokenbudget.domain.allocation import Caller, CallFacts, DimensionSet, allocate
from tokenbudget.domain.budgets import Budget, Mode, Unit
from tokenbudget.domain.errors import Unavailable
from tokenbudget.domain.holds import CheckRequest, Decision, Demand, Notice, Outcome
from tokenbudget.domain.rating import RatingFacts, upper_bound_cost
from tokenbudget.domain.usage import Basis
from tokenbudget.formats.quota import describe_decision
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.quota import UNPRICED_REASON
from tokenbudget.services.rulebook import Rulebook
from tokenbudget.services.screening import make_gate
from tokenbudget.services.usage import STANDARD_TIER

NOT_CHECKED: Final = "budget_not_checked"
CLOSED: Final = "closed"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FailModes:
    """Answers checks that the writer could not decide, by the rules its ledger last read.

    Only what is replaced as a whole is read of the ledger, so any thread may ask.
    """

    ledger: Ledger

    def learn(self) -> None:
        """Read the rules in force, if the database answers; called before the writer starts.

        So a worker knows them that has decided nothing yet.
        """
        with suppress(Unavailable), self.ledger.database.transaction() as session:
            self.ledger.shelf.consult(session)

    def answer(
        self, check: CheckRequest, caller: Caller, failure: Unavailable, *, now: datetime
    ) -> dict[str, Any]:
        """Give the wire answer of a check that nothing is held for.

        It is allowed, with the warning ``budget_not_checked``, if every hard budget that applies
        fails open. Without a price a hard money budget denies it, and so do policies, as always; no
        model stands in for another, since nobody knows what has room. Nothing is stored: a repeat
        is decided anew, and usage counts as if it had been checked. Raises Unavailable when a
        budget fails closed, when no rules were ever read, or when it was not the database that
        failed (the queue is full, the service ends).
        """
        rules = self.ledger.shelf.current
        if rules is None or not _is_of_database(failure):
            raise failure
        dimensions = self._dimensions_of(check, caller, rules, now)
        deciding = _hard_budgets(rules, dimensions, check, now)
        closed = [budget.id for budget in deciding if not budget.fails_open]
        if closed:
            # One failure answers a whole batch, of which each check has its own budgets.
            raise Unavailable(
                failure.detail,
                retry_after_seconds=failure.retry_after_seconds,
                fail_mode=CLOSED,
                budgets=closed,
            ) from failure
        decision = self._decision_of(check, dimensions, rules, deciding, now)
        logger.warning(
            NOT_CHECKED,
            budgets=[budget.id for budget in deciding],
            decision=decision.outcome.value,
            provider=check.provider,
            model=check.model,
            estimate_nanos=decision.demand.nanos,
            key_id=caller.key_id,
            error=failure.detail,
        )
        return describe_decision(decision, currency=self.ledger.terms.currency, fails_open=True)

    def _dimensions_of(
        self, check: CheckRequest, caller: Caller, rules: Rulebook, now: datetime
    ) -> DimensionSet:
        tier = check.service_tier or STANDARD_TIER
        call = CallFacts(check.provider, check.model, None, tier)
        # The writer's memory of placements is the writer's alone.
        return allocate(
            call,
            check.tags,
            now,
            caller=caller,
            rules=rules.tag_rules,
            unrolled=self.ledger.memory.unrolled_tags,
        )

    def _decision_of(
        self,
        check: CheckRequest,
        dimensions: DimensionSet,
        rules: Rulebook,
        deciding: Sequence[Budget],
        now: datetime,
    ) -> Decision:
        gate = make_gate(dimensions, rules.policies.matching(dimensions), rules, now)
        output_tokens = check.max_output_tokens
        notices = list(gate.warnings)
        if output_tokens is None and check.estimate_nanos is None:
            output_tokens, assumed = self.ledger.terms.assumed_output(dimensions)
            notices.append(assumed)
        demand = _demand_of(check, output_tokens or 0, dimensions, rules, now)
        reasons = list(gate.denials)
        if demand.nanos is None:
            unpriced = Notice(
                UNPRICED_REASON, f"no price is known for {check.provider}/{check.model}"
            )
            limits_money = any(budget.unit is Unit.MONEY for budget in deciding)
            (reasons if limits_money else notices).append(unpriced)
        if reasons:
            warnings = tuple(notices)
            return Decision(
                Outcome.DENY, demand, None, check.model, warnings=warnings, reasons=tuple(reasons)
            )
        detail = "the database cannot answer; the call is allowed and nothing is held for it"
        warnings = (Notice(NOT_CHECKED, detail), *notices)
        return Decision(Outcome.ALLOW, demand, output_tokens, check.model, warnings=warnings)


def _demand_of(
    check: CheckRequest,
    output_tokens: int,
    dimensions: DimensionSet,
    rules: Rulebook,
    now: datetime,
) -> Demand:
    """Give what the call may use at most, as the writer would have estimated it."""
    tokens = (check.input_tokens or 0) + output_tokens
    if check.estimate_nanos is not None:
        return Demand(check.estimate_nanos, tokens, Basis.ESTIMATED).times(check.requests)
    covering = rules.price_list.find_commitment(dimensions, now)
    facts = RatingFacts(
        check.provider,
        check.model,
        now,
        check.service_tier,
        commitment=covering.id if covering else None,
    )
    charge = upper_bound_cost(check.input_tokens or 0, output_tokens, facts, rules.price_list)
    return Demand(charge.effective_nanos, tokens, charge.basis).times(check.requests)


def _hard_budgets(
    rules: Rulebook, dimensions: DimensionSet, check: CheckRequest, now: datetime
) -> tuple[Budget, ...]:
    """Give the budgets that could have denied the check, by id."""
    return tuple(
        match.budget
        for match in rules.index.match(dimensions)
        if match.budget.mode is Mode.HARD
        and match.budget.is_in_force(now)
        and match.budget.period_counted_at(now) is not None
        and (check.operation_ref is not None or not match.budget.window.per_operation)
    )


def _is_of_database(failure: Unavailable) -> bool:
    # The store raises it from the driver's error; a queue or a service that ends has no cause.
    return failure.__cause__ is not None
