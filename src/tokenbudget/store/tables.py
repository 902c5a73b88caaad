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

from tokenbudget.domain.usage import Witness

# Whoever imports this module knows every table there is.
from tokenbudget.store.bill_tables import AllocationRulesRow as AllocationRulesRow
from tokenbudget.store.bill_tables import BillImportRow as BillImportRow
from tokenbudget.store.bill_tables import BillLineRow as BillLineRow
from tokenbudget.store.bill_tables import BillPullRow as BillPullRow
from tokenbudget.store.bill_tables import BillRestatementRow as BillRestatementRow
from tokenbudget.store.bill_tables import ProviderUsageRow as ProviderUsageRow
from tokenbudget.store.coding import BasisCode, Reference, ReferenceBucket
from tokenbudget.store.db import BigId, EventKey, Nanos, UtcDateTime, table_of
from tokenbudget.store.decision_tables import DecisionRow as DecisionRow
from tokenbudget.store.decision_tables import OmittedDenialRow as OmittedDenialRow
from tokenbudget.store.decision_tables import UnsettledRow as UnsettledRow
from tokenbudget.store.event_tables import UsageStretchRow as UsageStretchRow
from tokenbudget.store.hold_tables import CheckAnswerRow as CheckAnswerRow
from tokenbudget.store.hold_tables import HoldPieceRow as HoldPieceRow
from tokenbudget.store.hold_tables import HoldResolutionRow as HoldResolutionRow
from tokenbudget.store.hold_tables import HoldRow as HoldRow
from tokenbudget.store.import_tables import EventImportRow as EventImportRow
from tokenbudget.store.metric_tables import MetricTotalRow as MetricTotalRow
from tokenbudget.store.outcome_tables import OutcomeRollupRow as OutcomeRollupRow
from tokenbudget.store.outcome_tables import OutcomeRow as OutcomeRow
from tokenbudget.store.output_tables import OutputBoundRow as OutputBoundRow
from tokenbudget.store.output_tables import OutputCountRow as OutputCountRow
from tokenbudget.store.output_tables import OutputProgressRow as OutputProgressRow
from tokenbudget.store.policy_tables import PoliciesRow as PoliciesRow
from tokenbudget.store.price_tables import PriceListRow as PriceListRow
from tokenbudget.store.price_tables import PriceRow as PriceRow
from tokenbudget.store.price_tables import RerateDeltaRow as RerateDeltaRow
from tokenbudget.store.price_tables import ReratePartRow as ReratePartRow
from tokenbudget.store.price_tables import RerateRow as RerateRow
from tokenbudget.store.raise_tables import BudgetRaiseEndRow as BudgetRaiseEndRow
from tokenbudget.store.raise_tables import BudgetRaiseRow as BudgetRaiseRow
from tokenbudget.store.set_aside_tables import SetAsideRow as SetAsideRow
from tokenbudget.store.statement_tables import StatementLineRow as StatementLineRow
from tokenbudget.store.statement_tables import StatementRow as StatementRow
from tokenbudget.store.tag_rule_tables import ReattributionDeltaRow as ReattributionDeltaRow
from tokenbudget.store.tag_rule_tables import ReattributionPartRow as ReattributionPartRow
from tokenbudget.store.tag_rule_tables import ReattributionRow as ReattributionRow
from tokenbudget.store.tag_rule_tables import TagRulesRow as TagRulesRow
from tokenbudget.store.trace_tables import TraceSpanRow as TraceSpanRow

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
    api_key: str | None = None
    tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    resolved_by: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)


class EventKeyRow(SQLModel, table=True):
    """What an event or a call is known by, and the usage that was the first to claim it.

    One key is 128 bits over the identity of an event (source, event id, revision), over a response
    id of a provider or over a trace and span; it is claimed once, whoever comes first.
    """

    __tablename__ = "event_keys"
    __table_args__ = {"sqlite_with_rowid": False}

    key: bytes = Field(sa_type=EventKey, primary_key=True)
    usage_id: int = Field(sa_type=sa.BigInteger)


class UsageRow(SQLModel, table=True):
    """One measured consumption, as one witness tells it.

    A revision is a further row with the same event and the next number. ``call_id`` is the usage
    that first told of the same call, for its revisions and other witnesses; NULL on that one.

    Columns stand widest first, which PostgreSQL stores without gaps. There a partition holds the
    usage of a day, which is in the id; so nothing may refer to usage but by value.
    """

    __tablename__ = "usage"
    __table_args__ = (
        sa.Index(
            "ix_usage_call_id",
            "call_id",
            sqlite_where=sa.text("call_id IS NOT NULL"),
            postgresql_where=sa.text("call_id IS NOT NULL"),
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: int | None = Field(default=None, sa_type=BigId, primary_key=True)
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)
    content_hash: int = Field(sa_type=sa.BigInteger)
    call_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    reported_nanos: int | None = Field(default=None, sa_type=Nanos)
    source_id: int
    dimension_set_id: int
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    revision: int = Field(default=0, sa_type=sa.SmallInteger)
    attempt: int = Field(default=1, sa_type=sa.SmallInteger)
    witness: int = Field(default=Witness.SDK, sa_type=sa.SmallInteger)
    cache_hit: bool | None = None
    event_ref: str = Field(sa_type=Reference)
    operation_ref: str | None = Field(default=None, sa_type=Reference)
    trace_ref: str | None = Field(default=None, sa_type=Reference)
    span_ref: str | None = Field(default=None, sa_type=Reference)
    response_ref: str | None = Field(default=None, sa_type=Reference)
    request_model: str | None = None
    hold_id: str | None = Field(default=None, sa_type=Reference)
    flags: str | None = None
    other_units: dict[str, int] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    extra_tags: dict[str, str] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))


sa.Index(
    "ix_usage_operation_ref",
    ReferenceBucket(table_of(UsageRow).c.operation_ref),
    # PostgreSQL does not look at statistics of a partial index, and has usage read as a whole.
    sqlite_where=sa.text("operation_ref IS NOT NULL"),
)


class ChargeRow(SQLModel, table=True):
    """What one usage costs: one price row, one rounding.

    Amounts are NULL when the usage is unpriced.

    ``reverses_usage_id`` names the usage whose charge this one takes back: an earlier revision or,
    when it was rated or attributed again or another witness counts, the usage itself. The charge
    that stands for a usage is its last one, unless that or a later revision takes it back.
    ``dimension_set_id`` is where it counts; NULL is where its usage was placed first.

    Partitions are those of usage. What ids name was written by the same transaction or before it.
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
        {"sqlite_with_rowid": False, "postgresql_partition_by": "RANGE (usage_id)"},
    )

    usage_id: int = Field(sa_type=sa.BigInteger, primary_key=True)
    list_nanos: int | None = Field(default=None, sa_type=Nanos)
    contracted_nanos: int | None = Field(default=None, sa_type=Nanos)
    effective_nanos: int | None = Field(default=None, sa_type=Nanos)
    reverses_usage_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    price_row_id: int | None = None
    price_list_id: int | None = None
    accounting_period: int
    rerate_id: int | None = None
    reattribution_id: int | None = None
    dimension_set_id: int | None = None
    sequence: int = Field(default=0, sa_type=sa.SmallInteger, primary_key=True)
    basis: str = Field(sa_type=BasisCode)
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

    Limits are nanos, tokens or requests by ``unit``, and so are the bounds of ``rollover``.
    ``after_usage_id`` is the last usage there was when this counting began.
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
    rollover: dict[str, int | None] | None = Field(default=None, sa_type=sa.JSON(none_as_null=True))
    after_usage_id: int = Field(default=0, sa_type=sa.BigInteger)
    owner: str | None = None
    channels: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    valid_from: datetime = Field(sa_type=UtcDateTime)
    valid_to: datetime | None = Field(default=None, sa_type=UtcDateTime)
    recorded_at: datetime = Field(sa_type=UtcDateTime)


class CounterRow(SQLModel, table=True):
    """Settled and held of one budget, one set of split values and one window.

    ``baseline`` is not counted. ``carry`` is what earlier windows left to this one, NULL until that
    is final, and always NULL where nothing is carried.
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
    carry: int | None = Field(default=None, sa_type=sa.BigInteger)


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
    usage_id: int = Field(sa_type=sa.BigInteger, index=True)
    to_counter_id: int = Field(sa_type=sa.BigInteger, index=True)
    from_counter_id: int | None = Field(default=None, sa_type=sa.BigInteger, index=True)
    quantity: int = Field(sa_type=sa.BigInteger)


class AlertRow(SQLModel, table=True):
    """The fact that a counter crossed a threshold.

    Unique while it fires, so that no worker raises it twice. A higher limit resolves it; then the
    threshold may be crossed again.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        sa.Index(
            "ix_alerts_firing",
            "counter_id",
            "threshold",
            "kind",
            unique=True,
            sqlite_where=sa.text("resolved_at IS NULL"),
            postgresql_where=sa.text("resolved_at IS NULL"),
        ),
    )

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
    resolved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


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

    ``pinned_tags`` beat what the caller says. ``trust`` is ``caller`` or ``gateway``; usage without
    a tag among ``required_tags`` is refused when ``on_missing`` is ``reject``.
    """

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    name: str
    secret_sha256: str = Field(unique=True)
    scopes: list[str] = Field(sa_type=sa.JSON)
    pinned_tags: dict[str, str] = Field(default_factory=dict, sa_type=sa.JSON)
    trust: str = "caller"
    required_tags: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    on_missing: str = "unallocated"
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
