"""The weekly report in sentences.

It owns the wording of the first lines; it refuses figures the tables do not show.
"""

from __future__ import annotations

from tokenbudget.domain.breakdowns import Amount, Line
from tokenbudget.formats.display import (
    cents_text,
    counted_text,
    moment_text,
    money_text,
    period_text,
    share_text,
)
from tokenbudget.formats.panels import (
    unallocated_sentences,
    unpriced_sentences,
    value_text,
)
from tokenbudget.formats.weekly_report import WeeklyReport


def headline_sentences(report: WeeklyReport) -> tuple[str, ...]:
    """Give what a reader must know first, most important first, as plain text."""
    currency = report.currency
    found = (
        _spend_sentence(report),
        _beginning_sentence(report),
        _mover_sentence(report),
        _budget_sentence(report),
        *(() if report.team is not None else unallocated_sentences(report.unallocated, currency)),
        *unpriced_sentences(report.total.now.unpriced_requests),
    )
    return tuple(sentence for sentence in found if sentence)


def _spend_sentence(report: WeeklyReport) -> str:
    whole = report.total
    amount = money_text(whole.amount, report.currency)
    before = money_text(whole.amount_before, report.currency)
    days = period_text(report.period, report.timezone)
    if report.is_empty:
        return f"No usage was recorded in the week of {days}, nor in the week before."
    if not report.is_over:
        return f"Spend so far is {amount}; the whole week before came to {before}."
    if whole.before.requests == 0:
        return (
            f"Spend was {amount} in the week of {days}; there is no week before to compare it with."
        )
    if whole.change.cents == 0 or whole.amount_before.nanos <= 0:
        return f"Spend was {amount} in the week of {days}, after {before} the week before."
    verb = "rose" if whole.change.cents > 0 else "fell"
    share = share_text(abs(whole.change.nanos), whole.amount_before.nanos)
    return f"Spend {verb} {share} to {amount} in the week of {days}, from {before} the week before."


def _beginning_sentence(report: WeeklyReport) -> str:
    if report.compares_from is None:
        return ""
    began = moment_text(report.compares_from, report.timezone)
    return f"The ledger begins on {began}, so it holds only a part of the week before."


def _mover_sentence(report: WeeklyReport) -> str:
    """Give the largest move in the direction of the whole, where weeks can be compared."""
    change = report.total.change
    if not report.is_over or report.total.before.requests == 0 or change.cents == 0:
        return ""
    with_it = [line for line in report.movers.lines if _is_same_way(line, change)]
    if not with_it:
        return ""
    team, feature, model = with_it[0].group
    moved = cents_text(abs(with_it[0].change.cents), report.currency)
    named = f"{value_text(team)}: {value_text(feature)} on {value_text(model)}"
    direction = "rise" if change.cents > 0 else "fall"
    if abs(with_it[0].change.cents) <= abs(change.cents):
        return f"{named} explains {moved} of the {direction}."
    return f"The largest {direction} is {named}, by {moved}; others moved the other way."


def _is_same_way(line: Line, change: Amount) -> bool:
    return not line.merged and line.change.cents * change.cents > 0


def _budget_sentence(report: WeeklyReport) -> str:
    spent, forecast_over = report.budgets.spent, report.budgets.forecast_over
    parts = []
    if spent:
        verb = "has" if spent == 1 else "have"
        parts.append(f"{counted_text(spent, 'budget')} {verb} reached the limit")
    if forecast_over:
        verb = "is" if forecast_over == 1 else "are"
        noun = "more" if spent else "budget" if forecast_over == 1 else "budgets"
        parts.append(f"{forecast_over} {noun} {verb} forecast to exceed it")
    return f"{' and '.join(parts)}." if parts else ""
