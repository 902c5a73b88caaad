"""Calls that fit a lease, made one after the other, as tests of leases make them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from tests.client.fake_service import PATIENCE
from tokenbudget.client import Client, LeaseTerms

SMALL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 1_000,
    "max_output_tokens": 200,
}
TERMS = LeaseTerms(calls=8)


def use(client: Client, times: int = 1, **given: Any) -> list[str | None]:
    """Make so many calls and give their holds."""
    holds = []
    with client.operation() as operation:
        for _ in range(times):
            with operation.call(**{**SMALL, **given}) as call:
                call.usage(input_tokens=10, output_tokens=1)
            holds.append(call.permit.hold_id)
    return holds


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; fail when it does not come."""
    deadline = monotonic() + PATIENCE
    while not is_so():
        assert monotonic() < deadline, "it never came"
        sleep(0.01)
