"""The parsed price book in a file of its own, so that the next start need not parse it again.

It owns that file and refuses to own prices: the file may be lost or spoilt at any time without
changing an answer. It is believed only when its key is the digest of the present price files and
of the present code that reads them, and its content is what was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from tokenbudget.domain import prices, usage
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import ProviderPrices
from tokenbudget.formats import price_book, price_rates
from tokenbudget.formats.price_book import digest_sources, parse_price_book, read_sources
from tokenbudget.formats.whole_files import replace_file

CACHE_FILE: Final = "prices.cache"
READING_MODULES: Final = (prices, usage, price_book, price_rates)
DIGEST_BYTES: Final = 32


def load_compiled_prices(directory: Path, cache_directory: Path, *, currency: str) -> PriceList:
    """Give the price list of a directory, as ``load_price_book`` does, from the cache if it can.

    The cache is renewed when it cannot; where it cannot be written either, nothing is said.
    """
    sources = read_sources(directory)
    version = digest_sources(sources)
    file = cache_directory / CACHE_FILE
    providers = _read(file, version)
    if providers is None:
        providers = parse_price_book(sources)
        with suppress(OSError):
            _write(file, version, providers)
    return PriceList(providers, version=version, currency=currency)


def _read(file: Path, version: str) -> Sequence[ProviderPrices] | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    key, digest, packed = (
        content[:DIGEST_BYTES],
        content[DIGEST_BYTES : 2 * DIGEST_BYTES],
        content[2 * DIGEST_BYTES :],
    )
    if key != _key(version) or digest != hashlib.sha256(packed).digest():
        return None
    return msgspec.msgpack.decode(packed, type=tuple[ProviderPrices, ...])


def _write(file: Path, version: str, providers: Sequence[ProviderPrices]) -> None:
    packed = msgspec.msgpack.encode(providers)
    replace_file(file, _key(version) + hashlib.sha256(packed).digest() + packed)


def _key(version: str) -> bytes:
    return hashlib.sha256(version.encode() + _code_digest()).digest()


@cache
def _code_digest() -> bytes:
    digest = hashlib.sha256()
    for module in READING_MODULES:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.digest()
