"""Documents that are applied whole, each time as a new version.

It owns when there is a new version. It refuses to know what a document says: the table of its
versions is handed in, with the content it has before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tokenbudget.domain.documents import Applied, DocumentVersion, EntryChange
from tokenbudget.store.budgets import change_rules
from tokenbudget.store.db import Database
from tokenbudget.store.document_tables import DocumentRow
from tokenbudget.store.documents import add_document, find_document, list_documents

Compare = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterable[EntryChange]]
"""Tells what makes the second content another than the first."""


@dataclass(frozen=True, slots=True)
class DocumentShelf:
    """The versions of one document, which are part of the rules that workers hold in memory."""

    model: type[DocumentRow]
    nothing: Mapping[str, Any]

    def apply(
        self,
        database: Database,
        content: Mapping[str, Any],
        compare: Compare,
        *,
        now: datetime,
        by: str | None,
        dry_run: bool,
    ) -> Applied:
        """Give what changes, having put the content in place of what is in force.

        What is in force already makes no new version. ``by`` is the id of the API key that asks.
        """
        with database.transaction(is_kept=not dry_run) as session:
            present = self._view(find_document(session, self.model))
            if present.content == content:
                return Applied(present.version, is_changed=False, changes=())
            change_rules(session)
            # While this one waited for the rules, another may have written a version.
            present = self._view(find_document(session, self.model))
            version = present.version + 1
            row = self.model(
                version=version, content=dict(content), recorded_at=now, recorded_by=by
            )
            add_document(session, row)
        return Applied(version, is_changed=True, changes=tuple(compare(present.content, content)))

    def present(self, database: Database) -> DocumentVersion:
        """Give the version in force."""
        with database.reading() as session:
            return self._view(find_document(session, self.model))

    def latest(self, database: Database, *, limit: int) -> list[DocumentVersion]:
        """Give the latest versions, newest first."""
        with database.reading() as session:
            return [self._view(row) for row in list_documents(session, self.model, limit=limit)]

    def _view(self, row: DocumentRow | None) -> DocumentVersion:
        if row is None:
            return DocumentVersion(0, self.nothing)
        return DocumentVersion(row.version, row.content, row.recorded_at, row.recorded_by)
