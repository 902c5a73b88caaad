"""``python -m tests.bench [NAME …] [--quick]``: measure and print one table.

The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench import (
    BenchRow,
    bench_allocation,
    bench_bills,
    bench_bulk,
    bench_costs,
    bench_costs_http,
    bench_demo,
    bench_ingest,
    bench_leases,
    bench_otlp,
    bench_quota,
    bench_rating,
    bench_reattribution,
    bench_reconcile,
    bench_rerating,
    bench_storage,
)

BENCHES: Final[Mapping[str, Callable[[bool], list[BenchRow]]]] = {
    "quota": lambda is_quick: bench_quota.run(is_quick=is_quick),
    "leases": lambda is_quick: bench_leases.run(is_quick=is_quick),
    "ingest": lambda is_quick: bench_ingest.run(is_quick=is_quick),
    "otlp": lambda is_quick: bench_otlp.run(is_quick=is_quick),
    "bulk": lambda is_quick: bench_bulk.run(is_quick=is_quick),
    "bills": lambda is_quick: bench_bills.run(is_quick=is_quick),
    "demo": lambda _: bench_demo.run(),
    "costs": lambda _: bench_costs.run(),
    "costs_http": lambda _: bench_costs_http.run(),
    "rating": lambda _: bench_rating.run(),
    "storage": lambda is_quick: bench_storage.run(is_quick=is_quick),
    "reattribution": lambda is_quick: bench_reattribution.run(is_quick=is_quick),
    "allocation": lambda is_quick: bench_allocation.run(is_quick=is_quick),
    "reconcile": lambda is_quick: bench_reconcile.run(is_quick=is_quick),
    "rerating": lambda is_quick: bench_rerating.run(is_quick=is_quick),
}
HEADINGS: Final = ("name", "figure", "unit", "baseline", "ratio", "target", "verdict")
TABLE_WIDTH: Final = 140


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks that are named, all by default, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="a small run, for trying out")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(BENCHES))
    if unknown:
        parser.error(f"no benchmark is named {unknown[0]!r}; there are {', '.join(BENCHES)}")
    notes = Console(stderr=True)
    rows: list[BenchRow] = []
    for name in chosen.names or BENCHES:
        notes.print(f"measuring {name} …")
        rows.extend(BENCHES[name](chosen.quick))
    Console(width=TABLE_WIDTH).print(_table(rows))
    return 0 if all(row.passed for row in rows) else 1


def _table(rows: Sequence[BenchRow]) -> Table:
    table = Table(title="tokenbudget: what was measured on this machine, in this run")
    for heading in HEADINGS:
        is_number = heading in ("figure", "baseline", "ratio")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        table.add_row(
            row.name,
            _number(row.figure),
            row.unit,
            "" if row.baseline is None else _number(row.baseline),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
            "ok" if row.passed else "[bold red]missed[/]",
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
