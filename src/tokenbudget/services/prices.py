"""Looking a price up, for the command and the API alike."""

from __future__ import annotations

from tokenbudget.domain.errors import NotFound
from tokenbudget.domain.price_explanations import PriceExplanation, PriceQuestion, explain_price
from tokenbudget.domain.price_lists import PriceList


def lookup_price(price_list: PriceList, question: PriceQuestion) -> PriceExplanation:
    """Give the price that applies and why; raises NotFound with the word for why there is none."""
    found = explain_price(price_list, question)
    if isinstance(found, str):
        raise NotFound(f"{question.provider} {question.model} has no price: {found}", reason=found)
    return found
