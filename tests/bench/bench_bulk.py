"""How fast files of events are imported, and how much memory that takes.

The command itself is timed, in processes of its own and from its start to its end, into an empty
ledger with four budgets: a million events, or ten million of them where ``TOKENBUDGET_BULK_EVENTS``
says so. Memory is that of the command's processes together at its peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Final

import polars as pl

from tests.bench import BenchRow
from tests.bench.databases import ENGINES, database_url
from tests.bench.traffic import BUDGETS, FEATURES, MODELS, TEAMS, TENANTS, USERS
from tests.server_process import COMMAND, PAGE_BYTES

EVENTS: Final = int(os.environ.get("TOKENBUDGET_BULK_EVENTS", "1000000"))
QUICK_EVENTS: Final = 250_000
SUFFIXES: Final = (".parquet", ".csv", ".jsonl")
MIN_EVENTS_A_SECOND: Final = 60_000
MAX_MEBIBYTES: Final = 1_024
MEBIBYTE: Final = 1024 * 1024
POLL_SECONDS: Final = 0.05
MICROS_BETWEEN_EVENTS: Final = 259_200
"""Ten million events are those of thirty days."""

FIRST_MICROS: Final = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp()) * 1_000_000
UNITS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "requests",
)
TAGS: Final = ("team", "feature", "tenant", "environment", "request_type", "user")


@dataclass(slots=True)
class Peak:
    """The most memory that was seen in use, in bytes."""

    resident: int = 0


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give the rate and the memory of importing each format into both engines."""
    events = QUICK_EVENTS if is_quick else EVENTS
    with TemporaryDirectory() as name:
        directory = Path(name)
        files = [write_events(directory / f"events{suffix}", events) for suffix in SUFFIXES]
        return [
            row for engine in ENGINES for file in files for row in measure(engine, file, events)
        ]


def measure(engine: str, file: Path, events: int) -> list[BenchRow]:
    """Give the rows of one import into an empty ledger, and of a second one of the same file."""
    with TemporaryDirectory() as name, database_url(engine, Path(name)) as url:
        environment = {
            **os.environ,
            "TOKENBUDGET_DATA_DIR": name,
            "TOKENBUDGET_DATABASE_URL": url,
        }
        budgets = Path(name) / "budgets.toml"
        budgets.write_text(BUDGETS, encoding="utf-8")
        _command(environment, "db", "upgrade")
        _command(environment, "budgets", "apply", str(budgets))
        accepted, seconds, peak = _timed_import(environment, file)
        again, seconds_again, _ = _timed_import(environment, file)
    if (accepted, again) != (events, 0):
        raise AssertionError(f"{accepted} of {events} events were imported, then {again}")
    name = f"import of {events:,} events, {file.suffix[1:]}, {engine}"
    rate = events / seconds
    mebibytes = peak / MEBIBYTE
    is_fast, is_small = rate >= MIN_EVENTS_A_SECOND, mebibytes <= MAX_MEBIBYTES
    target = f">= {MIN_EVENTS_A_SECOND:,}"
    return [
        BenchRow(name, rate, "events/s", None, None, target, is_fast),
        BenchRow(f"{name}: memory", mebibytes, "MiB", None, None, f"<= {MAX_MEBIBYTES}", is_small),
        BenchRow(f"{name}: the same file again", seconds_again, "s", None, None, "shown", True),
    ]


def write_events(path: Path, events: int) -> Path:
    """Write so many events of one invented company by the suffix, in order of time."""
    table = pl.LazyFrame().select(number=pl.int_range(events)).select(*_columns())
    if path.suffix == ".parquet":
        table.rename({"user": "tags.user"}).sink_parquet(path)
        return path
    instant = pl.col("occurred_at").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
    texts = table.with_columns(occurred_at=instant)
    if path.suffix == ".csv":
        texts.rename({"user": "tags.user"}).sink_csv(path)
        return path
    nested = texts.select(pl.exclude(*UNITS, *TAGS), usage=pl.struct(UNITS), tags=pl.struct(TAGS))
    nested.sink_ndjson(path)
    return path


def _columns() -> Iterator[pl.Expr]:
    number = pl.col("number")
    feature, used = _drawn("feature", FEATURES), _drawn("model", 2)
    model = (feature + used) % len(MODELS)
    input_tokens = 50 + _drawn("input", 16_000)
    yield pl.format("01JD{}", number.cast(pl.String).str.zfill(22)).alias("event_id")
    yield pl.lit("gateway").alias("source")
    yield (
        (FIRST_MICROS + number * MICROS_BETWEEN_EVENTS)
        .cast(pl.Datetime("us", "UTC"))
        .alias("occurred_at")
    )
    for place, name in enumerate(("provider", "model")):
        names = [pair[place] for pair in MODELS]
        yield model.replace_strict(range(len(MODELS)), names).alias(name)
    yield pl.lit("chat").alias("operation")
    yield pl.format("01JE{}", number.cast(pl.String).str.zfill(22)).alias("operation_id")
    response = pl.format("resp_{}", number.hash(3).cast(pl.String).str.zfill(20))
    yield pl.when(number % 2 == 0).then(response).alias("response_id")
    yield input_tokens.alias("input_tokens")
    yield (input_tokens // 2).alias("cached_input_tokens")
    yield (5 + _drawn("output", 1_500)).alias("output_tokens")
    yield pl.lit(0).alias("reasoning_tokens")
    yield pl.lit(1).alias("requests")
    yield (200 + _drawn("latency", 9_000)).alias("latency_ms")
    tenant = pl.min_horizontal(_drawn("tenant", TENANTS), _drawn("other", TENANTS))
    yield pl.format("team-{}", feature % TEAMS).alias("team")
    yield pl.format("feature-{}", feature).alias("feature")
    yield pl.format("tenant-{}", tenant).alias("tenant")
    yield pl.lit("prod").alias("environment")
    yield pl.lit("production").alias("request_type")
    yield pl.format("u-{}", _drawn("user", USERS)).alias("user")


def _drawn(name: str, kinds: int) -> pl.Expr:
    """Give numbers below ``kinds``, always the same for one name."""
    seed = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**31
    return (pl.col("number").hash(seed) % kinds).cast(pl.Int64)


def _timed_import(environment: dict[str, str], file: Path) -> tuple[int, float, int]:
    """Give how many events were accepted, the seconds it took and the memory in bytes."""
    started = perf_counter()
    with (
        subprocess.Popen(
            [COMMAND, "events", "import", str(file), "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        _watching(process.pid) as peak,
    ):
        printed, faults = process.communicate()
    seconds = perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"the import failed: {faults[-2000:]}")
    return int(json.loads(printed)[0]["accepted"]), seconds, peak.resident


@contextmanager
def _watching(process_id: int) -> Iterator[Peak]:
    """Give the peak of the memory that a process and its children have, while the block runs."""
    peak = Peak()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            family = [process_id, *_children(process_id)]
            peak.resident = max(peak.resident, sum(map(_resident_bytes, family)))
            sleep(POLL_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield peak
    is_over.set()
    watcher.join()


def _children(process_id: int) -> list[int]:
    try:
        text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _resident_bytes(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def _command(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run([COMMAND, *arguments], env=environment, check=True, capture_output=True)
