"""What the client raises. An application that catches ``QuotaError`` has caught them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenbudget.client._models import Permit


class QuotaError(Exception):
    """Base of what the client raises on purpose."""


class QuotaDenied(QuotaError):
    """The check answered no; ``permit`` holds the reasons and the binding budget."""

    def __init__(self, permit: Permit) -> None:
        reasons = "; ".join(f"{reason.code}: {reason.detail}" for reason in permit.reasons)
        super().__init__(reasons or "denied")
        self.permit = permit


class QuotaUnavailable(QuotaError):
    """The service did not decide in time, and the caller asked to fail closed."""


class CheckRefused(QuotaError):
    """The service says that the check itself is wrong (4xx): a key, a scope or a field."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
