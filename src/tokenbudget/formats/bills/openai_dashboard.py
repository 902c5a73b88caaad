"""CSV exports of OpenAI's dashboard: costs (a bill) and completions (usage).

Nobody documents them: columns were seen in public copies of 2025 and 2026, they vary by month and
are found by name. They tell what the API tells (``openai_costs.py``, ``openai_usage.py``), so they
are stored under its sources and replace it, and it them. A bucket without anything is a row with
its four times alone. An export of nothing at all has only these columns and does not say what of:
nothing is taken from it, and it takes nothing out of force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tokenbudget.domain.periods import Period
from tokenbudget.formats.bills.cells import count_cell, looks_like, unix_cell
from tokenbudget.formats.bills.lines import BillEntry, EmptyPeriod, Place, period_of
from tokenbudget.formats.bills.openai_costs import cost_line
from tokenbudget.formats.bills.openai_usage import COMPLETIONS, usage_line
from tokenbudget.formats.bills.pages import Result
from tokenbudget.formats.bills.tables import Cells, columns_of_head, read_rows

TIMES: Final = ("start_time", "end_time", "start_time_iso", "end_time_iso")
AMOUNT: Final = "amount_value"
NUMBERS: Final = (AMOUNT, "quantity")


def recognises_costs(head: bytes) -> bool:
    """Tell whether a file begins like an export of costs, or like one of nothing."""
    is_empty = set(columns_of_head(head)) == set(TIMES)
    return is_empty or looks_like(head, "start_time", AMOUNT, "line_item")


def recognises_completions(head: bytes) -> bool:
    """Tell whether a file begins like an export of completions."""
    return looks_like(head, "start_time", "num_model_requests", "input_tokens", "output_tokens")


def read_costs(path: Path) -> Iterator[BillEntry]:
    """Give the lines in order, then a mark for each bucket without any.

    Raises BadFile naming the row, the column and the rule.
    """
    return _read(path, (AMOUNT, "amount_currency"), _cost_of)


def read_completions(path: Path) -> Iterator[BillEntry]:
    """Give what was used in order, then a mark for each bucket without anything.

    Raises BadFile naming the row, the column and the rule.
    """
    needed = ("num_model_requests", "input_tokens", "output_tokens")
    return _read(path, needed, lambda result: usage_line(COMPLETIONS, result))


def _read(
    path: Path, needed: tuple[str, ...], read_result: Callable[[Result], BillEntry]
) -> Iterator[BillEntry]:
    empty_periods: list[Period] = []
    accounts: set[str] = set()
    is_checked = False
    rows = read_rows(path, required=TIMES[:2], numbers=NUMBERS, may_be_short=True)
    for number, row in rows:
        if row.keys() <= set(TIMES):
            return
        place = Place(path, f"row {number}")
        if not is_checked:
            _require(row, needed, place)
            is_checked = True
        period = _period(row, place)
        if not any(cell for name, cell in row.items() if name not in TIMES):
            empty_periods.append(period)
            continue
        entry = read_result(Result(row, period, number, place))
        accounts.add(entry.account)
        yield entry
    for account in sorted(accounts or {""}):
        yield from (EmptyPeriod(account, period) for period in empty_periods)


def _require(row: Cells, needed: tuple[str, ...], place: Place) -> None:
    for name in needed:
        if name not in row:
            raise place.refuse(name, "the column is missing")


def _period(row: Cells, place: Place) -> Period:
    start, end = (
        unix_cell(count_cell(row.get(name), place, name), place, name) for name in TIMES[:2]
    )
    return period_of(start, end, place, "end_time")


def _cost_of(result: Result) -> BillEntry:
    row = result.facts
    amount = {"value": row.get(AMOUNT), "currency": row.get("amount_currency")}
    facts = {**row, "amount": amount}
    return cost_line(Result(facts, result.period, result.row_number, result.place))
