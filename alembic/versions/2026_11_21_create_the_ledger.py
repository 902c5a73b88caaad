"""Create the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPERATION_BUCKET = "substr(sha256(operation_ref), 1, 2)"
"""Not told by autogenerate, which sees no expressions on SQLite."""


def upgrade() -> None:
    is_postgres = op.get_context().dialect.name == "postgresql"
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("pinned_tags", sa.JSON(), nullable=False),
        sa.Column("trust", sa.String(), nullable=False),
        sa.Column("required_tags", sa.JSON(), nullable=False),
        sa.Column("on_missing", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_keys_secret_sha256")),
    )
    op.create_table(
        "bill_imports",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("part_of", sa.JSON(), nullable=True),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("imported_at", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_by", sa.String(), nullable=True),
        sa.Column("withdrawal_reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bill_imports")),
    )
    with op.batch_alter_table("bill_imports", schema=None) as batch_op:
        batch_op.create_index(
            "ix_bill_imports_sha256",
            ["sha256"],
            unique=True,
            sqlite_where=sa.text("withdrawn_at IS NULL"),
            postgresql_where=sa.text("withdrawn_at IS NULL"),
        )

    op.create_table(
        "budgets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("counting_version", sa.Integer(), nullable=False),
        sa.Column("selector", sa.JSON(), nullable=False),
        sa.Column("split_by", sa.JSON(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("limit_quantity", sa.BigInteger(), nullable=False),
        sa.Column("window", sa.String(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("threshold_on", sa.String(), nullable=False),
        sa.Column("overdraft", sa.BigInteger(), nullable=False),
        sa.Column("baseline", sa.String(), nullable=False),
        sa.Column("fail_mode", sa.String(), nullable=False),
        sa.Column("rollover", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", "version", name=op.f("pk_budgets")),
    )
    op.create_table(
        "budget_raises",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_raises")),
    )
    with op.batch_alter_table("budget_raises", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_budget_raises_budget_id"), ["budget_id"], unique=False)

    op.create_table(
        "budget_raise_ends",
        sa.Column("raise_id", sa.String(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["raise_id"],
            ["budget_raises.id"],
            name=op.f("fk_budget_raise_ends_raise_id_budget_raises"),
        ),
        sa.PrimaryKeyConstraint("raise_id", name=op.f("pk_budget_raise_ends")),
    )
    op.create_table(
        "charges",
        sa.Column("usage_id", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=True),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=True),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=True),
        sa.Column("reverses_usage_id", sa.BigInteger(), nullable=True),
        sa.Column("price_row_id", sa.Integer(), nullable=True),
        sa.Column("price_list_id", sa.Integer(), nullable=True),
        sa.Column("accounting_period", sa.Integer(), nullable=False),
        sa.Column("rerate_id", sa.Integer(), nullable=True),
        sa.Column("reattribution_id", sa.Integer(), nullable=True),
        sa.Column("dimension_set_id", sa.Integer(), nullable=True),
        sa.Column("sequence", sa.SmallInteger(), nullable=False),
        sa.Column("basis", sa.SmallInteger(), nullable=False),
        sa.Column("flags", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("usage_id", "sequence", name=op.f("pk_charges")),
        postgresql_partition_by="RANGE (usage_id)",
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.create_index(
            "ix_charges_revised",
            ["reverses_usage_id"],
            unique=False,
            sqlite_where=sa.text("reverses_usage_id <> usage_id"),
            postgresql_where=sa.text("reverses_usage_id <> usage_id"),
        )
        batch_op.create_index(
            "ix_charges_unpriced",
            ["usage_id"],
            unique=False,
            sqlite_where=sa.text("effective_nanos IS NULL AND reverses_usage_id IS NULL"),
            postgresql_where=sa.text("effective_nanos IS NULL AND reverses_usage_id IS NULL"),
        )

    op.create_table(
        "check_answers",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "idempotency_key", name=op.f("pk_check_answers")),
    )
    with op.batch_alter_table("check_answers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_check_answers_created_at"), ["created_at"], unique=False
        )

    op.create_table(
        "counter_transfers",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("usage_id", sa.BigInteger(), nullable=False),
        sa.Column("to_counter_id", sa.BigInteger(), nullable=False),
        sa.Column("from_counter_id", sa.BigInteger(), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counter_transfers")),
    )
    with op.batch_alter_table("counter_transfers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_counter_transfers_from_counter_id"), ["from_counter_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_counter_transfers_to_counter_id"), ["to_counter_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_counter_transfers_usage_id"), ["usage_id"], unique=False
        )

    op.create_table(
        "counters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("counting_version", sa.Integer(), nullable=False),
        sa.Column("split_key", sa.String(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("window_end", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("baseline", sa.BigInteger(), nullable=False),
        sa.Column("carry", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counters")),
        sa.UniqueConstraint(
            "budget_id",
            "counting_version",
            "split_key",
            "window_start",
            name=op.f("uq_counters_budget_id_counting_version_split_key_window_start"),
        ),
    )
    op.create_table(
        "dimension_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=True),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("request_type", sa.String(), nullable=True),
        sa.Column("environment", sa.String(), nullable=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=True),
        sa.Column("service_tier", sa.String(), nullable=True),
        sa.Column("region", sa.String(), nullable=True),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("prompt_version", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("is_retry", sa.Boolean(), nullable=False),
        sa.Column("api_key", sa.String(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("resolved_by", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dimension_sets")),
        sa.UniqueConstraint("digest", name=op.f("uq_dimension_sets_digest")),
    )
    op.create_table(
        "event_imports",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("last_row", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_event_imports")),
    )
    op.create_table(
        "event_keys",
        sa.Column("key", sa.LargeBinary(16).with_variant(sa.Uuid(), "postgresql"), nullable=False),
        sa.Column("usage_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_event_keys")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("estimate_nanos", sa.BigInteger(), nullable=True),
        sa.Column("budget_id", sa.String(), nullable=True),
        sa.Column("budget_version", sa.Integer(), nullable=True),
        sa.Column("hold_id", sa.String(), nullable=True),
        sa.Column("is_dry_run", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.create_index("ix_decisions_budget_id", ["budget_id", "decided_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_decisions_decided_at"), ["decided_at"], unique=False)
        batch_op.create_index("ix_decisions_outcome", ["decision", "decided_at"], unique=False)
    op.create_table(
        "omitted_denials",
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("denials", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "minute", "key_id", "budget_id", "reason", name=op.f("pk_omitted_denials")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unsettled",
        sa.Column("usage_id", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("hold_id", sa.String(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("provisional_nanos", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("usage_id", name=op.f("pk_unsettled")),
    )
    with op.batch_alter_table("unsettled", schema=None) as batch_op:
        batch_op.create_index("ix_unsettled_occurred_at", ["occurred_at", "usage_id"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("team", sa.String(), nullable=True),
        sa.Column("feature", sa.String(), nullable=True),
        sa.Column("estimate_nanos", sa.BigInteger(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("counted_tokens", sa.Integer(), nullable=True),
        sa.Column("counting_method", sa.String(), nullable=True),
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("remaining_nanos", sa.BigInteger(), nullable=True),
        sa.Column("remaining_tokens", sa.BigInteger(), nullable=True),
        sa.Column("remaining_requests", sa.Integer(), nullable=True),
        sa.Column("pieces_settled", sa.Integer(), nullable=False),
        sa.Column("settled_nanos", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )
    with op.batch_alter_table("holds", schema=None) as batch_op:
        batch_op.create_index(
            "ix_holds_expired",
            ["expires_at", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'expired'"),
            postgresql_where=sa.text("state = 'expired'"),
        )
        batch_op.create_index(
            "ix_holds_open_expires_at",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("state = 'held'"),
            postgresql_where=sa.text("state = 'held'"),
        )

    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "metric_totals",
        sa.Column("series_ref", sa.String(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("amount", sa.String(), nullable=False),
        sa.Column("is_cumulative", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "series_ref", "started_at", "bucket", name=op.f("pk_metric_totals")
        ),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("metric_totals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_metric_totals_bucket"), ["bucket"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_outbox_waiting_due_at",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )

    op.create_table(
        "owners",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("cost_center", sa.String(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("lifecycle", sa.String(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
        sa.UniqueConstraint(
            "kind", "name", "valid_from", name=op.f("uq_owners_kind_name_valid_from")
        ),
    )
    op.create_table(
        "period_closes",
        sa.Column("closed_before", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("closed_before", name=op.f("pk_period_closes")),
    )
    op.create_table(
        "price_lists",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_checked_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_lists")),
        sa.UniqueConstraint("sha256", name=op.f("uq_price_lists_sha256")),
    )
    op.create_table(
        "price_rows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("selector", sa.JSON(), nullable=False),
        sa.Column("rates", sa.JSON(), nullable=False),
        sa.Column("agreed", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("commitment", sa.String(), nullable=True),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("valid_from", sa.BigInteger(), nullable=True),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_rows")),
        sa.UniqueConstraint("digest", name=op.f("uq_price_rows_digest")),
    )
    with op.batch_alter_table("price_rows", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_price_rows_commitment"), ["commitment"], unique=False)

    op.create_table(
        "reattributions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=True),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reattributions")),
    )
    with op.batch_alter_table("reattributions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reattributions_digest"), ["digest"], unique=False)

    op.create_table(
        "report_runs",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "period_start", name=op.f("pk_report_runs")),
    )
    op.create_table(
        "rules_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules_version")),
    )
    op.create_table(
        "set_aside",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entrance", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("kept", sa.String(), nullable=True),
        sa.Column("event_ref", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("api_key_id", sa.String(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_set_aside")),
        sa.UniqueConstraint("entrance", "sha256", name=op.f("uq_set_aside_entrance_sha256")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("name", name=op.f("uq_sources_name")),
    )
    op.create_table(
        "tag_rules",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_tag_rules")),
    )
    op.create_table(
        "policies",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_policies")),
    )
    op.create_table(
        "output_counts",
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("up_to", sa.Integer(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "provider", "model", "feature", "up_to", name=op.f("pk_output_counts")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "output_bounds",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "feature", name=op.f("pk_output_bounds")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "output_progress",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("computed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_output_progress")),
    )
    op.create_table(
        "trace_spans",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("trace_ref", sa.String(), nullable=False),
        sa.Column("span_ref", sa.String(), nullable=False),
        sa.Column("parent_ref", sa.String(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("call", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_spans")),
        sa.UniqueConstraint(
            "trace_ref", "span_ref", name=op.f("uq_trace_spans_trace_ref_span_ref")
        ),
    )
    with op.batch_alter_table("trace_spans", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trace_spans_seen_at"), ["seen_at"], unique=False)

    op.create_table(
        "usage",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=True),
        sa.Column("reported_nanos", sa.BigInteger(), nullable=True),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("cached_input_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_5m_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_1h_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("time_to_first_token_ms", sa.Integer(), nullable=True),
        sa.Column("revision", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("witness", sa.SmallInteger(), nullable=False),
        sa.Column("cache_hit", sa.Boolean(), nullable=True),
        sa.Column("event_ref", sa.LargeBinary(), nullable=False),
        sa.Column("operation_ref", sa.LargeBinary(), nullable=True),
        sa.Column("trace_ref", sa.LargeBinary(), nullable=True),
        sa.Column("span_ref", sa.LargeBinary(), nullable=True),
        sa.Column("response_ref", sa.LargeBinary(), nullable=True),
        sa.Column("request_model", sa.String(), nullable=True),
        sa.Column("hold_id", sa.LargeBinary(), nullable=True),
        sa.Column("flags", sa.String(), nullable=True),
        sa.Column("other_units", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("extra_tags", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        postgresql_partition_by="RANGE (id)",
    )
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.create_index(
            "ix_usage_call_id",
            ["call_id"],
            unique=False,
            sqlite_where=sa.text("call_id IS NOT NULL"),
            postgresql_where=sa.text("call_id IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_usage_operation_ref",
            [sa.text(OPERATION_BUCKET) if is_postgres else "operation_ref"],
            unique=False,
            sqlite_where=sa.text("operation_ref IS NOT NULL"),
        )

    op.create_table(
        "usage_stretches",
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("starts_at", "block", name=op.f("pk_usage_stretches")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("budget_version", sa.Integer(), nullable=False),
        sa.Column("counter_id", sa.BigInteger(), nullable=False),
        sa.Column("threshold", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("split_key", sa.String(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("window_end", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("measured", sa.BigInteger(), nullable=False),
        sa.Column("limit_quantity", sa.BigInteger(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["counter_id"], ["counters.id"], name=op.f("fk_alerts_counter_id_counters")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index(
            "ix_alerts_firing",
            ["counter_id", "threshold", "kind"],
            unique=True,
            sqlite_where=sa.text("resolved_at IS NULL"),
            postgresql_where=sa.text("resolved_at IS NULL"),
        )
        batch_op.create_index(batch_op.f("ix_alerts_raised_at"), ["raised_at"], unique=False)

    op.create_table(
        "bill_lines",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("import_id", sa.String(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("folded_rows", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=True),
        sa.Column("api_key", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("usage_type", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("is_correction", sa.Boolean(), nullable=False),
        sa.Column("billing_month", sa.Integer(), nullable=False),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column("period_end", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.String(), nullable=True),
        sa.Column("unit", sa.String(), nullable=True),
        sa.Column("billed_amount", sa.String(), nullable=False),
        sa.Column("billed_nanos", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=True),
        sa.Column("effective_amount", sa.String(), nullable=True),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("invoice_ref", sa.String(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("superseded_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"], ["bill_imports.id"], name=op.f("fk_bill_lines_import_id_bill_imports")
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"],
            ["bill_imports.id"],
            name=op.f("fk_bill_lines_superseded_by_bill_imports"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bill_lines")),
    )
    with op.batch_alter_table("bill_lines", schema=None) as batch_op:
        batch_op.create_index(
            "ix_bill_lines_bucket", ["source", "account", "period_start"], unique=False
        )
        batch_op.create_index("ix_bill_lines_billing_month", ["billing_month"], unique=False)

    op.create_table(
        "bill_restatements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("import_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("billing_month", sa.Integer(), nullable=True),
        sa.Column("period_start", sa.BigInteger(), nullable=True),
        sa.Column("period_end", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["bill_imports.id"],
            name=op.f("fk_bill_restatements_import_id_bill_imports"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bill_restatements")),
    )
    with op.batch_alter_table("bill_restatements", schema=None) as batch_op:
        batch_op.create_index("ix_bill_restatements_import_id", ["import_id"], unique=False)
        batch_op.create_index(
            "ix_bill_restatements_bucket", ["source", "account", "period_start"], unique=False
        )

    op.create_table(
        "commitment_shares",
        sa.Column("commitment_id", sa.String(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dimension_set_id"],
            ["dimension_sets.id"],
            name=op.f("fk_commitment_shares_dimension_set_id_dimension_sets"),
        ),
        sa.PrimaryKeyConstraint(
            "commitment_id",
            "starts_at",
            "dimension_set_id",
            "kind",
            name=op.f("pk_commitment_shares"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "forecasts",
        sa.Column("counter_id", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.Column("computed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["counter_id"], ["counters.id"], name=op.f("fk_forecasts_counter_id_counters")
        ),
        sa.PrimaryKeyConstraint("counter_id", name=op.f("pk_forecasts")),
    )
    op.create_table(
        "hold_pieces",
        sa.Column("hold_id", sa.String(), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=False),
        sa.Column("taken_nanos", sa.BigInteger(), nullable=False),
        sa.Column("taken_tokens", sa.BigInteger(), nullable=False),
        sa.Column("taken_requests", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["hold_id"], ["holds.id"], name=op.f("fk_hold_pieces_hold_id_holds")
        ),
        sa.PrimaryKeyConstraint("hold_id", "call_id", name=op.f("pk_hold_pieces")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hold_resolutions",
        sa.Column("hold_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=False),
        sa.Column("usage_id", sa.BigInteger(), nullable=True),
        sa.Column("settled_nanos", sa.BigInteger(), nullable=True),
        sa.Column("overage_nanos", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["hold_id"], ["holds.id"], name=op.f("fk_hold_resolutions_hold_id_holds")
        ),
        sa.PrimaryKeyConstraint("hold_id", "kind", name=op.f("pk_hold_resolutions")),
    )
    op.create_table(
        "outcome_rollups",
        sa.Column("grain_seconds", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("outcomes", sa.BigInteger(), nullable=False),
        sa.Column("value_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dimension_set_id"],
            ["dimension_sets.id"],
            name=op.f("fk_outcome_rollups_dimension_set_id_dimension_sets"),
        ),
        sa.PrimaryKeyConstraint(
            "grain_seconds",
            "name",
            "starts_at",
            "dimension_set_id",
            name=op.f("pk_outcome_rollups"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("event_ref", sa.String(), nullable=False),
        sa.Column("content_hash", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value_nanos", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("operation_ref", sa.String(), nullable=True),
        sa.Column("is_waiting", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dimension_set_id"],
            ["dimension_sets.id"],
            name=op.f("fk_outcomes_dimension_set_id_dimension_sets"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_outcomes_source_id_sources")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcomes")),
        sa.UniqueConstraint("source_id", "event_ref", name=op.f("uq_outcomes_source_id_event_ref")),
    )
    with op.batch_alter_table("outcomes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_outcomes_operation_ref",
            ["operation_ref"],
            unique=False,
            sqlite_where=sa.text("operation_ref IS NOT NULL"),
            postgresql_where=sa.text("operation_ref IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_outcomes_waiting",
            ["id"],
            unique=False,
            sqlite_where=sa.text("is_waiting"),
            postgresql_where=sa.text("is_waiting"),
        )

    op.create_table(
        "reattribution_deltas",
        sa.Column("reattribution_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=True),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("accounting_period", sa.Integer(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reattribution_id"],
            ["reattributions.id"],
            name=op.f("fk_reattribution_deltas_reattribution_id_reattributions"),
        ),
        sa.PrimaryKeyConstraint(
            "reattribution_id", "position", name=op.f("pk_reattribution_deltas")
        ),
    )
    op.create_table(
        "reattribution_parts",
        sa.Column("reattribution_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("first_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("last_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reattribution_id"],
            ["reattributions.id"],
            name=op.f("fk_reattribution_parts_reattribution_id_reattributions"),
        ),
        sa.PrimaryKeyConstraint("reattribution_id", "part", name=op.f("pk_reattribution_parts")),
    )
    op.create_table(
        "rerates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("price_list_id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("is_automatic", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["price_list_id"], ["price_lists.id"], name=op.f("fk_rerates_price_list_id_price_lists")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rerates")),
    )
    with op.batch_alter_table("rerates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rerates_digest"), ["digest"], unique=False)

    op.create_table(
        "rollups",
        sa.Column("grain_seconds", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("dimension_set_id", sa.Integer(), nullable=False),
        sa.Column("price_row_id", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dimension_set_id"],
            ["dimension_sets.id"],
            name=op.f("fk_rollups_dimension_set_id_dimension_sets"),
        ),
        sa.PrimaryKeyConstraint(
            "grain_seconds",
            "starts_at",
            "dimension_set_id",
            "price_row_id",
            name=op.f("pk_rollups"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rerate_deltas",
        sa.Column("rerate_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=True),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("accounting_period", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rerate_id"], ["rerates.id"], name=op.f("fk_rerate_deltas_rerate_id_rerates")
        ),
        sa.PrimaryKeyConstraint("rerate_id", "position", name=op.f("pk_rerate_deltas")),
    )
    op.create_table(
        "rerate_parts",
        sa.Column("rerate_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("first_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("last_usage_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("usages", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("contracted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("effective_nanos", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rerate_id"], ["rerates.id"], name=op.f("fk_rerate_parts_rerate_id_rerates")
        ),
        sa.PrimaryKeyConstraint("rerate_id", "part", name=op.f("pk_rerate_parts")),
    )
    op.create_table(
        "allocation_rules",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_allocation_rules")),
    )
    op.create_table(
        "bill_pulls",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("pulled_until", sa.BigInteger(), nullable=False),
        sa.Column("pulled_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "account", name=op.f("pk_bill_pulls")),
    )
    op.create_table(
        "statements",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("known_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=True),
        sa.Column("grace_ends_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("rules_version", sa.Integer(), nullable=False),
        sa.Column("total_nanos", sa.BigInteger(), nullable=False),
        sa.Column("invoices", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statements")),
        sa.UniqueConstraint("month", "version", name=op.f("uq_statements_month_version")),
    )
    op.create_table(
        "provider_usage",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("import_id", sa.String(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=True),
        sa.Column("api_key", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("service_tier", sa.String(), nullable=True),
        sa.Column("region", sa.String(), nullable=True),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column("period_end", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("other_units", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("superseded_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["bill_imports.id"],
            name=op.f("fk_provider_usage_import_id_bill_imports"),
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"],
            ["bill_imports.id"],
            name=op.f("fk_provider_usage_superseded_by_bill_imports"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_usage")),
    )
    with op.batch_alter_table("provider_usage", schema=None) as batch_op:
        batch_op.create_index(
            "ix_provider_usage_bucket", ["source", "account", "period_start"], unique=False
        )
        batch_op.create_index("ix_provider_usage_period_start", ["period_start"], unique=False)

    op.create_table(
        "statement_lines",
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("service_month", sa.Integer(), nullable=False),
        sa.Column("corrects", sa.String(), nullable=True),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("feature", sa.String(), nullable=True),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("cost_center", sa.String(), nullable=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("metered_nanos", sa.BigInteger(), nullable=True),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["corrects"], ["statements.id"], name=op.f("fk_statement_lines_corrects_statements")
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"],
            ["statements.id"],
            name=op.f("fk_statement_lines_statement_id_statements"),
        ),
        sa.PrimaryKeyConstraint("statement_id", "row_number", name=op.f("pk_statement_lines")),
    )
    with op.batch_alter_table("statement_lines", schema=None) as batch_op:
        batch_op.create_index("ix_statement_lines_service_month", ["service_month"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("statement_lines", schema=None) as batch_op:
        batch_op.drop_index("ix_statement_lines_service_month")

    op.drop_table("statement_lines")
    with op.batch_alter_table("provider_usage", schema=None) as batch_op:
        batch_op.drop_index("ix_provider_usage_period_start")
        batch_op.drop_index("ix_provider_usage_bucket")

    op.drop_table("provider_usage")
    op.drop_table("statements")
    op.drop_table("bill_pulls")
    op.drop_table("allocation_rules")
    op.drop_table("rerate_parts")
    op.drop_table("rerate_deltas")
    op.drop_table("rollups")
    with op.batch_alter_table("rerates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rerates_digest"))

    op.drop_table("rerates")
    op.drop_table("reattribution_parts")
    op.drop_table("reattribution_deltas")
    with op.batch_alter_table("outcomes", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_outcomes_waiting",
            sqlite_where=sa.text("is_waiting"),
            postgresql_where=sa.text("is_waiting"),
        )
        batch_op.drop_index(
            "ix_outcomes_operation_ref",
            sqlite_where=sa.text("operation_ref IS NOT NULL"),
            postgresql_where=sa.text("operation_ref IS NOT NULL"),
        )

    op.drop_table("outcomes")
    op.drop_table("outcome_rollups")
    op.drop_table("hold_resolutions")
    op.drop_table("hold_pieces")
    op.drop_table("forecasts")
    op.drop_table("commitment_shares")
    with op.batch_alter_table("bill_restatements", schema=None) as batch_op:
        batch_op.drop_index("ix_bill_restatements_bucket")
        batch_op.drop_index("ix_bill_restatements_import_id")

    op.drop_table("bill_restatements")
    with op.batch_alter_table("bill_lines", schema=None) as batch_op:
        batch_op.drop_index("ix_bill_lines_billing_month")
        batch_op.drop_index("ix_bill_lines_bucket")

    op.drop_table("bill_lines")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alerts_raised_at"))
        batch_op.drop_index(
            "ix_alerts_firing",
            sqlite_where=sa.text("resolved_at IS NULL"),
            postgresql_where=sa.text("resolved_at IS NULL"),
        )

    op.drop_table("alerts")
    op.drop_table("usage_stretches")
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_usage_operation_ref",
            sqlite_where=sa.text("operation_ref IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_usage_call_id",
            sqlite_where=sa.text("call_id IS NOT NULL"),
            postgresql_where=sa.text("call_id IS NOT NULL"),
        )

    op.drop_table("usage")
    with op.batch_alter_table("trace_spans", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_trace_spans_seen_at"))

    op.drop_table("trace_spans")
    op.drop_table("output_progress")
    op.drop_table("output_bounds")
    op.drop_table("output_counts")
    op.drop_table("policies")
    op.drop_table("tag_rules")
    op.drop_table("sources")
    op.drop_table("set_aside")
    op.drop_table("rules_version")
    op.drop_table("report_runs")
    with op.batch_alter_table("reattributions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reattributions_digest"))

    op.drop_table("reattributions")
    with op.batch_alter_table("price_rows", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_price_rows_commitment"))

    op.drop_table("price_rows")
    op.drop_table("price_lists")
    op.drop_table("period_closes")
    op.drop_table("owners")
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_outbox_waiting_due_at",
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )

    op.drop_table("outbox")
    with op.batch_alter_table("metric_totals", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_metric_totals_bucket"))

    op.drop_table("metric_totals")
    op.drop_table("leases")
    with op.batch_alter_table("holds", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_holds_expired",
            sqlite_where=sa.text("state = 'expired'"),
            postgresql_where=sa.text("state = 'expired'"),
        )
        batch_op.drop_index(
            "ix_holds_open_expires_at",
            sqlite_where=sa.text("state = 'held'"),
            postgresql_where=sa.text("state = 'held'"),
        )

    op.drop_table("holds")
    with op.batch_alter_table("unsettled", schema=None) as batch_op:
        batch_op.drop_index("ix_unsettled_occurred_at")
    op.drop_table("unsettled")
    op.drop_table("omitted_denials")
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.drop_index("ix_decisions_outcome")
        batch_op.drop_index(batch_op.f("ix_decisions_decided_at"))
        batch_op.drop_index("ix_decisions_budget_id")
    op.drop_table("decisions")
    op.drop_table("event_keys")
    op.drop_table("event_imports")
    op.drop_table("dimension_sets")
    op.drop_table("counters")
    with op.batch_alter_table("counter_transfers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_counter_transfers_usage_id"))
        batch_op.drop_index(batch_op.f("ix_counter_transfers_to_counter_id"))
        batch_op.drop_index(batch_op.f("ix_counter_transfers_from_counter_id"))

    op.drop_table("counter_transfers")
    with op.batch_alter_table("check_answers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_check_answers_created_at"))

    op.drop_table("check_answers")
    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_charges_unpriced",
            sqlite_where=sa.text("effective_nanos IS NULL AND reverses_usage_id IS NULL"),
            postgresql_where=sa.text("effective_nanos IS NULL AND reverses_usage_id IS NULL"),
        )
        batch_op.drop_index(
            "ix_charges_revised",
            sqlite_where=sa.text("reverses_usage_id <> usage_id"),
            postgresql_where=sa.text("reverses_usage_id <> usage_id"),
        )

    op.drop_table("charges")
    op.drop_table("budget_raise_ends")
    with op.batch_alter_table("budget_raises", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_budget_raises_budget_id"))

    op.drop_table("budget_raises")
    op.drop_table("budgets")
    with op.batch_alter_table("bill_imports", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_bill_imports_sha256",
            sqlite_where=sa.text("withdrawn_at IS NULL"),
            postgresql_where=sa.text("withdrawn_at IS NULL"),
        )

    op.drop_table("bill_imports")
    op.drop_table("api_keys")
