"""The table of policies. It owns names and keys; it refuses queries."""

from __future__ import annotations

from tokenbudget.store.document_tables import DocumentRow


class PoliciesRow(DocumentRow, table=True):
    """One version of the policies."""

    __tablename__ = "policies"
