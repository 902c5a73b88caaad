"""Builders for documents of statements, and one October that has everything.

Cents by hand: growth 12400 + 1000 - 620 + 9 = 12789, search 7600 + 900 + 1000 - 380 + 300 - 9 =
9411, Untracked 740 - 300 = 440, research 550, the hostile name 42, the cat 100: 23332 in all.
Invoices: openai 12400 + 7600 + 900 + 740 + 2000 - 1000 + 42 + 100 = 22782, own capacity 550.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

from tests.builders import CENT
from tokenbudget.domain.exchange import Conversion
from tokenbudget.domain.statements import (
    Invoice,
    LineKey,
    Method,
    Origin,
    StatedInvoice,
    Statement,
    StatementHeader,
    StatementLine,
    StatementState,
    digest_lines,
)
from tokenbudget.formats.panels import UnpricedLine
from tokenbudget.formats.statement_report import CarriedLine, StatementFacts, compose_statement
from tokenbudget.formats.statement_typeset import typeset_statement
from tokenbudget.services.statement_documents import render_html
from tokenbudget.settings import packaged_path

SEPTEMBER, OCTOBER = 202609, 202610
CLOSED_AT = datetime(2026, 11, 4, 9, 30, tzinfo=UTC)
OF_SEPTEMBER = "0199a1b2-7000-7abc-8def-0123456789ab"
OF_OCTOBER = "0199c3d4-7111-7abc-8def-fedcba987654"
HOSTILE = "<script>alert(1)</script>"
CAT = "小猫"
GOLDEN = packaged_path("reports") / "golden"
GOLDEN_HTML = GOLDEN / "statement-2026-10.html"
GOLDEN_TYPESET = GOLDEN / "statement-2026-10.json"
CENTERS = {"growth": "CC-100", "search": "CC-200", CAT: "CC-300", "research": "CC-400"}


def make_line(team: str, count: int, **overrides: Any) -> StatementLine:
    """Give a row of so many cents of metered usage, billed by openai's account ``org-1``."""
    facts: dict[str, Any] = {
        "service_month": OCTOBER,
        "team": team,
        "feature": None,
        "tenant": None,
        "cost_center": CENTERS.get(team),
        "provider": "openai",
        "account": "org-1",
        "model": "gpt-5.2",
        "origin": Origin.USAGE,
        "method": Method.DIRECT,
        "rule": None,
    }
    measures: dict[str, Any] = {"metered_nanos": None, "requests": 0, "tokens": 0, "corrects": None}
    for name, value in overrides.items():
        (measures if name in measures else facts)[name] = value
    return StatementLine(LineKey(**facts), count * CENT, **measures)


def make_pool(team: str, count: int, origin: Origin, method: Method, **more: Any) -> StatementLine:
    """Give a row of so many cents of a pool."""
    return make_line(team, count, origin=origin, method=method, model=None, **more)


def make_statement(*lines: StatementLine, **overrides: Any) -> Statement:
    """Give a closed statement of October, whose invoices are what the rows add up to."""
    ordered = tuple(sorted(lines, key=lambda line: line.order))
    invoiced: dict[tuple[int, str, str], int] = {}
    for line in ordered:
        place = (line.key.service_month, line.key.provider, line.key.account)
        invoiced[place] = invoiced.get(place, 0) + line.amount_nanos
    facts: dict[str, Any] = {
        "statement_id": OF_OCTOBER,
        "month": OCTOBER,
        "version": 1,
        "state": StatementState.CLOSED,
        "currency": "USD",
        "known_at": CLOSED_AT,
        "recorded_at": CLOSED_AT,
        "recorded_by": "key-finance",
        "grace_ends_at": None,
        "closed_at": CLOSED_AT,
        "approved_by": None,
        "reason": None,
        "rules_version": 3,
        "total_nanos": sum(line.amount_nanos for line in ordered),
        "invoices": tuple(
            StatedInvoice(month, Invoice(provider, account, nanos, provider != "self-hosted"))
            for (month, provider, account), nanos in invoiced.items()
            if nanos
        ),
        "notes": (),
        "digest": digest_lines(ordered, month=OCTOBER, version=1, currency="USD"),
        **overrides,
    }
    return Statement(StatementHeader(**facts), ordered)


def sample_statement(**overrides: Any) -> Statement:
    """Give October: usage, a fee, a credit, own capacity, an acceptance and corrections."""
    september = {"service_month": SEPTEMBER, "corrects": OF_SEPTEMBER}
    return make_statement(
        make_line(
            "growth",
            12_400,
            feature="campaign-writer",
            tenant="acme",
            method=Method.SPREAD,
            metered_nanos=12_350 * CENT,
            requests=12_000,
            tokens=88_000_000,
        ),
        make_line("search", 7_600, feature="rewriting", metered_nanos=7_600 * CENT, requests=9_000),
        make_line(
            "search", 900, method=Method.ACCEPTED, rule="double sender", metered_nanos=975 * CENT
        ),
        make_line(HOSTILE, 42, tenant="=HYPERLINK(1)", metered_nanos=42 * CENT),
        make_line(CAT, 100, tenant="שלום", metered_nanos=100 * CENT),
        make_line("Untracked", 740, origin=Origin.UNTRACKED, method=Method.RESIDUAL),
        make_pool("growth", 1_000, Origin.PURCHASE, Method.EVENLY, rule="support"),
        make_pool("search", 1_000, Origin.PURCHASE, Method.EVENLY, rule="support"),
        make_pool("growth", -620, Origin.CREDIT, Method.BY_DIRECT_COST),
        make_pool("search", -380, Origin.CREDIT, Method.BY_DIRECT_COST),
        make_line(
            "research",
            550,
            provider="self-hosted",
            account="gpu",
            model="llama-4",
            origin=Origin.UNBILLED,
            metered_nanos=550 * CENT,
        ),
        make_line("search", 300, feature="rewriting", metered_nanos=300 * CENT, **september),
        make_line("Untracked", -300, origin=Origin.UNTRACKED, method=Method.RESIDUAL, **september),
        make_pool("growth", 9, Origin.CREDIT, Method.BY_DIRECT_COST, **september),
        make_pool("search", -9, Origin.CREDIT, Method.BY_DIRECT_COST, **september),
        **overrides,
    )


def sample_facts(**overrides: Any) -> StatementFacts:
    """Give October with what a later statement carries of it, and all kinds of notes."""
    statement = sample_statement()
    later = CarriedLine("2026-11 v1", make_line("growth", 1_234, feature="campaign-writer"), 1)
    earlier = [
        CarriedLine("2026-10 v1", line, -1) for line in statement.lines if line.corrects is not None
    ]
    facts = StatementFacts(
        statement=statement,
        differences=(later, *earlier),
        acceptances={"double sender": "retries were sent twice until 7 October (F. Officer)"},
        conversions=(Conversion("EUR", "USD", Fraction(10_812, 10_000), date(2026, 10, 1), "ECB"),),
        unpriced=(UnpricedLine("openai", "gpt-6-preview", 12, 4_000, 300),),
    )
    return replace(facts, **overrides)


def render_sample() -> str:
    """Give the HTML of the sample."""
    report = compose_statement(sample_facts())
    return render_html(report, templates=packaged_path("reports"))


def typeset_sample() -> str:
    """Give what the typesetter is told of the sample, where the system has no fonts."""
    return typeset_statement(compose_statement(sample_facts())).text


if __name__ == "__main__":
    GOLDEN_HTML.write_text(render_sample(), encoding="utf-8")
    GOLDEN_TYPESET.write_text(typeset_sample() + "\n", encoding="utf-8")
