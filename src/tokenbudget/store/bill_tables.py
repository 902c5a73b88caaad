"""Tables of what providers billed and what they say was used: imports and the lines in them.

It owns names, keys and constraints; it refuses queries.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import BigId, Nanos, UtcDateTime
from tokenbudget.store.document_tables import DocumentRow

IS_IN_FORCE = "withdrawn_at IS NULL"


class BillImportRow(SQLModel, table=True):
    """One import of a provider's file or pull; the same bytes are imported once.

    Once it is withdrawn, its bytes may be imported again. ``account`` is the one that was given to
    what named none, NULL where everything named its own. ``part_of`` are the imports of the same
    delivery, which it does not restate.
    """

    __tablename__ = "bill_imports"
    __table_args__ = (
        sa.Index(
            "ix_bill_imports_sha256",
            "sha256",
            unique=True,
            sqlite_where=sa.text(IS_IN_FORCE),
            postgresql_where=sa.text(IS_IN_FORCE),
        ),
    )

    id: str = Field(primary_key=True)
    source: str
    file_name: str
    sha256: str
    account: str | None = None
    part_of: list[str] | None = Field(default=None, sa_type=sa.JSON)
    line_count: int
    imported_at: datetime = Field(sa_type=UtcDateTime)
    withdrawn_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    withdrawn_by: str | None = None
    withdrawal_reason: str | None = None


class BillRestatementRow(SQLModel, table=True):
    """What an import puts in the place of earlier ones of its source and account.

    Ids rise in the order of importing. Without ``billing_month`` it is the period in every month,
    without a period all of the month. It is kept so that an import can be taken back: a day that
    was restated as empty has no lines that would tell.
    """

    __tablename__ = "bill_restatements"
    __table_args__ = (
        sa.Index("ix_bill_restatements_import_id", "import_id"),
        sa.Index("ix_bill_restatements_bucket", "source", "account", "period_start"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    import_id: str = Field(foreign_key="bill_imports.id")
    source: str
    account: str
    billing_month: int | None = None
    period_start: datetime | None = Field(default=None, sa_type=UtcDateTime)
    period_end: datetime | None = Field(default=None, sa_type=UtcDateTime)


class BillLineRow(SQLModel, table=True):
    """What a provider billed for one thing on one day or for one longer period.

    Rows of the file that say the same but for the hour and the amount are one line;
    ``folded_rows`` tells how many. ``billing_month`` (year * 100 + month) is the invoice that
    carries it. ``effective_amount`` is the provider's amortised cost, NULL where it is the billed
    one. ``superseded_by`` names the first later import in force that restates its account and day,
    and of an import that was withdrawn itself.
    """

    __tablename__ = "bill_lines"
    __table_args__ = (
        sa.Index("ix_bill_lines_bucket", "source", "account", "period_start"),
        sa.Index("ix_bill_lines_billing_month", "billing_month"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    import_id: str = Field(foreign_key="bill_imports.id")
    row_number: int
    folded_rows: int = 1
    source: str
    provider: str
    account: str = ""
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    usage_type: str | None = None
    description: str | None = None
    category: str
    is_correction: bool = False
    billing_month: int
    period_start: datetime = Field(sa_type=UtcDateTime)
    period_end: datetime = Field(sa_type=UtcDateTime)
    quantity: str | None = None
    unit: str | None = None
    billed_amount: str
    billed_nanos: int = Field(sa_type=Nanos)
    list_nanos: int | None = Field(default=None, sa_type=Nanos)
    effective_amount: str | None = None
    currency: str
    invoice_ref: str | None = None
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    superseded_by: str | None = Field(default=None, foreign_key="bill_imports.id")


class ProviderUsageRow(SQLModel, table=True):
    """What a provider says was used: evidence to compare with, never spend.

    ``input_tokens`` is the total, as everywhere. ``superseded_by`` is as in a bill line.
    """

    __tablename__ = "provider_usage"
    __table_args__ = (
        sa.Index("ix_provider_usage_bucket", "source", "account", "period_start"),
        sa.Index("ix_provider_usage_period_start", "period_start"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    import_id: str = Field(foreign_key="bill_imports.id")
    row_number: int
    source: str
    provider: str
    account: str = ""
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    service_tier: str | None = None
    region: str | None = None
    period_start: datetime = Field(sa_type=UtcDateTime)
    period_end: datetime = Field(sa_type=UtcDateTime)
    requests: int | None = Field(default=None, sa_type=sa.BigInteger)
    input_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    cached_input_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    cache_write_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    output_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    reasoning_tokens: int | None = Field(default=None, sa_type=sa.BigInteger)
    other_units: dict[str, int] = Field(default_factory=dict, sa_type=sa.JSON)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    superseded_by: str | None = Field(default=None, foreign_key="bill_imports.id")


class BillPullRow(SQLModel, table=True):
    """How far a pull from a provider's API has come; a further pull goes on from there.

    ``pulled_until`` is the end of the last bucket that was committed.
    """

    __tablename__ = "bill_pulls"

    source: str = Field(primary_key=True)
    account: str = Field(primary_key=True)
    pulled_until: datetime = Field(sa_type=UtcDateTime)
    pulled_at: datetime = Field(sa_type=UtcDateTime)


class AllocationRulesRow(DocumentRow, table=True):
    """One version of the rules by which invoices are divided."""

    __tablename__ = "allocation_rules"
