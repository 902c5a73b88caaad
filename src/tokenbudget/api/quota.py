"""``/v1/quota``: the check and what may happen to its hold.

The check is a thin route before the group-commit writer.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Depends, Request
from starlette.responses import Response

from tokenbudget.api.access import (
    AppState,
    ServicesIn,
    authorize_on_loop,
    require_scope,
    state_of,
)
from tokenbudget.api.bodies import idempotency_key_of, parse_body, read_body
from tokenbudget.api.problems import document_of
from tokenbudget.domain.allocation import Caller
from tokenbudget.domain.errors import InvalidInput, TokenbudgetError, Unavailable
from tokenbudget.domain.holds import CheckRequest
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.periods import SECOND, format_instant, parse_instant
from tokenbudget.formats.quota import parse_check, parse_checks
from tokenbudget.services.holds import ExtendHold, HoldView, ReleaseHold, get_hold
from tokenbudget.services.ledger import Answer
from tokenbudget.services.quota import CheckQuota

router = APIRouter(
    prefix="/v1/quota", tags=["quota"], dependencies=[Depends(require_scope("quota"))]
)

CHECK_PATH: Final = "/v1/quota/check"
MAX_RETRY_SECONDS: Final = 86_400
# Integers of structured fields have at most 15 digits (RFC 9651, section 3.3.1).
MAX_FIELD_INTEGER: Final = 10**15 - 1
MAX_POLICIES: Final = 10_000


async def check_quota(request: Request) -> Response:
    """Decide whether a call may be made now, and hold what it may cost."""
    key = await authorize_on_loop(request, "quota")
    state = state_of(request)
    body = await read_body(request, limit=state.services.settings.max_body_bytes)
    check = await parse_body(parse_check, body)
    answer = await decide_check(state, check, key.caller)
    return Response(
        msgspec.json.encode(answer),
        media_type="application/json",
        headers=quota_headers(answer, state.services.clock()),
    )


async def decide_check(state: AppState, check: CheckRequest, caller: Caller) -> dict[str, Any]:
    """Give the committed answer of one check; raises what the ledger refuses it with.

    When the database cannot answer, the fail modes of the budgets do.
    """
    try:
        answer = await state.writer.submit(CheckQuota(check, caller))
    except Unavailable as failure:
        return state.fail_modes.answer(check, caller, failure, now=state.services.clock())
    return decision_of(answer)


def decision_of(answer: Answer) -> dict[str, Any]:
    """Give the decision that the writer answered a check with; raises what it was refused with."""
    if isinstance(answer, TokenbudgetError):
        raise answer
    if not isinstance(answer, dict):
        raise TypeError(f"a check was answered with {type(answer).__name__}")
    return answer


@router.post("/check:batch", operation_id="check_quotas")
async def check_quotas(request: Request) -> Response:
    """Decide up to 1,000 checks, each for itself, in their order.

    The answer lists, in the same order, what each check alone would have been answered: a decision,
    or a problem.
    """
    state = state_of(request)
    caller = (await authorize_on_loop(request, "quota")).caller
    body = await read_body(request, limit=state.services.settings.max_body_bytes)
    checks = await parse_body(parse_checks, body)
    decided = await asyncio.gather(*(_decided(state, check, caller) for check in checks))
    answers = [
        document_of(answer) if isinstance(answer, TokenbudgetError) else answer
        for answer in decided
    ]
    content = msgspec.json.encode({"answers": answers}, enc_hook=str)
    return Response(content, media_type="application/json")


async def _decided(
    state: AppState, check: CheckRequest | InvalidInput, caller: Caller
) -> dict[str, Any] | TokenbudgetError:
    """Give the decision, or the error that is this check's alone."""
    if isinstance(check, InvalidInput):
        return check
    try:
        return await decide_check(state, check, caller)
    except TokenbudgetError as error:
        return error


@router.get("/holds/{hold_id}", operation_id="get_hold")
def show_hold(hold_id: str, services: ServicesIn) -> dict[str, Any]:
    """Give a hold as it stands."""
    return _describe_hold(get_hold(services.database, hold_id))


@router.post("/holds/{hold_id}/release", operation_id="release_hold")
async def release_hold(hold_id: str, request: Request) -> dict[str, Any]:
    """Give back a hold whose call was not sent or was refused."""
    return await _change_hold(request, ReleaseHold(hold_id))


@router.post("/holds/{hold_id}/extend", operation_id="extend_hold")
async def extend_hold(
    hold_id: str,
    request: Request,
    ttl_seconds: Annotated[int, Body(embed=True, ge=1, le=31 * 86_400)],
) -> dict[str, Any]:
    """Let an open hold live longer, counted from now; once under one Idempotency-Key."""
    work = ExtendHold(
        hold_id,
        timedelta(seconds=ttl_seconds),
        key_id=(await authorize_on_loop(request, "quota")).caller.key_id,
        idempotency_key=idempotency_key_of(request),
    )
    return await _change_hold(request, work)


async def _change_hold(request: Request, work: ReleaseHold | ExtendHold) -> dict[str, Any]:
    answer = await state_of(request).writer.submit(work)
    if isinstance(answer, TokenbudgetError):
        raise answer
    if not isinstance(answer, HoldView):
        raise TypeError(f"a hold's change was answered with {type(answer).__name__}")
    return _describe_hold(answer)


def _describe_hold(hold: HoldView) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "state": hold.state.value,
        "created_at": format_instant(hold.created_at),
        "expires_at": format_instant(hold.expires_at),
        "estimate": _money(hold.estimate_nanos),
        "requests": hold.requests,
        "pieces_settled": hold.pieces_settled,
        "remaining": _money(hold.remaining_nanos),
        "settled": _money(hold.settled_nanos),
        "overage": _money(hold.overage_nanos),
    }


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)


def quota_headers(answer: dict[str, Any], now: datetime) -> dict[str, str]:
    """Give the binding budget's headers (draft-ietf-httpapi-ratelimit-headers-10).

    Money is counted in whole micro-units of the currency, rounded towards less; Retry-After only on
    a denial.
    """
    binding = answer["binding"]
    if binding is None:
        return {}
    # Rounded up: who comes again then comes to a new window, even one of a minute.
    seconds_left = max(0, -((now - _instant_of(binding["resets_at"])) // SECOND))
    headroom = _countable(binding["headroom"], binding["unit"])
    left = min(max(0, headroom), MAX_FIELD_INTEGER)
    headers = {
        "RateLimit-Policy": _policy_of(
            binding["budget"], binding["limit"], binding["unit"], answer["currency"]
        ),
        "RateLimit": f'"{binding["budget"]}";r={left};t={seconds_left}',
    }
    if answer["decision"] == "deny":
        headers["Retry-After"] = str(min(max(1, seconds_left), MAX_RETRY_SECONDS))
    return headers


@lru_cache(MAX_POLICIES)
def _policy_of(budget: str, limit: str, unit: str, currency: str) -> str:
    counted_in = "micro-" + currency.lower() if unit == "money" else unit
    quota = min(_countable(limit, unit), MAX_FIELD_INTEGER)
    return f'"{budget}";q={quota};tokenbudget-unit="{counted_in}"'


@lru_cache(MAX_POLICIES)
def _instant_of(resets_at: str) -> datetime:
    return parse_instant(resets_at, field="resets_at")


def _countable(quantity: str, unit: str) -> int:
    if unit != "money":
        return int(quantity)
    whole, _, fraction = quantity.lstrip("-").partition(".")
    micros = int(whole) * 1_000_000 + int(fraction[:6])
    return -micros if quantity.startswith("-") else micros
