"""Fitting the token multipliers of model families to what providers reported.

It owns which calls may be compared. It refuses to count again: the text is never kept, so what the
quota check counted is what can be compared with the usage that settled its hold.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from tokenbudget.domain.calibration import Fit, TokenPair, fit_multiplier
from tokenbudget.domain.usage import ESTIMATED_PREFIX
from tokenbudget.store.calibration import CountedUsage, list_counted_usage
from tokenbudget.store.db import Database
from tokenbudget.tokens import EstimatorFamily, family_of

MAX_PAIRS: Final = 200_000
"""Most settled holds that are compared, the latest ones."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One family, how many telling pairs it has and their fit, None when they are too few."""

    family: EstimatorFamily
    pair_count: int
    fit: Fit | None


def calibrate(database: Database) -> list[Calibration]:
    """Give what the ledger says of every family it has calls of, by name. Nothing is written.

    A call counts when its text was counted by the vocabulary of its family as it is now, the model
    that answered is of that family too, and the provider reported its input.
    """
    with database.reading() as session:
        calls = list_counted_usage(session, limit=MAX_PAIRS)
    pairs: dict[EstimatorFamily, list[TokenPair]] = defaultdict(list)
    for call in calls:
        family = _comparable_family(call)
        if family is not None:
            pairs[family].append(TokenPair(call.counted_tokens, call.input_tokens))
    return [
        Calibration(
            family, sum(pair.is_telling for pair in pairs[family]), fit_multiplier(pairs[family])
        )
        for family in sorted(pairs, key=lambda family: family.name)
    ]


def _comparable_family(call: CountedUsage) -> EstimatorFamily | None:
    """Give the family of a call whose two counts may be compared, None for any other call."""
    family = family_of(call.used_model)
    is_comparable = (
        family == family_of(call.asked_model)
        and family.encoding == call.counting_method
        and ESTIMATED_PREFIX not in (call.flags or "")
    )
    return family if is_comparable else None
