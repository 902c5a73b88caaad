"""Commitments and hosts as files write them: what is paid for by time, and what it covers.

It owns the two tables and the prices that a host gives its models; it refuses to share a cost
(``domain/commitments.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec

from tokenbudget.domain.commitments import Commitment, Per, Share
from tokenbudget.domain.errors import BadFile, InvalidInput
from tokenbudget.domain.money import NANOS_PER_UNIT
from tokenbudget.domain.prices import ModelPrices, Price, ProviderPrices, rates_in_picos
from tokenbudget.formats.agreement_tables import (
    BOUNDS,
    Currency,
    Shape,
    Word,
    checked_pattern,
    exact_number,
    exact_rates,
    quarter_hours,
)

SECONDS_PER_HOUR: Final = 3600
MAX_CAPACITY: Final = 10**12
SELF_HOSTED: Final = "self_hosted"
HOSTED_UNITS: Final = ("input_tokens", "output_tokens", "gpu_seconds")
"""What usage of a hosted model may count; it costs nothing where the host gives it no rate."""


class CommitmentShape(Shape, rename=BOUNDS):
    """The table ``[[commitment]]``; all its units cost ``rate`` each for one ``per``."""

    provider: Word
    covers: dict[str, Word | list[Word]]
    rate: Decimal
    per: Literal["unit-hour", "unit-day", "unit-month"] = "unit-hour"
    units: Annotated[int, msgspec.Meta(ge=1)] = 1
    currency: Currency = "USD"
    share: Literal["weighted-tokens", "tokens"] = "weighted-tokens"
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=1, le=MAX_CAPACITY)] | None = None
    spill: Literal["list"] | None = None


class HostShape(Shape, rename=BOUNDS):
    """The table ``[[host]]``; each of its ``gpus`` costs ``rate`` an hour, used or not."""

    models: Annotated[list[Word], msgspec.Meta(min_length=1)]
    rate: Decimal
    provider: Word = SELF_HOSTED
    gpu: str = ""
    gpus: Annotated[int, msgspec.Meta(ge=1)] = 1
    per: Literal["gpu-hour"] = "gpu-hour"
    currency: Currency = "USD"
    share: Literal["gpu-seconds", "weighted-tokens", "tokens"] = "gpu-seconds"
    rates: dict[str, Decimal] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """A host as what it costs by time and what its models cost by usage."""

    commitment: Commitment
    models: tuple[str, ...]
    rates: Mapping[str, Fraction]

    @property
    def prices(self) -> dict[str, Price]:
        """Give the price row of each model."""
        rates, divisor = rates_in_picos(self.rates)
        return {
            model: Price(
                provider=self.commitment.provider,
                model=model,
                rates=rates,
                divisor=divisor,
                currency=self.commitment.currency,
                valid_from=self.commitment.valid_from,
                valid_to=self.commitment.valid_to,
                source=f"host {self.commitment.id}",
            )
            for model in self.models
        }


def commitment_of(shape: CommitmentShape, provider: str) -> Commitment:
    """Give the commitment with a provider; raises InvalidInput naming the field."""
    valid_from, valid_to = quarter_hours(shape)
    if shape.spill is not None and shape.tokens_per_minute is None:
        raise InvalidInput("spill needs tokens_per_minute: what is beyond is else unknown")
    return Commitment(
        id=shape.id,
        provider=provider,
        covers=_covers(shape.covers),
        nanos_per_time=exact_number(shape.rate, "rate") * shape.units * NANOS_PER_UNIT,
        per=Per(shape.per.removeprefix("unit-")),
        valid_from=valid_from,
        valid_to=valid_to,
        currency=shape.currency,
        share=Share(shape.share),
        tokens_per_minute=shape.tokens_per_minute,
        spills=shape.spill is not None,
    )


def host_of(shape: HostShape, provider: str) -> Host:
    """Give the host with a provider of its own; raises InvalidInput naming the field."""
    if (shape.share == "weighted-tokens") != bool(shape.rates):
        raise InvalidInput("rates weigh tokens: share 'weighted-tokens' needs them, alone")
    valid_from, valid_to = quarter_hours(shape)
    models = tuple(checked_pattern(model.lower(), "models") for model in shape.models)
    hourly = exact_number(shape.rate, "rate")
    by_time = {"gpu_seconds": hourly / SECONDS_PER_HOUR} if shape.share == "gpu-seconds" else {}
    free = dict.fromkeys(HOSTED_UNITS, Fraction(0))
    commitment = Commitment(
        id=shape.id,
        provider=provider,
        covers={"model": models},
        nanos_per_time=hourly * shape.gpus * NANOS_PER_UNIT,
        per=Per.HOUR,
        valid_from=valid_from,
        valid_to=valid_to,
        currency=shape.currency,
        share=Share(shape.share),
    )
    return Host(commitment, models, {**free, **by_time, **exact_rates(shape.rates)})


def price_hosts(hosts: Sequence[Host]) -> tuple[ProviderPrices, ...]:
    """Give the prices of hosted models by provider; raises BadFile for a model on two hosts."""
    rows: dict[str, dict[str, list[Price]]] = {}
    for host in sorted(hosts, key=lambda host: host.commitment.valid_from):
        for model, price in host.prices.items():
            rows.setdefault(price.provider, {}).setdefault(model, []).append(price)
    for models in rows.values():
        for model, prices in models.items():
            _require_apart(model, prices)
    return tuple(
        ProviderPrices(
            provider=provider,
            names=(provider,),
            models=tuple(
                ModelPrices(provider, model, (model,), tuple(prices))
                for model, prices in models.items()
            ),
        )
        for provider, models in rows.items()
    )


def _require_apart(model: str, prices: Iterable[Price]) -> None:
    for earlier, later in pairwise(prices):
        ends, begins = earlier.valid_to, later.valid_from
        if ends is None or (begins is not None and begins < ends):
            raise BadFile(f"model {model!r} is on {earlier.source} and {later.source} at one time")


def _covers(covers: Mapping[str, str | list[str]]) -> dict[str, tuple[str, ...]]:
    patterns: dict[str, tuple[str, ...]] = {}
    for name, value in covers.items():
        if name == "provider":
            raise InvalidInput("covers: the provider is a key of the commitment itself")
        values = [value] if isinstance(value, str) else value
        if not values:
            raise InvalidInput(f"covers.{name} needs at least one value")
        spelt = [text.lower() if name == "model" else text for text in values]
        patterns[name.removeprefix("tag:")] = tuple(
            checked_pattern(text, f"covers.{name}") for text in spelt
        )
    return patterns
