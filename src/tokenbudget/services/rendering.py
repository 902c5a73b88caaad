"""How typed facts become HTML.

It owns the template environment and its filters; it refuses to compute figures.

Everything is escaped; a name a template uses and nobody gave is an error.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tokenbudget.formats import display
from tokenbudget.formats.panels import rest_text, series_text, value_text


def make_environment(*directories: Path) -> Environment:
    """Give an environment that finds templates in these directories, the first one that has it."""
    environment = Environment(
        loader=FileSystemLoader(directories),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        money=display.money_text,
        change=display.change_text,
        cents=display.cents_text,
        count=display.count_text,
        counted=display.counted_text,
        tenths=display.tenths_text,
        day=display.day_text,
        moment=display.moment_text,
        period=display.period_text,
        name=value_text,
        rest=rest_text,
        series=series_text,
    )
    environment.globals.update(change_share=display.change_share_text)
    return environment
