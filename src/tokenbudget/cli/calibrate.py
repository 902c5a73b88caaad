"""The command ``prices calibrate``: how far token estimates were off, and a file that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tokenbudget.cli.console import print_rows
from tokenbudget.cli.start import started
from tokenbudget.domain.calibration import MIN_COUNTED_TOKENS, MIN_PAIRS
from tokenbudget.domain.errors import BadFile, NotFound
from tokenbudget.formats.estimators import format_points, write_estimators
from tokenbudget.services.calibration import Calibration
from tokenbudget.services.calibration import calibrate as calibrate_families


def calibrate(
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the fitted families to this new file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Fit the token multipliers of model families to what providers reported.

    It compares settled quota checks that sent text with the usage that settled them.
    """
    services = started()
    calibrations = calibrate_families(services.database)
    title = f"Token estimates, from calls of {MIN_COUNTED_TOKENS} counted tokens and more"
    print_rows(title, [_row(each) for each in calibrations], as_json=as_json)
    if write is not None:
        _write(write, calibrations)


def _row(calibration: Calibration) -> dict[str, object]:
    family, fit = calibration.family, calibration.fit
    facts = {
        "family": family.name,
        "calls": calibration.pair_count,
        "multiplier_now": format_points(family.multiplier),
        "band_now": format_points(family.band),
    }
    if fit is None:
        missing = MIN_PAIRS - calibration.pair_count
        nothing = dict.fromkeys(("multiplier", "band", "low_decile", "high_decile"))
        return {**facts, **nothing, "outcome": f"{missing} more calls are needed"}
    return {
        **facts,
        "multiplier": format_points(fit.multiplier),
        "band": format_points(fit.band),
        "low_decile": format_points(fit.low),
        "high_decile": format_points(fit.high),
        "outcome": "fitted",
    }


def _write(file: Path, calibrations: Sequence[Calibration]) -> None:
    fits = [
        (each.family.name, each.pair_count, each.fit)
        for each in calibrations
        if each.fit is not None
    ]
    if not fits:
        raise NotFound(f"no family has {MIN_PAIRS} calls to fit; {file} was not written")
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(write_estimators(fits))
    except OSError as error:
        raise BadFile(f"{file}: cannot be written: {error.strerror}", file=str(file)) from None
