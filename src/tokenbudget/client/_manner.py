"""How a client behaves, in one value. It owns the defaults and their units."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Final

from tokenbudget.client._estimates import bound_tokens
from tokenbudget.client._lease_terms import LeaseTerms
from tokenbudget.client._models import FailMode

TIMEOUT_SECONDS: Final = 0.5
HOLD_SECONDS: Final = 600
MEMORY_SECONDS: Final = 300.0
MAX_SPOOLED: Final = 100_000
MAX_SPOOLED_BYTES: Final = 256 * 1024 * 1024
SPOOL_FILE: Final = "spool.db"
DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client behaves: whom its events name, how long it waits and what it does then.

    ``source`` is half of an event's identity. A check that is not answered within
    ``timeout_seconds`` follows ``fail_mode``; None is the mode that the service last told for such
    a call, and open where it told none. Mode cached repeats a decision that is not older than
    ``memory_seconds``. A wrapped call is held for ``hold_seconds``, which are the SDKs' own
    time-out, and its text is bounded by ``count_tokens(text, model)``.

    At most ``max_spooled`` events in ``max_spooled_bytes`` wait in a file in ``spool_directory``,
    which belongs to one application. Unless it is named it is a directory of this user under the
    machine's temporary one, with a file for each service and key. ``baggage_keys`` are entries of
    OpenTelemetry's baggage that are taken for tags by their own names.

    With ``lease`` calls are let through from slices of budget that are granted for many at once;
    None checks every call. A block of ``leased`` says otherwise for the calls inside.
    """

    source: str = "client"
    timeout_seconds: float = TIMEOUT_SECONDS
    fail_mode: FailMode | str | None = None
    spool_directory: Path | str | None = None
    max_spooled: int = MAX_SPOOLED
    max_spooled_bytes: int = MAX_SPOOLED_BYTES
    hold_seconds: int = HOLD_SECONDS
    memory_seconds: float = MEMORY_SECONDS
    count_tokens: Callable[[str, str], int] = bound_tokens
    baggage_keys: tuple[str, ...] = ()
    lease: LeaseTerms | None = None

    def spool_path(self, url: str, api_key: str | None) -> Path:
        """Give the file of the spool for this service and key."""
        if self.spool_directory is not None:
            return Path(self.spool_directory) / SPOOL_FILE
        user = os.getuid() if hasattr(os, "getuid") else "user"
        reached = f"{url}\n{api_key or ''}".encode()
        digest = hashlib.blake2b(reached, digest_size=DIGEST_BYTES).hexdigest()
        return Path(gettempdir()) / f"tokenbudget-{user}" / f"{digest}-{SPOOL_FILE}"
