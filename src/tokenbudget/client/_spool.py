"""Events that wait to be sent, in a bounded file on disk that survives a crash of the process.

Several processes may share one spool; one of them sends at a time. An event is deleted only after
the service has answered for it, so it may be sent twice, and the ledger counts it once.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenbudget.client._file_lock import FileLock

logger = logging.getLogger("tokenbudget.client")

BUSY_SECONDS: Final = 1
MAX_EVENT_BYTES: Final = 64 * 1024
PAGE_BYTES: Final = 4_096
LEAST_PAGES: Final = 16
IN_MEMORY: Final = ":memory:"
OWNER_ONLY: Final = 0o700
# As good as a count, as events leave from the old end, and read off both ends of the key.
SPAN: Final = "(SELECT coalesce(max(id) - min(id) + 1, 0) FROM waiting)"
# Numbers never return, so that one who is late to delete what was sent deletes nothing else.
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS waiting"
    " (id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY, event TEXT NOT NULL,"
    " reason TEXT NOT NULL)",
)
# A connection of the parent must not be closed by a child: closing drops the parent's locks.
_inherited: list[sqlite3.Connection] = []


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event with its place in the spool."""

    number: int
    event: dict[str, Any]


class Spool:
    """One spool; it may be used from any thread and in both halves of a fork.

    A file that cannot be had is replaced by memory, and a damaged one set aside: no fault of a
    disk reaches the application.
    """

    def __init__(self, path: Path, *, max_events: int, max_bytes: int) -> None:
        self._path = path
        self._max_events = max_events
        self._max_pages = max(LEAST_PAGES, max_bytes // PAGE_BYTES)
        self._lock = threading.Lock()
        self._is_open = True
        self._connection = self._open()
        self._sending = FileLock(path.with_suffix(".lock"))
        self.dropped = 0

    def add(self, event: Mapping[str, Any]) -> bool:
        """Keep an event; False when there is no room and it was dropped, which is counted."""
        text = json.dumps(event, separators=(",", ":"), default=str)
        try:
            if len(text) <= MAX_EVENT_BYTES and self._insert(text):
                return True
        except sqlite3.Error as error:
            logger.warning("an event could not be spooled: %s", error)
        self.dropped += 1
        if self.dropped.bit_count() == 1:
            # At every power of two: said in time, and not said for every event.
            logger.warning("events are dropped, %d so far: the spool has no room", self.dropped)
        return False

    def oldest(self, count: int) -> list[Waiting]:
        """Give the events that wait longest."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT id, event FROM waiting ORDER BY id LIMIT ?", (count,)
            ).fetchall()
        return [Waiting(number, json.loads(text)) for number, text in rows]

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget events that the service has answered for."""
        with self._lock, self._transaction():
            self._connection.executemany(
                "DELETE FROM waiting WHERE id = ?", [(number,) for number in numbers]
            )

    def refuse(self, item: Waiting, reason: str) -> None:
        """Set an event aside that the service will never take, with its reason; it is kept.

        Of more than the spool may hold, the oldest are forgotten.
        """
        with self._lock, self._transaction():
            self._connection.execute(
                "INSERT INTO refused (event, reason) VALUES (?, ?)",
                (json.dumps(item.event), reason),
            )
            self._connection.execute(
                "DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?",
                (self._max_events,),
            )
            self._connection.execute("DELETE FROM waiting WHERE id = ?", (item.number,))

    def refused(self) -> list[tuple[dict[str, Any], str]]:
        """Give the events set aside, with the reasons."""
        with self._lock:
            rows = self._connection.execute("SELECT event, reason FROM refused ORDER BY id")
            return [(json.loads(text), reason) for text, reason in rows]

    def __len__(self) -> int:
        """Give how many events wait, or a few more."""
        with self._lock:
            count: int = self._connection.execute(f"SELECT {SPAN}").fetchone()[0]
        return count

    def ends(self) -> tuple[int, int] | None:
        """Give the numbers of the oldest and the newest event that wait; None when none does."""
        with self._lock:
            oldest, newest = self._connection.execute(
                "SELECT min(id), max(id) FROM waiting"
            ).fetchone()
        return None if oldest is None else (oldest, newest)

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Be the one process that sends; False in the block while another is."""
        is_ours = self._sending.take()
        try:
            yield is_ours
        finally:
            if is_ours:
                self._sending.give()

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._is_open = False
            self._connection.close()
        self._sending.close()

    def before_fork(self) -> None:
        """Wait until no thread is inside the database."""
        self._lock.acquire()

    def after_fork(self, *, is_child: bool) -> None:
        """Go on, in a child with a connection and locks of its own."""
        if not is_child:
            self._lock.release()
            return
        self._lock = threading.Lock()
        if self._is_open:
            _inherited.append(self._connection)
            self._sending.close()
            self._connection = self._open()

    def _insert(self, text: str) -> bool:
        with self._lock:
            cursor = self._connection.execute(
                f"INSERT INTO waiting (event) SELECT ? WHERE {SPAN} < ?", (text, self._max_events)
            )
        return cursor.rowcount > 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            yield

    def _open(self) -> sqlite3.Connection:
        try:
            _own_directory(self._path.parent)
            return self._connect(str(self._path))
        except sqlite3.OperationalError as error:
            fault = error
        except sqlite3.DatabaseError as error:
            logger.warning("the spool %s is damaged and set aside: %s", self._path, error)
            return self._start_anew()
        except OSError as error:
            fault = sqlite3.OperationalError(str(error))
        logger.warning("events wait in memory, as %s cannot be used: %s", self._path, fault)
        return self._connect(IN_MEMORY)

    def _start_anew(self) -> sqlite3.Connection:
        aside = self._path.with_name(f"{self._path.name}.damaged-{os.getpid()}")
        try:
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return self._connect(str(self._path))
        except (OSError, sqlite3.Error):
            return self._connect(IN_MEMORY)

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # A crash of the process loses nothing; a power cut may lose the last moments.
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode=WAL")
                cursor.execute("PRAGMA synchronous=NORMAL")
                cursor.execute(f"PRAGMA max_page_count={self._max_pages}")
                for statement in SCHEMA:
                    cursor.execute(statement)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _own_directory(path: Path) -> None:
    """Make a directory that only this user reads.

    Events name customers: a directory of another user in a place open to all is an OSError.
    """
    path.mkdir(parents=True, exist_ok=True, mode=OWNER_ONLY)
    is_in_the_open = bool(path.parent.stat().st_mode & stat.S_ISVTX)
    if is_in_the_open and hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
