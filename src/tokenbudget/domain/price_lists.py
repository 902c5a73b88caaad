"""Which price applies to a usage. It owns providers' words and the names of models.

It refuses to know rates (``prices.py``), to choose among the rows of a model (``schedules.py``) and
to rate (``rating.py``). For every (provider, model, tier, region, account) asked about, a
``Schedule`` is prepared once. Looking up is then a bisection, and the vectorised twin in
``frames/`` reads the same schedules.

No price at all is a word too: ``provider_unknown``, ``model_unknown`` or ``no_price_at_time``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from tokenbudget.domain.agreements import NO_AGREEMENTS, Agreements
from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.commitments import Commitment, find_covering
from tokenbudget.domain.patterns import pattern_expression
from tokenbudget.domain.prices import STANDARD_TIER, ModelPrices, ProviderPrices, normalise_word
from tokenbudget.domain.schedules import (
    NO_SPELLS,
    PriceMatch,
    Question,
    Schedule,
    Stretch,
    build_schedule,
    convert,
)

MAX_CACHED_SCHEDULES: Final = 65_536
STANDARD_WORDS: Final = frozenset({"", "standard", "default", "auto", "on_demand"})
NEUTRAL_PREFIXES: Final = frozenset({"models", "publishers"})
COMPACT_DATE: Final = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|\Z)")

PROVIDER_UNKNOWN: Final = "provider_unknown"
MODEL_UNKNOWN: Final = "model_unknown"


@dataclass(frozen=True, slots=True)
class NameAnswer:
    """What a model's name means over time, and by what it was recognised.

    ``spelling`` is the form in which something answered to it: the model of that name, a moving
    alias, or ``pattern`` where that is not None.
    """

    stretches: tuple[Stretch, ...]
    spelling: str
    pattern: str | None = None
    flags: tuple[str, ...] = ()


class PriceList:
    """A versioned set of prices; what it answers depends on its sources alone.

    ``version`` is the sha256 of the sources. ``currency`` is the ledger's: rows in another one are
    found, but cannot be rated without a conversion. Contracts of the ``agreements`` are folded into
    its schedules. The only thing that changes inside are bounded caches.
    """

    def __init__(
        self,
        providers: Sequence[ProviderPrices],
        *,
        version: str,
        currency: str = "USD",
        agreements: Agreements = NO_AGREEMENTS,
    ) -> None:
        self.providers = tuple(providers)
        self.version = version
        self.currency = currency
        self.agreements = agreements
        self.contract_accounts = agreements.accounts
        self._matchers = {prices.provider: _Matcher(prices) for prices in self.providers}
        self._provider_by_word = {
            normalise_word(word): prices.provider
            for prices in self.providers
            for word in prices.names
        }
        self._schedules: dict[tuple[str, str, str | None, str | None, str | None], Schedule] = {}
        self._converted: dict[tuple[str, tuple[str, ...], date], PriceMatch] = {}

    def with_agreements(self, agreements: Agreements) -> PriceList:
        """Give the same prices with what was agreed, under a version that says so."""
        text = f"{self.version}\n{agreements.version}"
        return PriceList(
            (*self.providers, *agreements.hosted),
            version=hashlib.sha256(text.encode()).hexdigest(),
            currency=self.currency,
            agreements=agreements,
        )

    def find_commitment(self, dimensions: DimensionSet, instant: datetime) -> Commitment | None:
        """Give the commitment that covers usage with these dimensions, None when none does."""
        commitments = self.agreements.commitments
        if not commitments:
            return None
        provider = self.canonical_provider(dimensions.provider) or ""
        return find_covering(commitments, provider, dimensions, instant)

    def canonical_provider(self, word: str) -> str | None:
        """Give the provider that a word means, None for a word of nobody."""
        return self._provider_by_word.get(normalise_word(word))

    def find_name(self, provider: str, model: str) -> NameAnswer | None:
        """Give what the name means, also to providers this one falls back on; None if nothing."""
        own = self._matchers.get(self.canonical_provider(provider) or "")
        answer = own.resolve(model) if own else None
        for fallback in own.prices.fallback if own and answer is None else ():
            answer = self._matchers[fallback].resolve(model)
            if answer is not None:
                return replace(answer, flags=("provider_fallback", *answer.flags))
        return answer

    def find(
        self,
        provider: str,
        model: str,
        *,
        occurred_at: datetime,
        service_tier: str | None = None,
        region: str | None = None,
        total_input_tokens: int = 0,
    ) -> PriceMatch | None:
        """Give the row that applies, every fallback flagged; None when there is no price.

        It is in the ledger currency where it can be. Contracts of one account are not considered.
        """
        schedule = self.schedule(provider, model, service_tier, region)
        match = schedule.match_at(occurred_at, total_input_tokens)
        return None if match is None else self.in_ledger_currency(match, occurred_at)

    def in_ledger_currency(self, match: PriceMatch, instant: datetime) -> PriceMatch:
        """Give the match by the quote of the instant's UTC day; unchanged when none converts it."""
        currency = match.price.currency
        if currency == self.currency:
            return match
        key = (match.price_digest, match.flags, instant.date())
        converted = self._converted.get(key)
        if converted is None:
            if len(self._converted) >= MAX_CACHED_SCHEDULES:
                self._converted.clear()
            quoted = self.agreements.exchange.conversion_at(currency, self.currency, instant)
            converted = match if quoted is None else convert(match, quoted)
            self._converted[key] = converted
        return converted

    def quoted_on(self, currency: str, instant: datetime) -> date | None:
        """Give the day of the quote that converts a currency then, None when none does."""
        quoted = self.agreements.exchange.conversion_at(currency, self.currency, instant)
        return quoted.day if quoted else None

    def schedule(
        self,
        provider: str,
        model: str,
        service_tier: str | None,
        region: str | None,
        account: str | None = None,
    ) -> Schedule:
        """Give the prices of a (provider, model, tier, region) for all time; it is cached.

        ``account`` matters only where a contract names it.
        """
        if account not in self.contract_accounts:
            account = None
        key = (provider, model, service_tier, region, account)
        schedule = self._schedules.get(key)
        if schedule is None:
            if len(self._schedules) >= MAX_CACHED_SCHEDULES:
                self._schedules.clear()
            schedule = self._schedules[key] = self._build(*key)
        return schedule

    def _build(
        self,
        provider: str,
        model: str,
        service_tier: str | None,
        region: str | None,
        account: str | None,
    ) -> Schedule:
        canonical = self.canonical_provider(provider)
        if canonical is None:
            return Schedule((), NO_SPELLS, PROVIDER_UNKNOWN)
        answer = self.find_name(provider, model)
        if answer is None:
            return Schedule((), NO_SPELLS, MODEL_UNKNOWN)
        tier = normalise_word(service_tier or "")
        question = Question(
            tier=STANDARD_TIER if tier in STANDARD_WORDS else tier,
            region=region.strip().lower() if region else None,
            flags=answer.flags,
            name=model.strip().lower(),
            provider=canonical,
            account=account,
            contracts=self.agreements.contracts,
        )
        return build_schedule(answer.stretches, question)


class _Matcher:
    """Finds the model of one provider that a name means.

    Exact names come first (its own is one, whatever its patterns), then moving aliases, then
    patterns in the order of the file. A name that nothing answers to is tried again without the
    provider's own prefix and with a compact date spelt with dashes: other spellings of one name.
    """

    def __init__(self, prices: ProviderPrices) -> None:
        self.prices = prices
        self._models = {model.model.lower(): model for model in prices.models}
        self._exact: dict[str, ModelPrices] = {}
        self._patterns: list[tuple[str, re.Pattern[str], ModelPrices]] = []
        self._prefixes = NEUTRAL_PREFIXES | {normalise_word(word) for word in prices.names}
        for model in prices.models:
            for pattern in model.patterns:
                self._add(pattern, model)
        for name, model in self._models.items():
            self._exact.setdefault(name, model)

    def resolve(self, name: str) -> NameAnswer | None:
        """Give what the name means over time and the flags it earns; None when it is unknown."""
        for spelling in _spellings(name.strip().lower(), self._prefixes):
            if spelling in self._exact:
                return NameAnswer((Stretch(None, self._exact[spelling]),), spelling)
            if spelling in self.prices.aliases:
                targets = tuple(
                    Stretch(target.valid_from, self._models[target.model.lower()])
                    for target in self.prices.aliases[spelling]
                )
                return NameAnswer(targets, spelling, flags=("alias",))
            for pattern, expression, model in self._patterns:
                if expression.search(spelling):
                    return NameAnswer((Stretch(None, model),), spelling, pattern)
        return None

    def _add(self, pattern: str, model: ModelPrices) -> None:
        expression = pattern_expression(pattern)
        if expression is None:
            self._exact.setdefault(pattern, model)
        else:
            self._patterns.append((pattern, re.compile(expression), model))


def _spellings(name: str, prefixes: frozenset[str]) -> Iterator[str]:
    yield name
    bare = name
    while "/" in bare and normalise_word(bare.split("/", 1)[0]) in prefixes:
        bare = bare.split("/", 1)[1]
        yield bare
    dashed = COMPACT_DATE.sub(r"-\1-\2-\3", bare)
    if dashed != bare:
        yield dashed
