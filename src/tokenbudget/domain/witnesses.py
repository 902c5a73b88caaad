"""Several witnesses of one call: which of them counts.

It owns the ranking; it refuses to find out who tells of the same call (``identity.py`` has the
keys) and to charge anything. What an event said last is its telling. One that was voided says
nothing any more. Of the others the first in this order counts:

    usage that is known before usage that is not
    figures that were measured before figures that were estimated
    the higher witness: provider, gateway, SDK, OTLP
    what was counted so far and has been corrected by its own event
    the one that reports more units
    what was counted so far, then what was told first
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

EventName = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Telling:
    """What one usage tells of a call.

    ``event`` is the source and the event it is a revision of; ``units`` how many units it reports.
    """

    usage_id: int
    event: EventName
    revision: int
    witness: int
    units: int
    is_void: bool = False
    is_known: bool = True
    is_estimated: bool = False


def list_in_force(tellings: Iterable[Telling]) -> list[Telling]:
    """Give the last revision of each event, without those that were voided, by usage id."""
    latest: dict[EventName, Telling] = {}
    for telling in tellings:
        known = latest.get(telling.event)
        if known is None or telling.revision > known.revision:
            latest[telling.event] = telling
    in_force = [telling for telling in latest.values() if not telling.is_void]
    return sorted(in_force, key=lambda telling: telling.usage_id)


def find_counting(
    tellings: Iterable[Telling], counted: Collection[EventName] = ()
) -> Telling | None:
    """Give the telling that counts, None when all were voided.

    ``counted`` are the events that have counted so far.
    """

    def rank(telling: Telling) -> tuple[bool, bool, int, bool, int, bool, int]:
        is_counted = telling.event in counted
        return (
            telling.is_known,
            not telling.is_estimated,
            telling.witness,
            is_counted and telling.revision > 0,
            telling.units,
            is_counted,
            -telling.usage_id,
        )

    return max(list_in_force(tellings), key=rank, default=None)
