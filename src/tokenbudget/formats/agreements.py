"""Agreements (TOML): contracts, commitments, hosts and exchange rates, as operators write them.

It owns the files, the table of contracts and their strictness: every error names file, table and
field. It refuses to choose among agreements (``domain/agreements.py``). The tables are told in
``docs/decisions/0009-agreements.md``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tokenbudget.domain.agreements import Agreements, Contract
from tokenbudget.domain.commitments import Commitment
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.exchange import FxTable, Quote
from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.price_lists import STANDARD_WORDS, PriceList
from tokenbudget.domain.prices import STANDARD_TIER, normalise_word
from tokenbudget.formats.agreement_tables import (
    BOUNDS,
    Shape,
    Word,
    bounds,
    checked_pattern,
    convert,
    exact_number,
    exact_rates,
    naming,
    rate_unit,
)
from tokenbudget.formats.commitments import (
    CommitmentShape,
    Host,
    HostShape,
    commitment_of,
    host_of,
    price_hosts,
)
from tokenbudget.formats.exchange import parse_quotes
from tokenbudget.formats.price_book import digest_sources

FX_FILE: Final = "fx.toml"
TABLES: Final = frozenset({"contract", "commitment", "host", "fx"})
HUNDRED: Final = 100

ShapeT = TypeVar("ShapeT", bound=Shape)
AgreedT = TypeVar("AgreedT")


class _ContractShape(Shape, rename=BOUNDS):
    provider: Word | None = None
    model: Word | None = None
    account: Word | None = None
    tier: Word | None = None
    region: Word | None = None
    percent_off: Decimal | None = None
    times: Decimal | None = None
    rates: dict[str, Decimal] = msgspec.field(default_factory=dict)
    applies: tuple[str, ...] = ()
    stack: bool = False
    priority: int = 0


def load_agreements(pricing: Path, directory: Path | None, price_list: PriceList) -> Agreements:
    """Give what was agreed on top of a price list.

    Exchange rates come from ``fx.toml`` beside the prices and, like everything else, from the TOML
    files of the directory. Raises BadFile for the first thing that is wrong.
    """
    paths = [pricing / FX_FILE] if (pricing / FX_FILE).is_file() else []
    if directory is not None:
        if not directory.is_dir():
            raise BadFile(f"{directory}: there is no such directory of agreements")
        paths.extend(sorted(directory.glob("*.toml")))
    try:
        sources = {str(path): path.read_text(encoding="utf-8") for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{directory}: the agreements cannot be read: {error}") from None
    return build_agreements(sources, price_list)


def build_agreements(sources: Mapping[str, str], price_list: PriceList) -> Agreements:
    """Give the agreements of files by name; their version is the sha256 of the texts in order."""
    files = [_File(name, text, price_list) for name, text in sources.items()]
    contracts = [contract for file in files for contract in file.contracts()]
    commitments = [commitment for file in files for commitment in file.commitments()]
    hosts = [host for file in files for host in file.hosts()]
    commitments.extend(host.commitment for host in hosts)
    _require_unique("contract", [contract.id for contract in contracts])
    _require_unique("commitment or host", [commitment.id for commitment in commitments])
    quotes = [quote for file in files for quote in file.quotes()]
    return Agreements(
        contracts=tuple(contracts),
        commitments=tuple(sorted(commitments, key=lambda item: (-len(item.covers), item.id))),
        hosted=price_hosts(hosts),
        exchange=FxTable(tuple(sorted(quotes, key=lambda quote: quote.day))),
        version=digest_sources({str(place): text for place, text in enumerate(sources.values())}),
    )


class _File:
    """One file and the price list it is about; every fault names file, table and field."""

    def __init__(self, name: str, text: str, price_list: PriceList) -> None:
        self.name = name
        self.price_list = price_list
        with naming(name):
            try:
                self.document = tomllib.loads(text, parse_float=Decimal)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"this is no TOML: {error}") from None
            for key in sorted(self.document.keys() - TABLES):
                raise InvalidInput(f"unknown key {key!r}")

    def contracts(self) -> Iterator[Contract]:
        """Give the contracts in the order of the file."""
        return self._each("contract", _ContractShape, self._contract)

    def commitments(self) -> Iterator[Commitment]:
        """Give the commitments in the order of the file."""
        return self._each("commitment", CommitmentShape, self._commitment)

    def hosts(self) -> Iterator[Host]:
        """Give the hosts in the order of the file."""
        return self._each("host", HostShape, self._host)

    def quotes(self) -> Iterator[Quote]:
        """Give the quotes of exchange rates in the order of the file."""
        if "fx" in self.document:
            yield from parse_quotes(self.document["fx"], where=f"{self.name}: fx")

    def _each(
        self, key: str, shape_type: type[ShapeT], translate: Callable[[ShapeT], AgreedT]
    ) -> Iterator[AgreedT]:
        entries = self.document.get(key, [])
        if not isinstance(entries, list):
            with naming(self.name):
                raise InvalidInput(f"a {key} is a [[{key}]] table, with two brackets")
        for number, entry in enumerate(entries, start=1):
            with naming(f"{self.name}: {key} {number}"):
                shape = convert(entry, shape_type)
            with naming(f"{self.name}: {key} {shape.id!r}"):
                agreed = translate(shape)
            yield agreed

    def _contract(self, shape: _ContractShape) -> Contract:
        tier = None if shape.tier is None else normalise_word(shape.tier)
        valid_from, valid_to = bounds(shape)
        return Contract(
            id=shape.id,
            provider=None if shape.provider is None else self._provider(shape.provider),
            model=None if shape.model is None else checked_pattern(shape.model.lower(), "model"),
            account=shape.account,
            tier=STANDARD_TIER if tier in STANDARD_WORDS else tier,
            region=None if shape.region is None else shape.region.strip().lower(),
            valid_from=valid_from,
            valid_to=valid_to,
            times=_times(shape),
            applies=frozenset(rate_unit(key, "applies") for key in shape.applies),
            rates={unit: rate * PICOS_PER_UNIT for unit, rate in exact_rates(shape.rates).items()},
            stacks=shape.stack,
            priority=shape.priority,
        )

    def _commitment(self, shape: CommitmentShape) -> Commitment:
        return commitment_of(shape, self._provider(shape.provider))

    def _host(self, shape: HostShape) -> Host:
        provider = normalise_word(shape.provider)
        if self.price_list.canonical_provider(provider) is not None:
            raise InvalidInput(f"provider {provider!r} has published prices; name hosts otherwise")
        return host_of(shape, provider)

    def _provider(self, word: str) -> str:
        provider = self.price_list.canonical_provider(word)
        if provider is None:
            raise InvalidInput(f"provider {word!r} is no provider of the price book")
        return provider


def _times(shape: _ContractShape) -> Fraction:
    terms = [shape.percent_off is not None, shape.times is not None, bool(shape.rates)]
    if sum(terms) != 1:
        raise InvalidInput("a contract has one of percent_off, times and rates")
    if shape.rates:
        if shape.stack or shape.applies:
            raise InvalidInput("rates stand for themselves: stack and applies are for discounts")
        return Fraction(1)
    if shape.percent_off is None:
        return exact_number(shape.times, "times")
    percent_off = exact_number(shape.percent_off, "percent_off")
    if percent_off > HUNDRED:
        raise InvalidInput(f"percent_off {shape.percent_off} is more than everything")
    return 1 - percent_off / HUNDRED


def _require_unique(kind: str, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for known_by in ids:
        if known_by in seen:
            raise BadFile(f"{kind} {known_by!r} is written twice")
        seen.add(known_by)
