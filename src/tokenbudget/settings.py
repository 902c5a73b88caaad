"""What an operator may set. It owns names, units, defaults and safety of ``TOKENBUDGET_*``.

It also knows where shipped data lies. It refuses to act on a setting: ``bootstrap`` and ``cli``
read it and hand plain values down.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tokenbudget.domain.errors import ConfigurationError, InvalidInput
from tokenbudget.domain.periods import zone

ENV_PREFIX: Final = "TOKENBUDGET_"
SQLITE_PREFIX: Final = "sqlite:///"
POSTGRES_PREFIX: Final = "postgresql+psycopg://"
POSTGRES_ALIASES: Final = ("postgresql://", "postgres://")
DAY_SECONDS: Final = 86_400
MEBIBYTE: Final = 1024 * 1024
FOLLOWING_FAULT: Final = "default_factory_not_called"


def _about(description: str, *, unit: str, shown: str | None = None, **rules: Any) -> Any:
    """Give the metadata of one setting; ``shown`` words a default that is worked out at start."""
    extra: JsonDict = {"unit": unit} if shown is None else {"unit": unit, "shown": shown}
    return Field(description=description, json_schema_extra=extra, **rules)


def _database_url(value: str) -> str:
    for alias in POSTGRES_ALIASES:
        if value.startswith(alias):
            return POSTGRES_PREFIX + value.removeprefix(alias)
    if value.startswith(POSTGRES_PREFIX):
        return value
    if value.startswith(SQLITE_PREFIX) and value.removeprefix(SQLITE_PREFIX).strip("/:") not in (
        "",
        "memory",
    ):
        return value
    raise ValueError("must be sqlite:///<file> or postgresql+psycopg://<user>@<host>/<database>")


def _web_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if scheme not in ("http", "https") or not separator or not rest.strip("/"):
        raise ValueError("must be an http:// or https:// URL")
    return value.rstrip("/")


def _iana_zone(value: str) -> str:
    try:
        zone(value)
    except InvalidInput:
        raise ValueError("must be an IANA zone such as Europe/Berlin") from None
    return value


def _expanded(value: Path | None) -> Path | None:
    return None if value is None else value.expanduser()


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _default_database_url(values: dict[str, Any]) -> str:
    return f"{SQLITE_PREFIX}{(values['data_dir'] / 'tokenbudget.db').as_posix()}"


def _default_report_dir(values: dict[str, Any]) -> Path:
    report_dir: Path = values["data_dir"] / "reports"
    return report_dir


def _admin_key(provider: str) -> Any:
    name = f"{provider.upper()}_ADMIN_KEY"
    return _about(
        f"Admin key by which bills are pulled; {name} does as well; empty means no pull",
        unit="secret",
        validation_alias=AliasChoices(f"{ENV_PREFIX}{name}", name),
    )


WebUrl = Annotated[str, AfterValidator(_web_url)]


class Settings(BaseSettings):
    """Frozen settings of one process, read from ``TOKENBUDGET_<NAME>`` unless given by argument."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        env_ignore_empty=True,
        validate_default=True,
        populate_by_name=True,
    )

    # Where things are
    data_dir: Annotated[
        Path,
        AfterValidator(Path.expanduser),
        _about("Where the embedded database and reports live", unit="directory"),
    ] = Path("data")
    database_url: Annotated[
        str,
        AfterValidator(_database_url),
        _about(
            "The ledger's database: SQLite for one worker, PostgreSQL for many",
            unit="URL",
            shown="sqlite:///<data dir>/tokenbudget.db",
            default_factory=_default_database_url,
            repr=False,
        ),
    ]
    report_dir: Annotated[
        Path,
        AfterValidator(Path.expanduser),
        _about(
            "Where written reports go",
            unit="directory",
            shown="<data dir>/reports",
            default_factory=_default_report_dir,
        ),
    ]
    migrate_on_start: Annotated[
        bool, _about("Migrate the database when the server starts", unit="true or false")
    ] = True
    sqlite_synchronous: Annotated[
        Literal["FULL", "NORMAL"],
        _about("SQLite durability: FULL survives power loss, NORMAL only a crash", unit="word"),
    ] = "FULL"

    estimators_file: Annotated[
        Path | None,
        _about(
            "Token multipliers of model families in place of the packaged ones, as written by"
            " `prices calibrate`; empty means the packaged ones",
            unit="file",
        ),
    ] = None

    # What the figures mean
    currency: Annotated[
        str, _about("Currency of the ledger", unit="ISO 4217 code", pattern="^[A-Z]{3}$")
    ] = "USD"
    timezone: Annotated[
        str,
        AfterValidator(_iana_zone),
        _about("Zone of days, weeks and months where none is named", unit="IANA zone"),
    ] = "UTC"
    agreements_dir: Annotated[
        Path | None,
        AfterValidator(_expanded),
        _about("Contracts, commitments, hosts and exchange rates (*.toml)", unit="directory"),
    ] = None
    unrolled_tags: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_comma_separated),
        _about("Tags kept on usage but not in rollups", unit="comma-separated names"),
    ] = ("user", "session_id", "conversation_id", "request_id")

    # The server
    auth: Annotated[
        Literal["keys", "off"],
        _about("Whether API keys are asked for; off only on a loopback address", unit="word"),
    ] = "keys"
    key_cache_seconds: Annotated[
        int, _about("How long a revoked API key may still work", unit="seconds", ge=0, le=300)
    ] = 5
    host: Annotated[str, _about("Address the server binds", unit="address", min_length=1)] = (
        "127.0.0.1"
    )
    port: Annotated[int, _about("Port the server binds", unit="port", ge=0, le=65_535)] = 8000
    workers: Annotated[
        int, _about("Server processes; above 1 needs PostgreSQL", unit="processes", ge=1, le=64)
    ] = 1
    public_url: Annotated[
        WebUrl, _about("Address under which people reach the pages, for links", unit="URL")
    ] = "http://127.0.0.1:8000"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(_lowered),
        _about("Lowest level that is logged", unit="word"),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"],
        BeforeValidator(_lowered),
        _about("Shape of log lines: console or json", unit="word"),
    ] = "console"

    # Limits at the door
    max_body_bytes: Annotated[
        int, _about("Largest request body, after decompression", unit="bytes", ge=1024)
    ] = 10 * MEBIBYTE
    max_items: Annotated[int, _about("Most items in one batch", unit="items", ge=1, le=100_000)] = (
        10_000
    )
    stream_piece_items: Annotated[
        int,
        _about(
            "Lines of an NDJSON body recorded in one transaction", unit="items", ge=1, le=10_000
        ),
    ] = 1_000
    callback_body_bytes: Annotated[
        int,
        _about(
            "Largest body of a gateway's callback, after decompression: it carries prompts, and"
            " what is refused is lost",
            unit="bytes",
            ge=1024,
        ),
    ] = 64 * MEBIBYTE
    otlp_body_bytes: Annotated[
        int,
        _about("Largest body of an OTLP export, after decompression", unit="bytes", ge=1024),
    ] = 64 * MEBIBYTE
    otlp_tags: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_comma_separated),
        _about(
            "Attributes of telemetry that are tags, before the usual ones",
            unit="comma-separated attribute=tag",
        ),
    ] = ()
    otlp_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_comma_separated),
        _about(
            "Whose provider answers at a host or domain that calls itself by another's name",
            unit="comma-separated host=provider",
        ),
    ] = ()
    otlp_accepts_guesses: Annotated[
        bool,
        _about(
            "Whether tokens that an emitter guessed count as estimated; else they are unknown",
            unit="flag",
        ),
    ] = False
    trace_window_seconds: Annotated[
        int,
        _about(
            "How long spans are remembered for the rest of their trace to come",
            unit="seconds",
            ge=60,
        ),
    ] = 3_600
    subject_tag: Annotated[
        str,
        _about("Tag that the subject of a CloudEvent gives; empty means none", unit="name"),
    ] = "tenant"
    openmeter_provider: Annotated[
        str | None,
        _about("Provider of the models in OpenMeter events that name none", unit="name"),
    ] = None
    future_tolerance_seconds: Annotated[
        int, _about("How far ahead of now a usage may lie", unit="seconds", ge=0)
    ] = DAY_SECONDS

    # Group commit
    write_queue_items: Annotated[
        int, _about("Most items waiting to be written; above is 503", unit="items", ge=1)
    ] = 20_000
    write_batch_items: Annotated[
        int, _about("Most events and checks in one transaction", unit="items", ge=1)
    ] = 2_000
    write_batch_wait_ms: Annotated[
        int,
        _about(
            "How long the writer waits for as many requests as last time; 0 is not at all",
            unit="milliseconds",
            ge=0,
            le=1_000,
        ),
    ] = 1

    # Holds
    hold_ttl_seconds: Annotated[
        int, _about("Life of a hold that names none", unit="seconds", ge=1)
    ] = 60
    hold_grace_seconds: Annotated[
        int, _about("Grace after a hold's end before it expires", unit="seconds", ge=0)
    ] = 5
    hold_max_seconds: Annotated[
        int, _about("Longest life of a hold, extensions included", unit="seconds", ge=1)
    ] = 3_600
    hold_max_batch_ttl_seconds: Annotated[
        int,
        _about(
            "Longest life of a hold for several requests, such as a batch job's completion window",
            unit="seconds",
            ge=1,
        ),
    ] = 26 * 3_600
    decision_sample_percent: Annotated[
        int,
        _about(
            "Share of allowed and reduced checks that is logged; denials always are",
            unit="percent",
            ge=0,
            le=100,
        ),
    ] = 1
    decision_retention_days: Annotated[
        int, _about("How long logged decisions are kept", unit="days", ge=1, le=3_650)
    ] = 90
    default_max_output_tokens: Annotated[
        int, _about("Output assumed when a check names no maximum", unit="tokens", ge=1)
    ] = 4_096

    # Alerts and jobs
    webhook_url: Annotated[
        WebUrl | None, _about("Where alerts are posted; empty means nowhere", unit="URL")
    ] = None
    webhook_secret: Annotated[
        SecretStr | None, _about("Key that signs alert deliveries", unit="secret")
    ] = None
    webhook_timeout_seconds: Annotated[
        int, _about("Longest wait for an alert receiver", unit="seconds", ge=1, le=120)
    ] = 10
    outbox_interval_seconds: Annotated[
        int, _about("Pause between deliveries from the outbox", unit="seconds", ge=1)
    ] = 2
    outbox_batch_items: Annotated[
        int, _about("Most deliveries in one round", unit="items", ge=1, le=10_000)
    ] = 100
    outbox_dead_after_seconds: Annotated[
        int, _about("Age at which a delivery is given up", unit="seconds", ge=1)
    ] = DAY_SECONDS
    hold_sweep_interval_seconds: Annotated[
        int, _about("Pause between sweeps of expired holds", unit="seconds", ge=1)
    ] = 15
    lease_seconds: Annotated[
        int, _about("How long one worker leads the jobs without renewal", unit="seconds", ge=3)
    ] = 30
    statement_grace_hours: Annotated[
        int, _about("How long a statement is a draft; 0 closes at once", unit="hours", ge=0, le=744)
    ] = 72
    statement_self_approval: Annotated[
        bool, _about("Whether an API key may approve a restatement it proposed", unit="flag")
    ] = False
    gl_file: Annotated[
        Path | None,
        AfterValidator(_expanded),
        _about("Accounts of the general ledger for journals (TOML)", unit="file"),
    ] = None
    weekly_report_weekday: Annotated[
        int, _about("Weekday of the weekly report, Monday is 1", unit="ISO weekday", ge=1, le=7)
    ] = 1
    weekly_report_hour: Annotated[
        int, _about("Hour of the weekly report in the timezone", unit="hour", ge=0, le=23)
    ] = 6

    # Pulls of bills
    openai_admin_key: Annotated[SecretStr | None, _admin_key("openai")] = None
    anthropic_admin_key: Annotated[SecretStr | None, _admin_key("anthropic")] = None
    openai_url: Annotated[WebUrl, _about("Where OpenAI's admin API is", unit="URL")] = (
        "https://api.openai.com"
    )
    anthropic_url: Annotated[WebUrl, _about("Where Anthropic's admin API is", unit="URL")] = (
        "https://api.anthropic.com"
    )
    openai_account: Annotated[
        str, _about("Account that bills pulled from OpenAI belong to", unit="name")
    ] = ""
    anthropic_account: Annotated[
        str, _about("Account that bills pulled from Anthropic belong to", unit="name")
    ] = ""
    bills_pull_interval_hours: Annotated[
        int, _about("Pause between pulls of bills", unit="hours", ge=1, le=168)
    ] = 6
    bills_pull_stale_hours: Annotated[
        int, _about("Age of the last whole pull that is worth a warning", unit="hours", ge=1)
    ] = 24
    bills_restated_days: Annotated[
        int, _about("Days before today that each pull reads again", unit="days", ge=1, le=90)
    ] = 7
    bills_invoice_day: Annotated[
        int, _about("Until then a pull reads the month before again", unit="day", ge=0, le=31)
    ] = 10

    @model_validator(mode="after")
    def _require_safe_combination(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(
                f"{ENV_PREFIX}AUTH: off is allowed only when {ENV_PREFIX}HOST is a loopback address"
            )
        if self.workers > 1 and self.database_url.startswith(SQLITE_PREFIX):
            raise ValueError(
                f"{ENV_PREFIX}WORKERS: more than 1 needs PostgreSQL, since SQLite has one writer;"
                f" set {ENV_PREFIX}DATABASE_URL"
            )
        if self.hold_ttl_seconds > self.hold_max_seconds:
            raise ValueError(
                f"{ENV_PREFIX}HOLD_TTL_SECONDS: must not exceed {ENV_PREFIX}HOLD_MAX_SECONDS"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Give the settings of the environment, with ``overrides`` that are not None in front.

    Raises ConfigurationError with one line that names each variable at fault and its rule, never
    its value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = [
            _fault_line(fault["loc"], fault["msg"])
            for fault in error.errors()
            if fault["type"] != FOLLOWING_FAULT
        ]
        raise ConfigurationError("; ".join(faults)) from None


def describe_settings() -> list[dict[str, str]]:
    """Give one row a setting, in order of declaration: variable, unit, default, description."""
    return [_describe(name, field) for name, field in Settings.model_fields.items()]


def variable_name(field_name: str) -> str:
    """Give the environment variable of a setting, such as ``TOKENBUDGET_PORT`` for ``port``."""
    return ENV_PREFIX + field_name.upper()


def is_loopback(host: str) -> bool:
    """Tell whether a bind address is reachable from this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def packaged_path(name: str) -> Path:
    """Give the directory of shipped data: ``pricing``, ``reports`` or ``alembic``.

    An installed wheel carries it beside this module in ``_data``; a checkout has it at its root.
    The copy an editable install leaves in site-packages goes stale and is never read, because this
    module then lies in ``src``. Raises ConfigurationError when the directory is in neither place.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_data" / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise ConfigurationError(f"shipped data {name!r} is missing from this installation", name=name)


def _fault_line(location: tuple[int | str, ...], message: str) -> str:
    rule = message.removeprefix("Value error, ")
    return f"{variable_name(str(location[0]))}: {rule}" if location else rule


def _describe(name: str, field: FieldInfo) -> dict[str, str]:
    extra = field.json_schema_extra
    facts = extra if isinstance(extra, dict) else {}
    return {
        "variable": variable_name(name),
        "unit": str(facts["unit"]),
        "default": str(facts.get("shown", _default_text(field.default))),
        "description": field.description or "",
    }


def _default_text(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(str(part) for part in default)
    return str(default).lower() if isinstance(default, bool) else str(default)
