"""What policies say of calls that are placed alike: resolved once, then remembered beside it.

It owns how a model's names, sunset, lifecycle and owner are found and for how long an answer holds.
It refuses to judge (``domain/policies.py``) and to know what room there is (``quota.py``).

A check under no policy pays for looking at what its placement remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from tokenbudget.domain.allocation import DimensionSet
from tokenbudget.domain.holds import Notice
from tokenbudget.domain.periods import QUARTER_HOUR, Period
from tokenbudget.domain.policies import (
    SUNSET_NOTICE,
    KnownCall,
    Policy,
    Rung,
    judge_call,
    ladder_of,
    least_output_of,
    lifecycle_of,
)
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.prices import ModelPrices
from tokenbudget.domain.rollups import quarter_hour_at
from tokenbudget.services.rulebook import Rulebook

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """What policies say of calls placed alike, at every instant of ``period``.

    ``rungs`` are (provider, model) that may stand in, best first; ``min_output_tokens`` the least
    that an answer is reduced to.
    """

    period: Period
    policies: tuple[Policy, ...]
    denials: tuple[Notice, ...]
    warnings: tuple[Notice, ...]
    rungs: tuple[tuple[str, str], ...]
    min_output_tokens: int


class Screened(Protocol):
    """Anything that knows its dimensions, and remembers its last gate."""

    dimensions: DimensionSet
    gate: Gate | None


def gate_of(target: Screened, rules: Rulebook, now: datetime) -> Gate:
    """Give what the policies say of a call placed there; targets remember it."""
    gate = target.gate
    if gate is None or not gate.period.contains(now):
        policies = rules.policies.matching(target.dimensions) if gate is None else gate.policies
        gate = target.gate = make_gate(target.dimensions, policies, rules, now)
    return gate


def make_gate(
    dimensions: DimensionSet, policies: tuple[Policy, ...], rules: Rulebook, now: datetime
) -> Gate:
    """Give what these policies say of a call with these dimensions.

    What shadow policies would have denied goes to the log, each time a gate is made.
    """
    prices = _find_model(dimensions.provider, dimensions.model, rules.price_list, now)
    sunset = prices.sunset if prices is not None else None
    owners = rules.policies.owners_at(now)
    call = KnownCall(
        names=_names_of(dimensions, prices, rules.price_list),
        team=dimensions.team,
        feature=dimensions.feature,
        lifecycle=lifecycle_of(owners, dimensions.feature),
        owner=owners.owner_of(dimensions.team, dimensions.feature),
        sunset=sunset,
    )
    verdict = judge_call(policies, call, now)
    for notice in verdict.shadowed:
        logger.info(
            "policy_would_deny",
            code=notice.code,
            detail=notice.detail,
            team=dimensions.team,
            feature=dimensions.feature,
        )
    return Gate(
        period=_period_of(sunset, now),
        policies=policies,
        denials=tuple(verdict.denials),
        warnings=tuple(verdict.warnings),
        rungs=_rungs_of(ladder_of(policies), dimensions, rules.price_list, now),
        min_output_tokens=least_output_of(policies),
    )


def _period_of(sunset: datetime | None, now: datetime) -> Period:
    """Give how long an answer holds: owners change on quarter-hours, and aliases are asked then."""
    start = quarter_hour_at(now)
    turns = () if sunset is None else (sunset - SUNSET_NOTICE, sunset)
    return Period(
        max([start, *(turn for turn in turns if turn <= now)]),
        min([start + QUARTER_HOUR, *(turn for turn in turns if turn > now)]),
    )


def _names_of(
    dimensions: DimensionSet, prices: ModelPrices | None, price_list: PriceList
) -> tuple[str, ...]:
    """Give every name of the model, lower case: as asked for and as the price book has it.

    Each also behind its provider. So a dated or moving name does not get around a policy.
    """
    provider, model = dimensions.provider.lower(), dimensions.model.lower()
    if not model:
        return ()
    known_provider = price_list.canonical_provider(provider) or provider
    models = [model] if prices is None else [model, prices.model.lower()]
    names = [
        f"{each_provider}/{each_model}"
        for each_model in models
        for each_provider in (provider, known_provider)
    ]
    return tuple(dict.fromkeys([*names, *models]))


def _rungs_of(
    ladder: tuple[Rung, ...], dimensions: DimensionSet, price_list: PriceList, now: datetime
) -> tuple[tuple[str, str], ...]:
    """Give the rungs behind the model that is asked for, all if it is not on the ladder."""
    rungs = [(rung.provider or dimensions.provider, rung.model) for rung in ladder]
    if not rungs or not dimensions.model:
        return ()
    asked = _identity(dimensions.provider, dimensions.model, price_list, now)
    places = [
        place
        for place, (provider, model) in enumerate(rungs)
        if _identity(provider, model, price_list, now) == asked
    ]
    return tuple(rungs[places[0] + 1 :] if places else rungs)


def _identity(provider: str, model: str, price_list: PriceList, now: datetime) -> tuple[str, str]:
    prices = _find_model(provider, model, price_list, now)
    known_provider = price_list.canonical_provider(provider) or provider.lower()
    return known_provider, model.lower() if prices is None else prices.model


def _find_model(
    provider: str, model: str, price_list: PriceList, now: datetime
) -> ModelPrices | None:
    match = price_list.schedule(provider, model, None, None).match_at(now, 0)
    return None if match is None else match.model
