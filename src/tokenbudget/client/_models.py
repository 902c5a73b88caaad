"""What a check asks and what it answers, as values; amounts are exact decimals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol


class FailMode(StrEnum):
    """What happens when the service cannot decide in time: let through, refuse, or do as before."""

    OPEN = "open"
    CLOSED = "closed"
    CACHED = "cached"


class Decision(StrEnum):
    """What may be done; ``unchecked`` is a call let through because nobody could be asked."""

    ALLOW = "allow"
    REDUCE = "reduce"
    DENY = "deny"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call is denied or warned of; ``code`` is stable."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The budget that decides: what is left of it and when it starts anew."""

    budget: str
    headroom: Decimal
    resets_at: str


class Slice(Protocol):
    """Where a call's share of a hold for several comes from, and goes when its call ends."""

    def give_back(self) -> None:
        """End a piece whose call was not sent: another may take it."""

    def end(self) -> None:
        """End a piece whose event is on its way."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to a check: what the call may use and the hold that sets it aside.

    ``provider`` is told when the call is to go to another one than was asked for. ``fail_mode`` is
    that of the budgets that decided, where the service told it. A call that was
    let through by a ``lease`` shares its hold with others; what else the permit tells is as it was
    when the lease was granted.
    """

    decision: Decision
    model: str
    max_output_tokens: int | None = None
    hold_id: str | None = None
    estimate: Decimal | None = None
    currency: str | None = None
    binding: Binding | None = None
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    fail_mode: FailMode | None = None
    provider: str | None = None
    lease: Slice | None = field(default=None, repr=False, compare=False)

    @property
    def is_denied(self) -> bool:
        """Tell whether the call must not be made."""
        return self.decision is Decision.DENY


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call before it is made; tokens are upper bounds.

    ``operation_id`` is the user's operation that it is a part of, which may have a budget.
    """

    provider: str
    model: str
    operation: str = "chat"
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    estimate: Decimal | None = None
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    ttl_seconds: int | None = None
    operation_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def permit_of(answer: Mapping[str, Any], call: Call) -> Permit:
    """Give the permit that an answer of ``/v1/quota/check`` grants.

    Raises KeyError, TypeError, ValueError or ArithmeticError when it is no such answer.
    """
    limits = answer.get("limits") or {}
    binding = answer.get("binding")
    estimate = answer.get("estimate")
    return Permit(
        decision=Decision(answer["decision"]),
        model=limits.get("model") or call.model,
        max_output_tokens=limits.get("max_output_tokens"),
        hold_id=answer.get("hold_id"),
        estimate=None if estimate is None else Decimal(estimate),
        currency=answer.get("currency"),
        binding=None
        if binding is None
        else Binding(binding["budget"], Decimal(binding["headroom"]), binding["resets_at"]),
        reasons=_reasons(answer.get("reasons")),
        warnings=_reasons(answer.get("warnings")),
        fail_mode=fail_mode_of(answer),
        provider=_other_provider(limits.get("provider"), call),
    )


def fail_mode_of(answer: Mapping[str, Any]) -> FailMode | None:
    """Give the fail mode that an answer tells of; None when it tells none that is known."""
    told = answer.get("fail_mode")
    return FailMode(told) if told in tuple(FailMode) else None


def _other_provider(told: Any, call: Call) -> str | None:
    return None if told in (None, call.provider) else str(told)


def _reasons(entries: Any) -> tuple[Reason, ...]:
    return tuple(Reason(entry["code"], entry.get("detail", "")) for entry in entries or ())
