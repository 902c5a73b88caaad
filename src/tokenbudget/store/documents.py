"""Versions of documents in SQL. It refuses to read what they say."""

from __future__ import annotations

from typing import TypeVar

from sqlmodel import Session, col, select

from tokenbudget.store.document_tables import DocumentRow

RowT = TypeVar("RowT", bound=DocumentRow)


def find_document(session: Session, model: type[RowT]) -> RowT | None:
    """Give the version in force, or None before the first."""
    return session.exec(select(model).order_by(col(model.version).desc())).first()


def find_version(session: Session, model: type[RowT], version: int) -> RowT | None:
    """Give a version, or None where there is none of that number."""
    return session.get(model, version)


def list_documents(session: Session, model: type[RowT], *, limit: int) -> list[RowT]:
    """Give the latest versions, newest first."""
    return list(session.exec(select(model).order_by(col(model.version).desc()).limit(limit)))


def add_document(session: Session, row: DocumentRow) -> None:
    """Add a version."""
    session.add(row)
    session.flush()
