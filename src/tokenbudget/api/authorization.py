"""``/v1/quota/authorize``: the quota check as the external authorisation of a gateway.

Envoy and its like send the request they were given, with its path after ours, and pass any answer
but 200 on to the caller. It owns that form of question and answer; deciding is ``quota.py``'s.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Security
from starlette.responses import Response

from tokenbudget.api.access import KeyScheme, authorize_on_loop, state_of
from tokenbudget.api.bodies import parse_body, read_body
from tokenbudget.api.problems import problem_response
from tokenbudget.api.quota import decide_check, quota_headers
from tokenbudget.formats.authorization import PREFIX, parse_authorization
from tokenbudget.services.holds import ReleaseHold

KEY_HEADER: Final = f"{PREFIX}key"
REDUCES_HEADER: Final = f"{PREFIX}accept-reduce"
METHODS: Final = ["DELETE", "GET", "PATCH", "POST", "PUT"]
TOO_MANY_REQUESTS: Final = 429
PROBLEM: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REFUSAL: Final[dict[int | str, dict[str, Any]]] = {
    TOO_MANY_REQUESTS: {
        "description": "The call may not be made now; Retry-After says when to ask again"
    }
}

router = APIRouter(
    prefix="/v1/quota",
    tags=["quota"],
    dependencies=[Security(KeyScheme(), scopes=["quota"])],
)


@router.api_route("/authorize/{path:path}", methods=METHODS, include_in_schema=False)
@router.post("/authorize", operation_id="authorize_call", responses=REFUSAL)
async def authorize_call(request: Request) -> Response:
    """Answer 200 when a call may be made now, 429 when not, and hold what it may cost.

    The gateway says what the call is in headers: X-Tokenbudget-Tags (as W3C baggage), -Provider,
    -Model, -Input-Tokens, -Max-Output-Tokens; model and sizes are else taken from the body of the
    provider's request, which is counted and not kept. Our key comes as X-Tokenbudget-Key, since
    Authorization is the provider's. A call that only fits with less output is refused, unless
    X-Tokenbudget-Accept-Reduce says that the gateway lowers it to X-Tokenbudget-Max-Output-Tokens.
    """
    state = state_of(request)
    key = await authorize_on_loop(request, "quota", secret=request.headers.get(KEY_HEADER))
    body = await read_body(request, limit=state.services.settings.max_body_bytes)
    headers = dict(request.headers.items())
    check = await parse_body(lambda text: parse_authorization(headers, text), body)
    answer = await decide_check(state, check, key.caller)
    now = state.services.clock()
    if answer["decision"] == "allow" or (answer["decision"] == "reduce" and _may_reduce(request)):
        return Response(status_code=200, headers={**quota_headers(answer, now), **_told(answer)})
    if answer["hold_id"] is not None:
        await state.writer.submit(ReleaseHold(answer["hold_id"]))
    problem = _problem_of(answer)
    return problem_response(problem, quota_headers({**answer, "decision": "deny"}, now))


def _may_reduce(request: Request) -> bool:
    return request.headers.get(REDUCES_HEADER, "").strip().lower() in ("1", "true", "yes")


def _told(answer: dict[str, Any]) -> dict[str, str]:
    """Give the decision as headers, which a gateway may hand to the upstream."""
    limits = answer["limits"]
    told = {
        f"{PREFIX}decision": answer["decision"],
        f"{PREFIX}hold-id": answer["hold_id"],
        f"{PREFIX}max-output-tokens": limits["max_output_tokens"],
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _problem_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Give the problem document of draft-ietf-httpapi-ratelimit-headers-10."""
    binding = answer["binding"]
    reasons = answer["reasons"]
    if answer["decision"] == "reduce":
        fitting = answer["limits"]["max_output_tokens"]
        detail = f"the budget has room for {fitting} output tokens only; ask for less"
    else:
        detail = "; ".join(reason["detail"] for reason in reasons)
    return {
        "type": PROBLEM,
        "title": "The quota is used up",
        "status": TOO_MANY_REQUESTS,
        "detail": detail,
        "code": reasons[0]["code"] if reasons else "budget_exhausted",
        "violated-policies": [] if binding is None else [binding["budget"]],
        "reasons": reasons,
    }
