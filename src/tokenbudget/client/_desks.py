"""The part of looking after a call that both clients share: all but asking and waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tokenbudget.client._attempts import Attempt
from tokenbudget.client._calls import OperationFacts, current_operation, new_id
from tokenbudget.client._families import STREAM, Method
from tokenbudget.client._manner import Manner
from tokenbudget.client._models import Call, Permit
from tokenbudget.client._outlet import Outlet
from tokenbudget.client._plans import Endpoint, Plan, plan_call


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is planned and belongs to an operation: what the check is asked."""

    plan: Plan
    operation: OperationFacts
    call: Call


@dataclass(frozen=True, slots=True)
class Desk:
    """Where calls of one wrapped SDK, or of one transport, are planned and begun.

    ``base`` are the client's tags and ``tags`` those of the SDK or transport.
    """

    outlet: Outlet
    manner: Manner
    base: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)

    def ask_method(self, method: Method, arguments: Mapping[str, Any], provider: str) -> Asked:
        """Plan a call of an SDK's method with these arguments."""
        is_streamed = method.name == STREAM or bool(arguments.get("stream"))
        return self.ask(method.endpoint, arguments, provider, is_streamed=is_streamed)

    def ask(
        self,
        endpoint: Endpoint,
        arguments: Mapping[str, Any],
        provider: str,
        *,
        is_streamed: bool,
        is_model_fixed: bool = False,
    ) -> Asked:
        """Plan a call with these arguments, of the running operation or one of its own.

        ``is_model_fixed`` when no argument names the model.
        """
        plan = plan_call(
            endpoint,
            arguments,
            self.manner.count_tokens,
            provider=provider,
            hold_seconds=self.manner.hold_seconds,
            is_streamed=is_streamed,
        )
        plan = replace(plan, is_model_fixed=is_model_fixed)
        operation = current_operation() or OperationFacts({}, self.base, self.manner.baggage_keys)
        return Asked(plan, operation, operation.describe(plan.facts, self.tags))

    def begin(
        self, asked: Asked, permit: Permit, *, shows_exchange: bool = False
    ) -> tuple[Attempt, dict[str, Any]]:
        """Give the call that is let through and the arguments to make it with.

        Raises QuotaDenied, and gives the hold back, when the provider takes no call so small, or
        when another model is granted that this call cannot name.
        """
        running = asked.operation.start(asked.call, permit, source=self.manner.source, key=new_id())
        attempt = Attempt(running, self.outlet, shows_exchange=shows_exchange)
        is_granted = False
        try:
            arguments = asked.plan.granted(asked.call, permit)
            is_granted = True
        finally:
            if not is_granted:
                attempt.not_sent()
        return attempt, arguments
