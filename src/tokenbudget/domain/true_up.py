"""What providers say was used beside what was metered: tokens and requests, never money.

It owns how the two sides meet, and how far estimates were off. It refuses files, SQL and prices.
They meet by provider, model, UTC day and the name usage goes under there: the key a provider
reports if some metered usage has that name, else its project, else its account. Where a model's day
has no name in common, its names are left aside and the day is compared as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from tokenbudget.domain.calibration import BASIS_POINTS, Fit, TokenPair, fit_multiplier
from tokenbudget.domain.money import divide_half_even

NAMELESS: Final = ""


class Quantities(NamedTuple):
    """Tokens and requests; ``requests`` is None where nobody counts them, which is not zero."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """What the ledger counts of a model on a UTC day; ``account`` is the name usage gave."""

    provider: str
    model: str
    day: datetime
    account: str | None
    quantities: Quantities


@dataclass(frozen=True, slots=True)
class ProviderUsage:
    """What a provider says of a model on a UTC day, under the names it knows."""

    provider: str
    model: str | None
    day: datetime
    quantities: Quantities
    account: str = NAMELESS
    project: str | None = None
    api_key: str | None = None


class TrueUpKey(NamedTuple):
    """What is compared, in the order of the rows."""

    provider: str
    model: str
    day: datetime
    account: str


@dataclass(frozen=True, slots=True)
class TrueUpRow:
    """Both sides of one thing; a side is None where it says nothing, which is not zero.

    ``account`` of the key is empty where names were left aside or there are none.
    """

    key: TrueUpKey
    metered: Quantities | None
    reported: Quantities | None

    @property
    def missing(self) -> Quantities:
        """Give reported less metered; requests are None unless both sides count them."""
        metered = self.metered or Quantities(requests=0)
        reported = self.reported or Quantities(requests=0)
        both = metered.requests is not None and reported.requests is not None
        return Quantities(
            reported.input_tokens - metered.input_tokens,
            reported.output_tokens - metered.output_tokens,
            (reported.requests or 0) - (metered.requests or 0) if both else None,
        )


@dataclass(frozen=True, slots=True)
class EstimatedCall:
    """A call of which one witness estimated the input and another one measured it."""

    model: str
    estimated_tokens: int
    reported_tokens: int


@dataclass(frozen=True, slots=True)
class EstimateFactor:
    """How far the estimates of a family were off.

    ``factor`` is by what they would have to be multiplied to add up to what was reported, in basis
    points. ``fit`` says more, once there are calls enough.
    """

    family: str
    call_count: int
    estimated_tokens: int
    reported_tokens: int
    factor: int
    fit: Fit | None


@dataclass(frozen=True, slots=True)
class Spelling:
    """The one name by which both sides know a provider, and a model of it."""

    provider: Callable[[str], str]
    model: Callable[[str, str], str]


def compare_usage(
    metered: Iterable[MeteredUsage], reported: Iterable[ProviderUsage], spelling: Spelling
) -> list[TrueUpRow]:
    """Give the rows in order; the sums of each side are those of what was given."""
    ours: dict[TrueUpKey, Quantities] = {}
    names: dict[str, set[str]] = defaultdict(set)
    for usage in metered:
        provider = spelling.provider(usage.provider)
        account = usage.account or NAMELESS
        names[provider].add(account)
        model = spelling.model(provider, usage.model)
        _add(ours, TrueUpKey(provider, model, usage.day, account), usage.quantities)
    theirs: dict[TrueUpKey, Quantities] = {}
    for line in reported:
        provider = spelling.provider(line.provider)
        model = NAMELESS if line.model is None else spelling.model(provider, line.model)
        key = TrueUpKey(provider, model, line.day, _name_of(line, names[provider]))
        _add(theirs, key, line.quantities)
    strangers = _days_without_common_name(ours, theirs)
    ours, theirs = _without_names(ours, strangers), _without_names(theirs, strangers)
    keys = sorted(ours.keys() | theirs.keys())
    return [TrueUpRow(key, ours.get(key), theirs.get(key)) for key in keys]


def factors_of(
    calls: Sequence[EstimatedCall], family_of: Callable[[str], str]
) -> list[EstimateFactor]:
    """Give, by family, how far the estimates of these calls were off."""
    by_family: dict[str, list[TokenPair]] = defaultdict(list)
    for call in calls:
        if call.estimated_tokens > 0 and call.reported_tokens > 0:
            pair = TokenPair(call.estimated_tokens, call.reported_tokens)
            by_family[family_of(call.model)].append(pair)
    return [_factor(family, pairs) for family, pairs in sorted(by_family.items())]


def _factor(family: str, pairs: Sequence[TokenPair]) -> EstimateFactor:
    estimated = sum(pair.counted for pair in pairs)
    reported = sum(pair.reported for pair in pairs)
    factor = divide_half_even(reported * BASIS_POINTS, estimated)
    return EstimateFactor(family, len(pairs), estimated, reported, factor, fit_multiplier(pairs))


def _name_of(line: ProviderUsage, known: set[str]) -> str:
    names = [name for name in (line.api_key, line.project, line.account) if name]
    return next((name for name in names if name in known), names[0] if names else NAMELESS)


def _add(sums: dict[TrueUpKey, Quantities], key: TrueUpKey, more: Quantities) -> None:
    known = sums.get(key)
    sums[key] = more if known is None else _sum(known, more)


def _sum(first: Quantities, second: Quantities) -> Quantities:
    counts = [each for each in (first.requests, second.requests) if each is not None]
    return Quantities(
        first.input_tokens + second.input_tokens,
        first.output_tokens + second.output_tokens,
        sum(counts) if counts else None,
    )


def _days_without_common_name(
    ours: Mapping[TrueUpKey, Quantities], theirs: Mapping[TrueUpKey, Quantities]
) -> set[tuple[str, str, datetime]]:
    """Give the days of models that both sides know, by names of which none is the same."""
    common = {key[:3] for key in ours.keys() & theirs.keys()}
    return ({key[:3] for key in ours} & {key[:3] for key in theirs}) - common


def _without_names(
    sums: Mapping[TrueUpKey, Quantities], days: set[tuple[str, str, datetime]]
) -> dict[TrueUpKey, Quantities]:
    kept: dict[TrueUpKey, Quantities] = {}
    for key, quantities in sums.items():
        target = key._replace(account=NAMELESS) if key[:3] in days else key
        _add(kept, target, quantities)
    return kept
