"""One call as its witnesses tell of it: the SDK, a gateway, a span, the provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from tests.builders import NOBODY, ONE_DAY, broken_rules, make_event, rows_of
from tokenbudget.domain.usage import Witness
from tokenbudget.formats.events import Door, parse_items
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.placement import Caller
from tokenbudget.services.usage import RecordAnswer, RecordUsage
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ChargeRow, UsageRow

SDK, GATEWAY, OTLP, PROVIDER = Witness.SDK, Witness.GATEWAY, Witness.OTLP, Witness.PROVIDER
RESPONSE = "resp_0123456789abcdef"
SOURCES = {SDK: "app", GATEWAY: "proxy", OTLP: "otlp", PROVIDER: "invoice"}


def told(witness: Witness, **overrides: Any) -> dict[str, Any]:
    """Give the wire form of what a witness tells of the call RESPONSE, two cents dear."""
    source = SOURCES[witness]
    return make_event(
        **{"source": source, "event_id": f"{source}-1", "response_id": RESPONSE, **overrides}
    )


def tell_work(
    ledger: Ledger,
    witness: Witness,
    events: Iterable[Mapping[str, Any]],
    *,
    caller: Caller = NOBODY,
) -> RecordUsage:
    """Give the writer's work for events of one kind of witness."""
    bodies = [msgspec.json.encode(event) for event in events]
    door = Door(ledger.clock(), ONE_DAY, witness=witness)
    return RecordUsage(parse_items(bodies, door), caller)


def tell(ledger: Ledger, witness: Witness, **overrides: Any) -> RecordAnswer:
    """Record what a witness tells in a batch of its own and give the answer."""
    [answer] = ledger.apply([tell_work(ledger, witness, [told(witness, **overrides)])])
    assert isinstance(answer, RecordAnswer)
    return answer


def standing_nanos(database: Database) -> list[tuple[str, int | None]]:
    """Give (event id, effective nanos) of every charge that stands, having found all in order."""
    assert broken_rules(database) == []
    refs = {row["id"]: row["event_ref"] for row in rows_of(database, UsageRow)}
    charges = rows_of(database, ChargeRow)
    revised = {
        row["reverses_usage_id"] for row in charges if row["reverses_usage_id"] != row["usage_id"]
    }
    last: dict[int, sa.RowMapping] = {}
    for row in charges:
        if row["reverses_usage_id"] in (None, row["usage_id"]):
            last[row["usage_id"]] = row
    return [
        (refs[usage_id], row["effective_nanos"])
        for usage_id, row in last.items()
        if row["reverses_usage_id"] is None and usage_id not in revised
    ]


def effective_total(database: Database) -> int:
    """Give the sum of all charges in nanos."""
    return sum(row["effective_nanos"] or 0 for row in rows_of(database, ChargeRow))
