"""Three sizes of a model, two that end, and the policies put upon them.

Of ``make_check`` (10,000 tokens in, at most 5,000 out) ``large`` costs twenty cents at most,
``medium`` two and ``small`` a fifth of one.
"""

from __future__ import annotations

from typing import Any, Final

from tests.builders import PLAIN_RATES, ask, make_budget, set_budgets
from tests.price_builders import day, make_model, make_price, make_price_list
from tokenbudget.domain.documents import Applied
from tokenbudget.domain.prices import ProviderPrices
from tokenbudget.formats.policies import parse_policies
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.policies import apply_policies

LARGE_RATES: Final = {"input_tokens": 10_000_000, "output_tokens": 20_000_000}
SMALL_RATES: Final = {"input_tokens": 100_000, "output_tokens": 200_000}
SIZES: Final = make_price_list(
    make_model(
        make_price(LARGE_RATES, model="large"), model="large", patterns=("large", "large-2026*")
    ),
    make_model(make_price(PLAIN_RATES, model="medium"), model="medium"),
    make_model(make_price(SMALL_RATES, model="small"), model="small"),
    make_model(make_price(PLAIN_RATES, model="ended"), model="ended", sunset=day("2026-11-01")),
    make_model(make_price(PLAIN_RATES, model="ending"), model="ending", sunset=day("2026-12-01")),
    others=(
        ProviderPrices(
            provider="reseller",
            names=("reseller",),
            models=(
                make_model(
                    make_price(SMALL_RATES, provider="reseller", model="tiny"),
                    provider="reseller",
                    model="tiny",
                ),
            ),
        ),
    ),
)
LADDER: Final = ["large", "medium", "small"]


def put_policies(ledger: Ledger, *policies: dict[str, Any]) -> Applied:
    """Put these hard policies, which all have an id of their own, in place of all others."""
    entries = [
        {"id": f"p{number}", "mode": "hard", **policy}
        for number, policy in enumerate(policies, start=1)
    ]
    draft = parse_policies({"policy": entries})
    return apply_policies(ledger.database, draft, now=ledger.clock())


def limit_to(ledger: Ledger, limit: str, **overrides: Any) -> None:
    """Give everything a hard budget of that many dollars."""
    set_budgets(ledger.database, make_budget(limit=limit, **overrides), now=ledger.clock())


def asked(ledger: Ledger, **overrides: Any) -> tuple[str, str | None, int | None]:
    """Check ``make_check(**overrides)`` for the large model; give answer, model and output."""
    answer = ask(ledger, **{"model": "large", **overrides})
    limits = answer["limits"]
    return answer["decision"], limits["model"], limits["max_output_tokens"]


def codes(answer: dict[str, Any], kind: str) -> list[str]:
    """Give the codes of an answer's ``reasons`` or ``warnings``."""
    return [notice["code"] for notice in answer[kind]]
