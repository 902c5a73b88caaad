"""Rows of statements with boring defaults."""

from __future__ import annotations

from typing import Any

from tokenbudget.domain.statements import LineKey, Method, Origin, StatementLine

CENT = 10_000_000


def make_line(team: str = "growth", count: int = 60, **overrides: Any) -> StatementLine:
    """Give a row of so many cents of September."""
    key: dict[str, Any] = {
        "service_month": 202609,
        "team": team,
        "feature": None,
        "tenant": None,
        "cost_center": "CC-1",
        "provider": "acme",
        "account": "a",
        "model": "plain",
        "origin": Origin.USAGE,
        "method": Method.SPREAD,
        "rule": None,
    }
    for name in key.keys() & overrides.keys():
        key[name] = overrides.pop(name)
    fields = {"amount_nanos": count * CENT, "metered_nanos": 1, "requests": 2, "tokens": 3}
    return StatementLine(LineKey(**key), **{**fields, **overrides})
