"""Quota checks as the API spells them (contract: Quota): the request shape and the answer."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from tokenbudget.domain.errors import InvalidInput, MalformedBody, TooLarge
from tokenbudget.domain.holds import (
    Binding,
    CheckRequest,
    Decision,
    Notice,
    Outcome,
    TextCount,
)
from tokenbudget.domain.money import format_nanos, parse_nanos
from tokenbudget.domain.periods import format_instant
from tokenbudget.formats.budgets import format_quantity
from tokenbudget.formats.wire import NUL_ESCAPE, UNREADABLE, plain_fault, require_no_nul
from tokenbudget.tokens import TokenEstimate, count_messages, count_tokens

MAX_CHECKS: Final = 1_000

Words = Annotated[str, msgspec.Meta(max_length=256)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**8)]
Requests = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=31 * 86_400)]


class CheckShape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The wire shape of a quota check."""

    provider: Name | None = None
    model: Name | None = None
    tags: dict[Name, Words | None] = {}
    input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    text: str | None = None
    messages: list[dict[str, Any]] | None = None
    service_tier: Words | None = None
    estimate: Decimal | None = None
    ttl_seconds: Seconds | None = None
    idempotency_key: Name | None = None
    dry_run: bool = False
    requests: Requests = 1
    operation_id: Words | None = None


class _Checks(msgspec.Struct, forbid_unknown_fields=True):
    checks: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(CheckShape)
_encoder = msgspec.json.Encoder(order="deterministic")


def parse_check(body: bytes) -> CheckRequest:
    """Give the check in a body.

    Raises MalformedBody for no JSON and InvalidInput naming the field and the rule.
    """
    try:
        shape = _decoder.decode(body)
        if NUL_ESCAPE in body:
            require_no_nul(shape)
        return request_of(shape)
    except msgspec.ValidationError as error:
        raise InvalidInput(plain_fault(error, "check")) from None
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None


def parse_checks(body: bytes) -> list[CheckRequest | InvalidInput]:
    """Give each check of an array, or of the member ``checks`` of an object, or its fault.

    Raises MalformedBody for no JSON of that shape, InvalidInput for none at all and TooLarge for
    more than MAX_CHECKS.
    """
    try:
        items = _decode_items(body)
    except UNREADABLE as error:
        raise MalformedBody(f"the body is not an array of checks: {error}") from None
    if not items:
        raise InvalidInput("the batch is empty; send one check at least", field="checks")
    if len(items) > MAX_CHECKS:
        raise TooLarge(f"the batch has {len(items)} checks; the limit is {MAX_CHECKS}")
    parsed: list[CheckRequest | InvalidInput] = []
    for item in items:
        try:
            parsed.append(parse_check(bytes(item)))
        except InvalidInput as error:
            parsed.append(error)
    return parsed


def _decode_items(body: bytes) -> list[msgspec.Raw]:
    if body.lstrip()[:1] == b"[":
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    return msgspec.json.decode(body, type=_Checks).checks


def request_of(shape: CheckShape) -> CheckRequest:
    """Give the check of a shape; raises InvalidInput naming the field and the rule."""
    _require_complete(shape)
    estimate = _estimate_input(shape)
    return CheckRequest(
        tags={name: value for name, value in shape.tags.items() if value is not None},
        provider=shape.provider or "",
        model=shape.model or "",
        input_tokens=shape.input_tokens if estimate is None else estimate.tokens,
        text_count=_text_count(estimate),
        max_output_tokens=shape.max_output_tokens,
        service_tier=shape.service_tier,
        estimate_nanos=_estimate_nanos(shape),
        ttl=None if shape.ttl_seconds is None else timedelta(seconds=shape.ttl_seconds),
        idempotency_key=shape.idempotency_key,
        request_digest=_digest(shape) if shape.idempotency_key is not None else "",
        dry_run=shape.dry_run,
        requests=shape.requests,
        operation_ref=shape.operation_id or None,
    )


def _require_complete(shape: CheckShape) -> None:
    """Raise InvalidInput unless the check says what it is for and how large, once."""
    for name in ("provider", "model"):
        if getattr(shape, name) is None and shape.estimate is None:
            raise InvalidInput(f"{name} is needed unless an estimate is given", field=name)
    given = [
        name for name in ("input_tokens", "text", "messages") if getattr(shape, name) is not None
    ]
    if len(given) > 1:
        raise InvalidInput(f"only one of input_tokens, text, messages may be given, not {given}")
    if not given and shape.estimate is None:
        raise InvalidInput("one of input_tokens, text, messages or estimate is needed")


def _estimate_input(shape: CheckShape) -> TokenEstimate | None:
    if shape.text is not None:
        return count_tokens(shape.text, shape.model or "")
    if shape.messages is not None:
        return count_messages(shape.messages, shape.model or "")
    return None


def _text_count(estimate: TokenEstimate | None) -> TextCount | None:
    """Give what was counted, None when some of the input was left out."""
    if estimate is None or estimate.flags:
        return None
    return TextCount(estimate.counted, estimate.method)


def _estimate_nanos(shape: CheckShape) -> int | None:
    if shape.estimate is None:
        return None
    nanos = parse_nanos(str(shape.estimate), field="estimate")
    if nanos < 0:
        raise InvalidInput(f"estimate {shape.estimate} is negative", field="estimate")
    return nanos


def _digest(shape: CheckShape) -> str:
    return hashlib.blake2b(_encoder.encode(shape), digest_size=16).hexdigest()


def describe_decision(decision: Decision, *, currency: str, fails_open: bool) -> dict[str, Any]:
    """Give the wire answer of a decision, with what to do about such calls if nobody answers."""
    nanos = decision.demand.nanos
    return {
        "decision": decision.outcome.value,
        "hold_id": decision.hold_id,
        "expires_at": format_instant(decision.expires_at) if decision.expires_at else None,
        "estimate": None if nanos is None else format_nanos(nanos),
        "currency": currency,
        "basis": decision.demand.basis.value,
        "limits": {
            "max_output_tokens": decision.max_output_tokens,
            "model": decision.model or None,
            **({"provider": decision.provider} if decision.provider else {}),
            "requests": None if decision.outcome is Outcome.DENY else decision.demand.requests,
        },
        "binding": _describe_binding(decision.binding) if decision.binding else None,
        "warnings": [_describe_notice(notice) for notice in decision.warnings],
        "reasons": [_describe_notice(notice) for notice in decision.reasons],
        "fail_mode": "open" if fails_open else "closed",
    }


def _describe_binding(binding: Binding) -> dict[str, Any]:
    unit = binding.budget.unit
    return {
        "budget": binding.budget.id,
        "budget_version": binding.budget.version,
        "unit": unit.value,
        "limit": format_quantity(binding.budget.limit, unit),
        "carry": format_quantity(binding.carry, unit),
        "raised": format_quantity(binding.raised, unit),
        "settled": format_quantity(binding.settled, unit),
        "held": format_quantity(binding.held, unit),
        "headroom": format_quantity(binding.headroom, unit),
        "resets_at": format_instant(binding.resets_at),
    }


def _describe_notice(notice: Notice) -> dict[str, str]:
    return {"code": notice.code, "detail": notice.detail}
