"""The command ``cost``: usage events in, the same events with their cost out. Nothing is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
import typer

from tokenbudget.bootstrap import choose_estimators, open_price_list
from tokenbudget.domain.allocation import allocate
from tokenbudget.domain.errors import BadFile
from tokenbudget.domain.money import format_nanos
from tokenbudget.domain.price_lists import PriceList
from tokenbudget.domain.rating import RatingFacts, rate
from tokenbudget.domain.usage import UsageEvent
from tokenbudget.formats.events import Door, Rejection, parse_items
from tokenbudget.services.usage import call_of
from tokenbudget.settings import load_settings

STDIN: Final = "-"
BATCH_LINES: Final = 1_000
# Events that were never sent may lie at any time and need no id of their own.
OPEN_DOOR: Final = Door(datetime.max.replace(tzinfo=UTC), timedelta(0), idempotency_key="line")


def cost(
    file: Annotated[str, typer.Argument(help="Usage events, one JSON object a line; - is stdin.")],
) -> None:
    """Rate usage events without storing them; lines that are no events are told on stderr."""
    settings = load_settings()
    choose_estimators(settings)
    price_list = open_price_list(settings)
    rejected = 0
    with _open_lines(file) as lines:
        for number, outcome in _rate_lines(lines, price_list):
            if isinstance(outcome, Rejection):
                rejected += 1
                print(f"{file}: line {number}: {outcome.code}: {outcome.detail}", file=sys.stderr)
            else:
                sys.stdout.write(outcome.decode() + "\n")
    if rejected:
        raise typer.Exit(2)


@contextmanager
def _open_lines(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115
    except OSError as error:
        raise BadFile(f"{file}: cannot be read: {error.strerror}", file=file) from None
    with stream:
        yield stream


def _rate_lines(
    lines: Iterable[bytes], price_list: PriceList
) -> Iterator[tuple[int, bytes | Rejection]]:
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    while batch := list(islice(numbered, BATCH_LINES)):
        parsed = parse_items([line for _, line in batch], OPEN_DOOR)
        for (number, line), item in zip(batch, parsed, strict=True):
            yield (
                number,
                item if isinstance(item, Rejection) else _with_cost(line, item, price_list),
            )


def _with_cost(line: bytes, event: UsageEvent, price_list: PriceList) -> bytes:
    dimensions = allocate(call_of(event), event.tags, event.occurred_at)
    covering = price_list.find_commitment(dimensions, event.occurred_at)
    facts = RatingFacts(
        provider=event.provider,
        model=event.model,
        occurred_at=event.occurred_at,
        service_tier=event.service_tier,
        region=event.region,
        account=event.account,
        commitment=covering.id if covering else None,
    )
    charge = rate(event.quantities, facts, price_list)
    fields: dict[str, Any] = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    fields["list_cost"] = _wire(charge.list_nanos)
    fields["contracted_cost"] = _wire(charge.contracted_nanos)
    fields["effective_cost"] = _wire(charge.effective_nanos)
    fields["currency"] = price_list.currency
    fields["basis"] = charge.basis if charge.list_nanos is None else event.basis
    fields["flags"] = [*event.flags, *charge.flags]
    return msgspec.json.encode(fields)


def _wire(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)
