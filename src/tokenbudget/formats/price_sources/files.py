"""Price files of our own schema as a source: another book, or one file that was mailed around.

It refuses to own the schema (``formats/price_book.py``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.price_sync import PriceSource
from tokenbudget.domain.prices import ModelPrices, ProviderPrices
from tokenbudget.formats.price_book import parse_price_file, read_sources
from tokenbudget.formats.price_sources import Snapshot


def read_price_files(path: Path) -> Snapshot:
    """Give the prices of a file or of all files of a directory; raises BadFile.

    Rows without provenance get the name of the path. Providers it does not hold mean nothing.
    """
    if path.is_dir():
        texts = read_sources(path)
    else:
        try:
            texts = {path.name: path.read_text(encoding="utf-8")}
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile(f"{path}: cannot be read: {error}", file=str(path)) from None
    providers = tuple(
        _with_provenance(parse_price_file(file, text), path.name) for file, text in texts.items()
    )
    return Snapshot(None, PriceSource(path.name, providers, is_whole=False), ())


def _with_provenance(prices: ProviderPrices, label: str) -> ProviderPrices:
    return replace(prices, models=tuple(_model(model, label) for model in prices.models))


def _model(model: ModelPrices, label: str) -> ModelPrices:
    rows = tuple(row if row.source else replace(row, source=label) for row in model.prices)
    return replace(model, prices=rows)
