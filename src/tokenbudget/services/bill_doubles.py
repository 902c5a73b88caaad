"""Days of a source that seem to count twice, since one account goes by two names.

It owns when that is said and the words of it; it refuses to put anything right: nobody but a
person knows whether two names are one account. What one import tells of several accounts is told
apart by the provider, and no double.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Final

from tokenbudget.domain.periods import Period
from tokenbudget.store import bill_doubles as store
from tokenbudget.store.db import Database

MAX_WARNINGS: Final = 20


@dataclass(slots=True)
class _Held:
    """What an account has in force on a day."""

    imports: set[str] = field(default_factory=set)
    nanos: dict[str, int] = field(default_factory=dict)
    line_count: int = 0

    def add(self, told: store.HeldDay) -> None:
        self.imports.add(told.import_id)
        self.line_count += told.line_count
        if told.currency is not None:
            self.nanos[told.currency] = self.nanos.get(told.currency, 0) + told.nanos


def warn_of_import(database: Database, source: str, import_id: str) -> tuple[str, ...]:
    """Give warnings about the days of an import, one for each two accounts, the first 20."""
    with database.reading() as session:
        period = store.find_restated_period(session, import_id)
    return () if period is None else warn_of_period(database, source, period)


def warn_of_period(database: Database, source: str, period: Period) -> tuple[str, ...]:
    """Give warnings about days on which rows in force of a source seem to be there twice.

    That is so on a UTC day with rows both with an account and without one, and when the account of
    a pull and another one bill the same amounts.
    """
    with database.reading() as session:
        accounts = store.list_accounts(session, source=source, period=period)
        pulled = store.list_pulled_accounts(session, source=source) & accounts
        if len(accounts) == 1 or not ("" in accounts or pulled):
            return ()
        held = [
            *store.list_held_lines(session, source=source, period=period),
            *store.list_held_usage(session, source=source, period=period),
        ]
    days: dict[tuple[str, str], list[date]] = defaultdict(list)
    for day, by_account in _by_day(held).items():
        for pair in _doubles_of(by_account, pulled):
            days[pair].append(day)
    told = (_word(source, pair, found) for pair, found in sorted(days.items()))
    return tuple(islice(told, MAX_WARNINGS))


def _by_day(held: Sequence[store.HeldDay]) -> dict[date, dict[str, _Held]]:
    days: dict[date, dict[str, _Held]] = defaultdict(lambda: defaultdict(_Held))
    for each in held:
        days[each.day][each.account].add(each)
    return days


def _doubles_of(by_account: dict[str, _Held], pulled: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give the pairs of accounts that seem to be one, the nameless one first."""
    names = sorted(by_account)
    if names[0] == "":
        nameless = by_account[""]
        for name in names[1:]:
            if nameless.imports.isdisjoint(by_account[name].imports):
                yield "", name
    for first in (name for name in names if name and name in pulled):
        for second in (name for name in names if name):
            # Of two pulled accounts each would be the first once.
            is_turned = second in pulled and second <= first
            if not is_turned and _are_equal(by_account[first], by_account[second]):
                yield first, second


def _are_equal(one: _Held, other: _Held) -> bool:
    """Tell whether two accounts bill the same; each line may be off by half a nano."""
    tolerance = (one.line_count + other.line_count) // 2
    return (
        one.imports.isdisjoint(other.imports)
        and any(one.nanos.values())
        and one.nanos.keys() == other.nanos.keys()
        and all(abs(one.nanos[each] - other.nanos[each]) <= tolerance for each in one.nanos)
    )


def _word(source: str, pair: tuple[str, str], days: list[date]) -> str:
    first, last = min(days), max(days)
    when = first.isoformat() if first == last else f"{first} to {last} ({len(days)} days)"
    one, other = pair
    where = f"without an account and under {other!r}" if not one else f"under {one!r} and {other!r}"
    return (
        f"{source}: {when} in force twice, {where}; if that is one account, take one of them back"
        " (tokenbudget bills list, tokenbudget bills withdraw ID) and import it with the other's"
        " --account"
    )
