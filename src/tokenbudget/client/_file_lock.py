"""A lock on a file that the system drops when its process ends: none is ever left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileLock:
    """A lock that is tried and never waited for.

    Where the system has none, two processes may send the same event, which is counted once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock; False when another process has it."""
        if sys.platform == "win32":
            return True
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A place that cannot be locked is no reason to send nothing.
            return True
        return True

    def give(self) -> None:
        """Give the lock back."""
        if sys.platform != "win32" and self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; in a child of a fork the parent's lock stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
