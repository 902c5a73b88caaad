"""Other people's price books as rows of ours, one module a source, and what ``SOURCES.toml`` says.

They refuse to compare (``domain/price_sync.py``), to write and to use a network: a package is
read where it is installed, a file where it lies.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Final

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.price_sync import PriceSource

SOURCES_FILE: Final = "SOURCES.toml"
SOURCES_HEADER: Final = (
    "# Where the prices in this directory come from. Rows whose `src` begins with `manual` were\n"
    "# entered by hand from the page they name.\n"
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where prices come from; ``sha256`` is that of ``file``, ``date`` the day it was read."""

    package: str
    version: str
    file: str
    sha256: str
    date: date
    licence: str
    copyright: str

    @property
    def label(self) -> str:
        """Give what rows name as their source."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a source: its prices, where they come from, and what was left out and why.

    ``provenance`` is None for files whose rows carry their own.
    """

    provenance: Provenance | None
    source: PriceSource
    remarks: tuple[str, ...]


def parse_provenance(text: str) -> list[Provenance]:
    """Give the sources a ``SOURCES.toml`` lists; raises BadFile for one without its facts."""
    names = [each.name for each in fields(Provenance)]
    try:
        listed = tomllib.loads(text).get("source", [])
        return [Provenance(**{name: entry[name] for name in names}) for entry in listed]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BadFile(f"{SOURCES_FILE}: {error}", file=SOURCES_FILE) from None


def render_provenance(sources: Sequence[Provenance]) -> str:
    """Give the text of a ``SOURCES.toml``."""
    blocks = [SOURCES_HEADER]
    for source in sources:
        lines = [f"{each.name} = {_value(getattr(source, each.name))}" for each in fields(source)]
        blocks.append("[[source]]\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def replace_provenance(sources: Sequence[Provenance], read: Provenance) -> list[Provenance]:
    """Give the sources with the one just read; a file that is the same keeps its day."""
    known = next((each for each in sources if each.package == read.package), None)
    if known is None:
        return [*sources, read]
    newest = known if known.sha256 == read.sha256 and known.version == read.version else read
    return [newest if each is known else each for each in sources]


def _value(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else f'"{value}"'
