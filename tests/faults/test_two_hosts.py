"""Two servers with two workers each, as on two hosts, share nothing but the database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.faults.conftest import Place
from tests.faults.desk import make_budget, open_desk
from tests.faults.overshoot import require_right_books
from tests.server_process import serving

CALLERS = 200
ESTIMATE = Decimal("0.05")
LIMIT = Decimal("1.00")
TAGS = {"team": "shared"}
CONNECTIONS = 50


async def ask_both(urls: list[str]) -> tuple[list[dict[str, Any]], list[bool]]:
    """Give the answers to checks sent at once to two servers, and who grants what came back."""
    async with (
        open_desk(urls[0], connections=CONNECTIONS) as here,
        open_desk(urls[1], connections=CONNECTIONS) as there,
    ):
        await make_budget(here, TAGS, LIMIT)
        answers = await asyncio.gather(
            *(desk.check(TAGS, ESTIMATE) for desk in (here, there) for _ in range(CALLERS // 2))
        )
        granted = [answer["hold_id"] for answer in answers if answer["decision"] == "allow"]
        # What one host granted is settled and given back at the other.
        await there.settle(granted[0], TAGS, cents=1)
        await here.release(granted[1])
        fits = [await here.fits_exactly(TAGS, 2 * ESTIMATE - Decimal("0.01"))]
        fits.append(not await there.fits_exactly(TAGS, Decimal("0.01")))
        await require_right_books(there)
    return answers, fits


def test_checks_at_two_hosts_admit_no_more_than_the_limit(postgres_place: Place) -> None:
    other = replace(postgres_place, directory=postgres_place.directory.parent / "other")
    with (
        serving(postgres_place.directory, **postgres_place.settings) as first,
        serving(other.directory, **other.settings) as second,
    ):
        answers, fits = asyncio.run(ask_both([first.url, second.url]))

    assert sum(answer["decision"] == "allow" for answer in answers) == LIMIT / ESTIMATE
    assert sum(answer["decision"] == "deny" for answer in answers) == CALLERS - LIMIT / ESTIMATE
    assert fits == [True, True]
