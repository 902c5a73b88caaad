"""A price on the wire and on the screen: row, rates, why it applies and what its flags mean."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from tokenbudget.domain.money import PICOS_PER_UNIT
from tokenbudget.domain.periods import format_instant
from tokenbudget.domain.price_explanations import PriceExplanation, flag_meaning
from tokenbudget.domain.prices import Price
from tokenbudget.domain.schedules import TOKEN_UNIT_SET, PriceMatch

TOKENS_SHOWN: Final = 10**6
WEEKDAY_INITIALS: Final = "MTWTFSS"


def describe_explanation(explanation: PriceExplanation) -> dict[str, Any]:
    """Give the wire form of a look-up; ``used`` is null when the input is too small for a step."""
    question, used = explanation.question, explanation.used
    return {
        "provider": question.provider,
        "model": question.model,
        "at": format_instant(question.occurred_at),
        "service_tier": question.service_tier,
        "region": question.region,
        "account": question.account,
        "input_tokens": question.input_tokens,
        "used": None if used is None else describe_match(used),
        "reasons": list(explanation.reasons),
        "flags": [
            {"flag": flag, "meaning": flag_meaning(flag)} for flag in (used.flags if used else ())
        ],
        "steps": [describe_match(step) for step in explanation.steps],
    }


def describe_match(match: PriceMatch) -> dict[str, str]:
    """Give the facts of a match by name, all as text; rates of tokens are for a million of them.

    Rates are the published ones in the row's own currency; those under contract follow, where there
    is one.
    """
    price, selector = match.price, match.price.selector
    facts = {
        "price_ref": price.price_ref,
        "provider": price.provider,
        "model": price.model,
        "tier": selector.tier or "",
        "region": selector.region or "",
        "above_input_tokens": "" if selector.above is None else str(selector.above),
        "daily_hours": _hours(price),
        "valid_from": format_instant(price.valid_from) if price.valid_from else "",
        "valid_to": format_instant(price.valid_to) if price.valid_to else "",
        "sunset": format_instant(match.model.sunset) if match.model.sunset else "",
        "currency": price.currency,
    }
    rates = {
        rate_name(unit): _rate_text(unit, price.rates[unit] * match.ratio_of(unit))
        for unit in price.rates
    }
    provenance = {"source": price.source, "note": price.note, "flags": ", ".join(match.flags)}
    return {**facts, **rates, **_contracted(match), **provenance}


def rate_name(unit: str) -> str:
    """Give what a rate is called: ``million_input_tokens``, ``web_searches``."""
    return f"million_{unit}" if unit in TOKEN_UNIT_SET else unit


def _contracted(match: PriceMatch) -> dict[str, str]:
    """Give the rates under contract, in the ledger currency, of the units that the row rates."""
    if not match.contracts:
        return {}
    sheet = match.contracted
    ratio = Fraction(sheet.numerator, sheet.denominator)
    return {
        "contracted_currency": match.currency,
        **{
            f"contracted_{rate_name(unit)}": _rate_text(unit, sheet.rates[unit] * ratio)
            for unit in match.price.rates
        },
    }


def _hours(price: Price) -> str:
    hours = price.selector.hours
    if hours is None:
        return ""
    spans = (
        f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
        for start, end in hours.spans
    )
    weekdays = "".join(
        initial if day in hours.weekdays else "-" for day, initial in enumerate(WEEKDAY_INITIALS)
    )
    return f"{', '.join(spans)} {weekdays} {hours.zone_name}"


def _rate_text(unit: str, picos: Fraction) -> str:
    count = TOKENS_SHOWN if unit in TOKEN_UNIT_SET else 1
    shown = picos * count / PICOS_PER_UNIT
    return f"{(Decimal(shown.numerator) / shown.denominator).normalize():f}"
