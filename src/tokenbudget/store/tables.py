"""Every table, as SQLModel classes. It owns names, keys and constraints; it refuses queries.

Append-only: usage, charges, price rows, budget versions, hold resolutions, bill lines. Derived and
rebuildable from them: rollups, counters, the ``state`` of a hold. Times are ``UtcDateTime``;
amounts are integer nanos of the ledger currency.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from tokenbudget.store.db import Nanos, UtcDateTime

# Whoever imports this module knows every table there is.
from tokenbudget.store.price_tables import PriceListRow as PriceListRow
from tokenbudget.store.price_tables import PriceRow as PriceRow
from tokenbudget.store.price_tables import RerateDeltaRow as RerateDeltaRow
from tokenbudget.store.price_tables import ReratePartRow as ReratePartRow
from tokenbudget.store.price_tables import RerateRow as RerateRow

# SQLite only lets a column of type INTEGER stand for the row id itself.
BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
IS_REVISED = "reverses_usage_id <> usage_id"
IS_UNPRICED = "effective_nanos IS NULL AND reverses_usage_id IS NULL"


class SourceRow(SQLModel, table=True):
    """A system that sends events; half of an event's identity."""

    __tablename__ = "sources"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class DimensionSetRow(SQLModel, table=True):
    """One combination of resolved dimensions, stored once and referred to by usage and rollups."""

    __tablename__ = "dimension_sets"

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True)
    team: str
    feature: str | None = None
    tenant: str | None = None
    request_type: str | None = None
    environment: str | None = None
    provider: str
    model: str
    operation: str | None = None
    service_tier: str | None = None
    region: str | None = None
    account: str | None = None
    prompt_version: str | None = None
    status: str = "ok"
    is_retry: bool = False
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    resolved_by: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)


class UsageRow(SQLModel, table=True):
    """One measured consumption.

    A revision is a further row with the same event and the next number.
    """

    __tablename__ = "usage"
    __table_args__ = (sa.UniqueConstraint("source_id", "event_ref", "revision"),)

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    source_id: int = Field(foreign_key="sources.id")
    event_ref: str
    revision: int = Field(default=0, sa_type=sa.SmallInteger)
    content_hash: int = Field(sa_type=sa.BigInteger)
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    dimension_set_id: int = Field(foreign_key="dimension_sets.id")
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_units: dict[str, int] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    attempt: int = Field(default=1, sa_type=sa.SmallInteger)
    operation_ref: str | None = None
    trace_ref: str | None = None
    response_ref: str | None = None
    request_model: str | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    cache_hit: bool | None = None
    hold_id: str | None = None
    reported_nanos: int | None = Field(default=None, sa_type=Nanos)
    extra_tags: dict[str, str] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    flags: str | None = None


class ChargeRow(SQLModel, table=True):
    """What one usage costs: one price row, one rounding.

    Amounts are NULL when the usage is unpriced.

    ``reverses_usage_id`` names the usage whose charge this one takes back: an earlier revision, or,
    when ``rerate_id`` says that the usage was rated again, the usage itself. The charge that stands
    is the last one that takes nothing back.
    """

    __tablename__ = "charges"
    __table_args__ = (
        sa.Index(
            "ix_charges_revised",
            "reverses_usage_id",
            sqlite_where=sa.text(IS_REVISED),
            postgresql_where=sa.text(IS_REVISED),
        ),
        sa.Index(
            "ix_charges_unpriced",
            "usage_id",
            sqlite_where=sa.text(IS_UNPRICED),
            postgresql_where=sa.text(IS_UNPRICED),
        ),
        {"sqlite_with_rowid": False},
    )

    usage_id: int = Field(sa_type=sa.BigInteger, primary_key=True, foreign_key="usage.id")
    sequence: int = Field(default=0, sa_type=sa.SmallInteger, primary_key=True)
    basis: str
    price_row_id: int | None = Field(default=None, foreign_key="price_rows.id")
    price_list_id: int | None = Field(default=None, foreign_key="price_lists.id")
    list_nanos: int | None = Field(default=None, sa_type=Nanos)
    contracted_nanos: int | None = Field(default=None, sa_type=Nanos)
    effective_nanos: int | None = Field(default=None, sa_type=Nanos)
    accounting_period: int
    reverses_usage_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    rerate_id: int | None = Field(default=None, foreign_key="rerates.id")
    flags: str | None = None


class RollupRow(SQLModel, table=True):
    """Usage and cost of a dimension set and price row in a bucket of 900 or 86400 seconds."""

    __tablename__ = "rollups"
    __table_args__ = {"sqlite_with_rowid": False}

    grain_seconds: int = Field(primary_key=True)
    starts_at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    dimension_set_id: int = Field(primary_key=True, foreign_key="dimension_sets.id")
    price_row_id: int = Field(default=0, primary_key=True)
    requests: int = Field(default=0, sa_type=sa.BigInteger)
    unpriced_requests: int = Field(default=0, sa_type=sa.BigInteger)
    input_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cached_input_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cache_write_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    output_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    reasoning_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    list_nanos: int = Field(default=0, sa_type=Nanos)
    contracted_nanos: int = Field(default=0, sa_type=Nanos)
    effective_nanos: int = Field(default=0, sa_type=Nanos)


class CommitmentShareRow(SQLModel, table=True):
    """What a dimension set bears of a commitment in a quarter-hour: used, unused or spilled."""

    __tablename__ = "commitment_shares"
    __table_args__ = {"sqlite_with_rowid": False}

    commitment_id: str = Field(primary_key=True)
    starts_at: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    dimension_set_id: int = Field(primary_key=True, foreign_key="dimension_sets.id")
    kind: str = Field(primary_key=True)
    nanos: int = Field(sa_type=Nanos)


class PeriodCloseRow(SQLModel, table=True):
    """The closing of accounts: no charge posts to a period before the latest of these any more.

    Periods are year * 100 + month.
    """

    __tablename__ = "period_closes"

    closed_before: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class BudgetRow(SQLModel, table=True):
    """One version of a budget; the highest version is in force.

    Limits are nanos, tokens or requests by ``unit``.
    """

    __tablename__ = "budgets"

    id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    counting_version: int
    selector: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    split_by: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    unit: str
    limit_quantity: int = Field(sa_type=sa.BigInteger)
    window: str
    timezone: str
    mode: str
    thresholds: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    threshold_on: str
    overdraft: int = Field(default=0, sa_type=sa.BigInteger)
    baseline: str
    fail_mode: str
    owner: str | None = None
    channels: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    valid_from: datetime = Field(sa_type=UtcDateTime)
    valid_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class CounterRow(SQLModel, table=True):
    """Settled and held of one budget, one set of split values and one window.

    ``baseline`` is not counted.
    """

    __tablename__ = "counters"
    __table_args__ = (
        sa.UniqueConstraint("budget_id", "counting_version", "split_key", "window_start"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    budget_id: str
    counting_version: int
    split_key: str
    window_start: datetime = Field(sa_type=UtcDateTime)
    window_end: datetime = Field(sa_type=UtcDateTime)
    settled: int = Field(default=0, sa_type=sa.BigInteger)
    held: int = Field(default=0, sa_type=sa.BigInteger)
    baseline: int = Field(default=0, sa_type=sa.BigInteger)


class ForecastRow(SQLModel, table=True):
    """What a counter's window is expected to end at, as last worked out by the scheduled job."""

    __tablename__ = "forecasts"

    counter_id: int = Field(sa_type=sa.BigInteger, primary_key=True, foreign_key="counters.id")
    expected: int = Field(sa_type=sa.BigInteger)
    computed_at: datetime = Field(sa_type=UtcDateTime)


class CounterTransferRow(SQLModel, table=True):
    """A settlement in the window of its hold, where the usage fell into another.

    ``from_counter_id`` is NULL when no counter stood for the window the usage fell in.
    """

    __tablename__ = "counter_transfers"

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    usage_id: int = Field(sa_type=sa.BigInteger, foreign_key="usage.id", index=True)
    to_counter_id: int = Field(sa_type=sa.BigInteger, index=True)
    from_counter_id: int | None = Field(default=None, sa_type=sa.BigInteger, index=True)
    quantity: int = Field(sa_type=sa.BigInteger)


class HoldRow(SQLModel, table=True):
    """Quota set aside for one call. ``grants`` lists [counter id, quantity].

    ``state`` follows the resolution. ``counted_tokens`` is what ``counting_method`` counted in the
    call's text, unscaled; both are NULL when the caller told the tokens or the cost.
    """

    __tablename__ = "holds"
    __table_args__ = (
        sa.Index(
            "ix_holds_open_expires_at",
            "expires_at",
            sqlite_where=sa.text("state = 'held'"),
            postgresql_where=sa.text("state = 'held'"),
        ),
    )

    id: str = Field(primary_key=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    state: str = "held"
    provider: str | None = None
    model: str | None = None
    estimate_nanos: int | None = Field(default=None, sa_type=Nanos)
    counted_tokens: int | None = None
    counting_method: str | None = None
    grants: list[list[int]] = Field(default_factory=list, sa_type=sa.JSON)


class HoldResolutionRow(SQLModel, table=True):
    """How a hold ended; at most one a hold, except that an expired one may settle late."""

    __tablename__ = "hold_resolutions"

    hold_id: str = Field(primary_key=True, foreign_key="holds.id")
    kind: str = Field(primary_key=True)
    resolved_at: datetime = Field(sa_type=UtcDateTime)
    usage_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    settled_nanos: int | None = Field(default=None, sa_type=Nanos)
    overage_nanos: int | None = Field(default=None, sa_type=Nanos)


class CheckAnswerRow(SQLModel, table=True):
    """The answer to a check that carried an idempotency key: a repeat gets the same one."""

    __tablename__ = "check_answers"

    key_id: str = Field(primary_key=True)
    idempotency_key: str = Field(primary_key=True)
    request_digest: str
    answer: dict[str, Any] = Field(sa_type=sa.JSON)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)


class AlertRow(SQLModel, table=True):
    """The fact that a counter crossed a threshold; unique, so that no worker raises it twice."""

    __tablename__ = "alerts"
    __table_args__ = (sa.UniqueConstraint("budget_id", "counter_id", "threshold", "kind"),)

    id: str = Field(primary_key=True)
    budget_id: str
    budget_version: int
    counter_id: int = Field(sa_type=sa.BigInteger, foreign_key="counters.id")
    threshold: str
    kind: str
    split_key: str
    window_start: datetime = Field(sa_type=UtcDateTime)
    window_end: datetime = Field(sa_type=UtcDateTime)
    unit: str
    measured: int = Field(sa_type=sa.BigInteger)
    limit_quantity: int = Field(sa_type=sa.BigInteger)
    raised_at: datetime = Field(sa_type=UtcDateTime, index=True)


class OutboxRow(SQLModel, table=True):
    """A message that must leave the process, written with the fact it tells and delivered later."""

    __tablename__ = "outbox"
    __table_args__ = (
        sa.Index(
            "ix_outbox_waiting_due_at",
            "due_at",
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        ),
    )

    id: str = Field(primary_key=True)
    topic: str
    payload: dict[str, Any] = Field(sa_type=sa.JSON)
    state: str = "waiting"
    created_at: datetime = Field(sa_type=UtcDateTime)
    due_at: datetime = Field(sa_type=UtcDateTime)
    attempts: int = 0
    last_error: str | None = None
    resolved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ApiKeyRow(SQLModel, table=True):
    """An API key; only the SHA-256 of its secret is kept.

    ``pinned_tags`` beat what the caller says.
    """

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    name: str
    secret_sha256: str = Field(unique=True)
    scopes: list[str] = Field(sa_type=sa.JSON)
    pinned_tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class OwnerRow(SQLModel, table=True):
    """A team, feature, tenant or cost centre in an interval, open when ``valid_to`` is NULL."""

    __tablename__ = "owners"
    __table_args__ = (sa.UniqueConstraint("kind", "name", "valid_from"),)

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    name: str
    parent: str | None = None
    cost_center: str | None = None
    email: str | None = None
    lifecycle: str = "active"
    valid_from: datetime = Field(sa_type=UtcDateTime)
    valid_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class BillImportRow(SQLModel, table=True):
    """One import of a provider's file; the same bytes are imported once."""

    __tablename__ = "bill_imports"

    id: str = Field(primary_key=True)
    source: str
    file_name: str
    sha256: str = Field(unique=True)
    line_count: int
    imported_at: datetime = Field(sa_type=UtcDateTime)


class BillLineRow(SQLModel, table=True):
    """One line a provider billed.

    ``superseded_by`` names the later import that restated its account and day.
    """

    __tablename__ = "bill_lines"
    __table_args__ = (
        sa.Index("ix_bill_lines_bucket", "source", "account", "period_start"),
        sa.Index("ix_bill_lines_period_start", "period_start"),
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    import_id: str = Field(foreign_key="bill_imports.id")
    row_number: int
    source: str
    provider: str
    account: str = ""
    project: str | None = None
    model: str | None = None
    description: str | None = None
    category: str
    period_start: datetime = Field(sa_type=UtcDateTime)
    period_end: datetime = Field(sa_type=UtcDateTime)
    quantity: str | None = None
    unit: str | None = None
    billed_amount: str
    billed_nanos: int = Field(sa_type=Nanos)
    list_nanos: int | None = Field(default=None, sa_type=Nanos)
    currency: str
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    superseded_by: str | None = Field(default=None, foreign_key="bill_imports.id")


class ReportRunRow(SQLModel, table=True):
    """A report that a schedule has made; unique by kind and period, so that it is made once."""

    __tablename__ = "report_runs"

    kind: str = Field(primary_key=True)
    period_start: datetime = Field(sa_type=UtcDateTime, primary_key=True)
    path: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class LeaseRow(SQLModel, table=True):
    """Who may run the scheduled jobs, and until when."""

    __tablename__ = "leases"

    name: str = Field(primary_key=True)
    holder: str
    expires_at: datetime = Field(sa_type=UtcDateTime)


class RulesVersionRow(SQLModel, table=True):
    """One row; its number rises when budgets or owners change, so that workers reload them."""

    __tablename__ = "rules_version"

    id: int = Field(default=1, primary_key=True)
    number: int = 0
