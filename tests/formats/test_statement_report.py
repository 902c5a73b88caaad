"""What documents of a statement show: parts, ties, chapters, views and notes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from tests.builders import CENT
from tests.statement_reporting import (
    CAT,
    GOLDEN_HTML,
    GOLDEN_TYPESET,
    HOSTILE,
    OCTOBER,
    make_line,
    make_pool,
    make_statement,
    render_sample,
    sample_facts,
    sample_statement,
    typeset_sample,
)
from tokenbudget.domain.statements import Method, Origin, Refusal, StatementState
from tokenbudget.formats import (
    statement_chapters,
    statement_notes,
    statement_report,
    statement_totals,
)
from tokenbudget.formats.statement_notes import rate_text
from tokenbudget.formats.statement_report import CarriedLine, StatementFacts, compose_statement
from tokenbudget.formats.statement_totals import Split
from tokenbudget.formats.statement_words import Scope, amount_text, decimal_text, reason_words

RENEW = "run: python -m tests.statement_reporting"


def texts(split: Split) -> tuple[str, ...]:
    """Give usage, untracked, shared, corrections and total as they are shown."""
    parts = (split.usage, split.untracked, split.shared, split.corrections, split.total)
    return tuple(part.text for part in parts)


def test_every_bearer_adds_up_from_its_parts_and_all_to_the_total() -> None:
    report = compose_statement(sample_facts())
    teams = report.totals[0]

    assert {line.name: texts(line.split) for line in teams.lines} == {
        HOSTILE: ("0.42", "–", "–", "–", "0.42"),
        "growth": ("124.00", "–", "3.80", "0.09", "127.89"),
        "research": ("5.50", "–", "–", "–", "5.50"),
        "search": ("85.00", "–", "6.20", "2.91", "94.11"),
        CAT: ("1.00", "–", "–", "–", "1.00"),
        "Untracked": ("–", "7.40", "–", "−3.00", "4.40"),
    }
    assert [line.name for line in teams.lines][-1] == "Untracked"
    assert texts(teams.total) == ("215.92", "7.40", "10.00", "–", "233.32")
    assert report.total.text == "233.32"


def test_totals_are_by_cost_centre_and_tenant_too_with_the_absent_last() -> None:
    centers, tenants = compose_statement(sample_facts()).totals[1:]

    assert [(line.name, line.split.total.text) for line in centers.lines] == [
        ("CC-100", "127.89"),
        ("CC-200", "94.11"),
        ("CC-300", "1.00"),
        ("CC-400", "5.50"),
        ("(no cost centre)", "4.82"),
    ]
    assert [(line.name, line.split.total.text) for line in tenants.lines] == [
        ("=HYPERLINK(1)", "0.42"),
        ("acme", "124.00"),
        ("שלום", "1.00"),
        ("(none)", "107.90"),
    ]


def test_invoices_tie_to_the_cent_and_own_capacity_is_told_apart() -> None:
    invoices = compose_statement(sample_facts()).invoices

    assert [
        (line.month, line.provider, line.invoiced.text, line.allocated.text, line.is_billed)
        for line in invoices.lines
    ] == [
        ("October 2026", "openai", "227.82", "227.82", True),
        ("October 2026", "self-hosted", "5.50", "5.50", False),
        ("September 2026 (change)", "openai", "0.00", "0.00", True),
    ]
    assert (invoices.invoiced.text, invoices.allocated.text) == ("233.32", "233.32")
    assert invoices.is_tied


def test_an_invoice_that_is_not_allocated_is_shown_with_its_gap() -> None:
    whole = make_statement(make_line("growth", 100))
    statement = replace(whole, lines=(make_line("growth", 99),))

    invoices = compose_statement(StatementFacts(statement)).invoices

    assert not invoices.is_tied
    assert invoices.lines[0].gap.text == "0.01"


def test_the_document_of_one_bearer_shows_nothing_of_others() -> None:
    report = compose_statement(sample_facts(scope=Scope("team", "growth")))

    assert report.scope == "Team growth"
    assert report.total.text == "127.89"
    assert [table.dimension for table in report.totals] == ["cost_center", "tenant"]
    assert [(line.month, line.allocated.text) for line in report.invoices.lines] == [
        ("October 2026", "127.80"),
        ("September 2026 (change)", "0.09"),
    ]
    assert [chapter.title for chapter in report.chapters] == ["growth"]
    assert [line.amount.text for line in report.views.lines] == ["12.34", "−0.09"]
    assert report.views.as_incurred.text == "140.14"
    assert report.notes == ()


def test_those_without_a_cost_centre_have_a_document_too() -> None:
    report = compose_statement(sample_facts(scope=Scope("cost_center", None)))

    assert report.scope == "Cost centre (no cost centre)"
    assert report.total.text == "4.82"


def test_both_views_of_the_month_are_bridged_by_rows() -> None:
    views = compose_statement(sample_facts()).views

    assert (views.as_invoiced.text, views.between.text, views.as_incurred.text) == (
        "233.32",
        "12.34",
        "245.66",
    )
    assert [(line.carrier, line.bearer, line.amount.text) for line in views.lines] == [
        ("2026-11 v1", "growth", "12.34"),
        ("2026-10 v1", "Untracked", "3.00"),
        ("2026-10 v1", "growth", "−0.09"),
        ("2026-10 v1", "search", "0.09"),
        ("2026-10 v1", "search", "−3.00"),
    ]


def test_more_differences_than_are_shown_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_report, "MAX_DIFFERENCES", 1)

    views = compose_statement(sample_facts()).views

    assert (len(views.lines), views.hidden, views.rest.text) == (1, 4, "0.00")


def test_a_chapter_tells_how_each_amount_came_about() -> None:
    chapters = {each.title: each for each in compose_statement(sample_facts()).chapters}
    search = chapters["search"]

    assert search.about == "Cost centre CC-200"
    assert chapters["Untracked"].about == "No cost centre"
    assert [(line.origin, line.reason, line.amount.text) for line in search.reasons.lines] == [
        ("Usage", "as metered", "76.00"),
        ("Fees and purchases", "shared evenly, rule “support”", "10.00"),
        (
            "Usage",
            "metered, scaled to the invoice by an acceptance “double sender”:"
            " retries were sent twice until 7 October (F. Officer)",
            "9.00",
        ),
        ("Credits", "shared by direct cost", "−3.80"),
    ]
    assert search.reasons.total.text == "91.20"
    assert [(line.subject, line.amount.text) for line in search.corrections.lines] == [
        ("Usage, rewriting, openai, gpt-5.2", "3.00"),
        ("Credits, openai", "−0.09"),
    ]
    assert [(line.feature, line.metered.text) for line in search.uses.lines] == [
        ("rewriting", "76.00"),
        ("–", "9.75"),
    ]


def test_a_long_chapter_shows_the_largest_rows_and_adds_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statement_chapters, "MAX_ROWS", 2)
    lines = [make_line("growth", count, feature=f"f{count}") for count in (1, 40, 500, 7)]

    uses = compose_statement(StatementFacts(make_statement(*lines))).chapters[0].uses

    assert [line.feature for line in uses.lines] == ["f500", "f40"]
    assert (uses.hidden, uses.rest.text, uses.total.text) == (2, "0.08", "5.48")


def test_more_bearers_than_are_shown_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_totals, "MAX_BEARERS", 2)
    lines = [make_line(team, 100) for team in ("a", "b", "c", "d")]

    teams = compose_statement(StatementFacts(make_statement(*lines))).totals[0]

    assert (len(teams.lines), teams.hidden, teams.rest.total.text) == (2, 2, "2.00")
    assert teams.total.total.text == "4.00"


def test_bearers_beyond_the_last_chapter_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_chapters, "MAX_CHAPTERS", 2)
    lines = [make_line(team, 100) for team in ("a", "b", "c", "d")]

    report = compose_statement(StatementFacts(make_statement(*lines)))

    assert ([each.title for each in report.chapters], report.unchaptered) == (["a", "b"], 2)


def test_chapters_by_cost_centre_name_their_teams() -> None:
    lines = [make_line(f"team-{number}", 100, cost_center="CC-1") for number in range(7)]

    report = compose_statement(StatementFacts(make_statement(*lines), by="cost_center"))

    assert report.by == "cost centre"
    assert [each.about for each in report.chapters] == [
        "Teams: team-0, team-1, team-2, team-3, team-4 and 2 more"
    ]


def test_a_pool_of_what_was_metered_is_shared_and_a_direct_fee_too() -> None:
    lines = (
        make_line("growth", 100, method=Method.BY_TOKENS, rule="unallocated"),
        make_pool("growth", 10, Origin.TAX, Method.DIRECT),
    )

    report = compose_statement(StatementFacts(make_statement(*lines)))

    assert texts(report.split) == ("–", "–", "1.10", "–", "1.10")


@pytest.mark.parametrize(
    ("state", "mark", "notice"),
    [
        (StatementState.CLOSED, "", ""),
        (
            StatementState.DRAFT,
            "DRAFT",
            "These figures may still change; they are not for posting.",
        ),
        (
            StatementState.PROPOSED,
            "PROPOSED",
            "A restatement that waits for approval; it is not in force.",
        ),
    ],
)
def test_what_is_not_in_force_says_so(state: StatementState, mark: str, notice: str) -> None:
    report = compose_statement(sample_facts(statement=sample_statement(state=state)))

    assert (report.mark, report.notice) == (mark, notice)


def test_the_heading_tells_who_closed_what_and_when() -> None:
    restated = sample_statement(version=2, approved_by="key-cfo", reason="a wrong price")
    report = compose_statement(sample_facts(statement=restated, supersedes=1))

    facts = {fact.label: fact.text for fact in report.facts}
    assert report.about == "Version 2, supersedes version 1"
    assert facts["Closed"] == "4 Nov 2026, 09:30 UTC"
    assert facts["Stated by"] == "key-finance"
    assert (facts["Approved by"], facts["Reason"]) == ("key-cfo", "a wrong price")
    assert len(facts["Digest (SHA-256)"]) == 64


def test_the_heading_of_a_draft_tells_when_it_closes() -> None:
    draft = sample_statement(
        version=2,
        state=StatementState.DRAFT,
        closed_at=None,
        grace_ends_at=datetime(2026, 11, 7, 9, 30, tzinfo=UTC),
        recorded_by=None,
        digest=None,
    )
    report = compose_statement(sample_facts(statement=draft, supersedes=1))

    facts = {fact.label: fact.text for fact in report.facts}
    assert report.about == "Version 2, is to supersede version 1"
    assert facts["Closes after"] == "7 Nov 2026, 09:30 UTC"
    assert facts["Stated by"] == "the command line"
    assert facts["Digest (SHA-256)"] == "none before it is closed"


def test_notes_tell_refusals_acceptances_conversions_and_what_has_no_price() -> None:
    refusals = (Refusal("gap", "openai is short", 5 * CENT), Refusal("gap", "books begin here"))
    facts = sample_facts(statement=sample_statement(notes=refusals))

    notes = compose_statement(facts).notes

    assert [(note.subject, note.text) for note in notes] == [
        ("Open", "openai is short (0.05)"),
        ("Open", "books begin here"),
        (
            "Accepted",
            "“double sender”: 0.75 more metered than invoiced. Reason: retries were sent twice"
            " until 7 October (F. Officer)",
        ),
        ("Converted", "1 EUR = 1.0812 USD, quote of 2026-10-01 (ECB)"),
        ("No price", "openai gpt-6-preview: 12 requests of the month, rated at none"),
    ]


def test_an_acceptance_that_is_no_longer_kept_is_told_without_its_reason() -> None:
    report = compose_statement(sample_facts(acceptances=None, conversions=(), unpriced=()))

    assert [note.text for note in report.notes] == [
        "“double sender”: 0.75 more metered than invoiced. Reason: the reason is no longer kept"
    ]
    line = make_line("a", 1, method=Method.ACCEPTED, rule="double sender")
    assert reason_words(line, {}).endswith("by an acceptance “double sender”")


def test_more_notes_than_are_shown_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement_notes, "MAX_NOTES", 1)

    assert compose_statement(sample_facts()).notes[-1].text == "2 notes not shown"


@pytest.mark.parametrize(
    ("nanos", "currency", "shown", "told"),
    [
        (1_234_567 * CENT, "USD", "12,345.67", "12345.67"),
        (-1 * CENT, "EUR", "−0.01", "-0.01"),
        (0, "USD", "0.00", "0.00"),
        (1_234 * 10**9, "JPY", "1,234", "1234"),
        (1_234_567_000_000, "KWD", "1,234.567", "1234.567"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    nanos: int, currency: str, shown: str, told: str
) -> None:
    assert (amount_text(nanos, currency), decimal_text(nanos, currency)) == (shown, told)


def test_rates_of_exchange_are_short_where_they_can_be() -> None:
    assert rate_text(Fraction(1)) == "1"
    assert rate_text(Fraction(1, 3)) == "0.33333333"


def test_an_empty_statement_has_nothing_but_a_heading() -> None:
    report = compose_statement(StatementFacts(make_statement()))

    assert (report.total.text, report.chapters, report.invoices.lines) == ("0.00", (), ())
    assert report.invoices.is_tied
    assert report.name == "2026-10"
    assert OCTOBER == 202610


def test_a_carried_line_of_another_bearer_is_left_out() -> None:
    other = CarriedLine("2026-11 v1", make_line("search", 5), 1)
    facts = sample_facts(differences=(other,), scope=Scope("team", "growth"))

    assert compose_statement(facts).views.lines == ()


def test_the_html_is_the_golden_one() -> None:
    assert render_sample() == GOLDEN_HTML.read_text(encoding="utf-8"), RENEW


def test_what_the_typesetter_is_told_is_the_golden_one() -> None:
    assert typeset_sample() + "\n" == GOLDEN_TYPESET.read_text(encoding="utf-8"), RENEW


def test_names_never_become_markup() -> None:
    html = render_sample()

    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "http" not in html.split("</style>")[1]
