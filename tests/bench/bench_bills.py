"""How fast a provider's bill is imported, how much memory that takes, and into how many lines.

The command itself is timed, in a process of its own and from its start to its end, into an empty
SQLite ledger: ten million FOCUS rows as Parquet, an hour of one thing each, and a million as CSV.
``TOKENBUDGET_BENCH_BILL_ROWS`` asks for another number.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import polars as pl

from tests.bench import BenchRow
from tests.server_process import COMMAND

ROWS: Final = int(os.environ.get("TOKENBUDGET_BENCH_BILL_ROWS", "10000000"))
QUICK_ROWS: Final = 1_000_000
CSV_ROWS: Final = 1_000_000
MAX_SECONDS: Final = 60
MAX_MEBIBYTES: Final = 1_536
KIBIBYTES_PER_MEBIBYTE: Final = 1_024

FIRST: Final = datetime(2026, 9, 1, tzinfo=UTC)
BEHIND: Final = datetime(2026, 10, 1, tzinfo=UTC)
HOURS: Final = 720
PROJECTS: Final = 400
MODELS: Final = ("gpt-4.1", "gpt-4.1-mini", "gpt-5.2", "gpt-5-nano", "o3")
TOKEN_TYPES: Final = ("input_uncached", "input_cached", "output")
MICROS_A_TOKEN: Final = 2
TOKENS_OF: Final = 100_000


@dataclass(frozen=True, slots=True)
class Timed:
    """What one import took."""

    seconds: float
    mebibytes: float
    lines: int
    total: Decimal


def run(*, is_quick: bool = False) -> list[BenchRow]:
    """Give time and memory of importing each kind of file."""
    rows = QUICK_ROWS if is_quick else ROWS
    with TemporaryDirectory() as name:
        directory = Path(name)
        return [
            *measure(directory, write_bill(directory / "bill.parquet", rows), rows),
            *measure(directory, write_bill(directory / "bill.csv", CSV_ROWS), CSV_ROWS),
        ]


def write_bill(path: Path, rows: int) -> Path:
    """Write so many FOCUS rows of one month by the suffix, in order of time."""
    table = pl.LazyFrame().select(number=pl.int_range(rows)).with_columns(*_draws())
    bill = table.select(*_columns(rows))
    if path.suffix == ".parquet":
        bill.sink_parquet(path)
    else:
        texts = pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        bill.with_columns(texts).sink_csv(path)
    return path


def measure(directory: Path, file: Path, rows: int) -> list[BenchRow]:
    """Give the rows of one import into an empty ledger; its total must be exact."""
    expected = _expected_total(rows)
    timed = _timed_import(directory / f"ledger-{file.suffix[1:]}", file)
    if timed.total != expected:
        raise AssertionError(f"{timed.total} was imported of {expected}")
    name = f"import of a bill of {rows:,} rows, {file.suffix[1:]}, sqlite"
    is_fast, is_small = timed.seconds <= MAX_SECONDS, timed.mebibytes <= MAX_MEBIBYTES
    return [
        BenchRow(name, timed.seconds, "s", None, None, f"<= {MAX_SECONDS}", is_fast),
        BenchRow(
            f"{name}: memory", timed.mebibytes, "MiB", None, None, f"<= {MAX_MEBIBYTES}", is_small
        ),
        BenchRow(f"{name}: lines stored", timed.lines, "lines", None, None, "shown", True),
    ]


def _draws() -> Iterator[pl.Expr]:
    number = pl.col("number")
    yield (number.hash(1) % TOKENS_OF).cast(pl.Int64).alias("tokens")
    yield (number.hash(2) % PROJECTS).cast(pl.Int64).alias("project")
    yield (number.hash(3) % len(TOKEN_TYPES)).cast(pl.Int64).alias("kind")


def _columns(rows: int) -> Iterator[pl.Expr]:
    tokens = pl.col("tokens").cast(pl.Decimal(38, 12))
    cost = tokens * MICROS_A_TOKEN / 1_000_000
    starts = pl.lit(FIRST) + pl.duration(hours=pl.col("number") * HOURS // rows)
    model = _named(pl.col("project") % len(MODELS), MODELS)
    kind = _named(pl.col("kind"), TOKEN_TYPES)
    team = (pl.col("project") % 40).cast(pl.String)
    for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        yield cost.alias(name)
    yield pl.format("org-{}", pl.col("project") % 3).alias("BillingAccountId")
    yield pl.lit("USD").alias("BillingCurrency")
    yield pl.lit(FIRST).alias("BillingPeriodStart")
    yield pl.lit(BEHIND).alias("BillingPeriodEnd")
    yield pl.lit("Usage").alias("ChargeCategory")
    yield pl.lit(None, dtype=pl.String).alias("ChargeClass")
    yield pl.format("{} {} tokens", model, kind).alias("ChargeDescription")
    yield starts.alias("ChargePeriodStart")
    yield (starts + pl.duration(hours=1)).alias("ChargePeriodEnd")
    yield tokens.alias("ConsumedQuantity")
    yield (tokens / 1_000_000).alias("PricingQuantity")
    yield pl.format("arn:example:call/{}", pl.col("number")).alias("ResourceId")
    yield pl.format("proj_{}", pl.col("project")).alias("SubAccountId")
    yield kind.alias("SkuMeter")
    yield model.alias("x_Model")
    yield kind.alias("x_TokenType")
    yield pl.concat_str(pl.lit('{"team":"team-'), team, pl.lit('","environment":"prod"}')).alias(
        "Tags"
    )
    for name, text in (
        ("ConsumedUnit", "Tokens"),
        ("PricingUnit", "1000000 Tokens"),
        ("InvoiceIssuerName", "OpenAI"),
        ("ProviderName", "OpenAI"),
        ("PublisherName", "OpenAI"),
        ("ServiceCategory", "AI and Machine Learning"),
        ("ServiceName", "OpenAI API"),
        ("ServiceSubcategory", "Generative AI"),
    ):
        yield pl.lit(text).alias(name)


def _named(place: pl.Expr, names: tuple[str, ...]) -> pl.Expr:
    return place.replace_strict(range(len(names)), names, return_dtype=pl.String)


def _expected_total(rows: int) -> Decimal:
    table = pl.LazyFrame().select(number=pl.int_range(rows)).with_columns(*_draws())
    tokens = table.select(pl.col("tokens").sum()).collect().item()
    return Decimal(tokens * MICROS_A_TOKEN).scaleb(-6)


def _timed_import(data_dir: Path, file: Path) -> Timed:
    """Give what the command took; its memory is the peak of its own process."""
    environment = {**os.environ, "TOKENBUDGET_DATA_DIR": str(data_dir)}
    environment.pop("TOKENBUDGET_DATABASE_URL", None)
    subprocess.run([COMMAND, "db", "upgrade"], env=environment, check=True, capture_output=True)
    printed = data_dir / "printed.json"
    started = perf_counter()
    with printed.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "bills", "import", str(file), "--json"], env=environment, stdout=output
        )
        _, status, used = os.wait4(process.pid, 0)
    seconds = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the import failed with {process.returncode}")
    [row] = json.loads(printed.read_text())
    total = Decimal(row["total_amount"]["USD"])
    return Timed(seconds, used.ru_maxrss / KIBIBYTES_PER_MEBIBYTE, row["lines"], total)
