"""What both clients need of the service: how to reach it, and what its answers to a check mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, Final

import httpx

from tokenbudget.client._errors import CheckRefused, QuotaDenied
from tokenbudget.client._memory import Memory
from tokenbudget.client._models import Call, FailMode, Permit, fail_mode_of, permit_of

CHECK_PATH: Final = "/v1/quota/check"
CLIENT_ERRORS: Final = range(400, 500)
SERVER_ERRORS: Final = range(500, 600)
# Answers of a service, or of a proxy before it, that has not looked at the check.
NOT_DECIDED: Final = frozenset({408, 425, 429})
SHORTEST_SECONDS: Final = 0.001


class Deadline(Mapping[str, float]):
    """One time-out for a whole exchange, where httpx counts one for each of its phases.

    httpx asks for the phase's time-out as it begins, and is given what is left.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = monotonic() + seconds

    def __getitem__(self, phase: str) -> float:
        """Give the seconds left, whatever the phase."""
        return max(SHORTEST_SECONDS, self._ends - monotonic())

    def __iter__(self) -> Iterator[str]:
        """Give the names of the phases."""
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        """Give how many phases there are."""
        return 4


def headers_of(api_key: str | None) -> dict[str, str]:
    """Give the headers that name the key."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def release_path(hold_id: str) -> str:
    """Give the path that gives a hold back."""
    return f"/v1/quota/holds/{hold_id}/release"


def permit_from(response: httpx.Response, call: Call, memory: Memory) -> Permit:
    """Give the permit that an answer grants.

    Raises QuotaDenied, CheckRefused when the check is wrong, and, when the service cannot decide
    and the mode is closed, QuotaUnavailable.
    """
    status = response.status_code
    if status in CLIENT_ERRORS and status not in NOT_DECIDED:
        raise CheckRefused(status, _detail(response))
    if not response.is_success:
        return memory.undecided(call, f"HTTP {status}", told=_told_mode(response))
    try:
        permit = permit_of(response.json(), call)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        return memory.undecided(call, f"no answer of a check ({type(error).__name__})")
    memory.note(call, permit)
    if permit.is_denied:
        raise QuotaDenied(permit)
    return permit


def _told_mode(response: httpx.Response) -> FailMode | None:
    try:
        problem: Any = response.json()
    except ValueError:
        return None
    return fail_mode_of(problem) if isinstance(problem, dict) else None


def _detail(response: httpx.Response) -> str:
    try:
        problem: Any = response.json()
    except ValueError:
        return response.text
    return str(problem.get("detail", problem)) if isinstance(problem, dict) else response.text
