"""What a benchmark reports. Each ``bench_<part>.py`` has ``run() -> list[BenchRow]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One measured figure; ``ratio`` is figure to baseline, ``target`` says what was promised."""

    name: str
    figure: float
    unit: str
    baseline: float | None
    ratio: float | None
    target: str
    passed: bool
