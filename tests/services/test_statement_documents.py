"""Documents of statements on both engines: files that read back with the figures by hand."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path

import pytest
import typst
from pypdf import PdfReader

from tests.builders import CENT, cents, make_event, record
from tests.services.statement_cases import (
    NOW,
    OCTOBER,
    SEPTEMBER,
    Division,
    add_bill,
    close,
    make_cost,
    make_untracked,
    set_cost_centers,
)
from tests.statement_reporting import sample_facts, sample_statement
from tokenbudget.domain.errors import ConfigurationError, Conflict, InvalidInput, NotFound, TooLarge
from tokenbudget.domain.exchange import NO_EXCHANGE, FxTable, Quote
from tokenbudget.domain.statements import Method, StatementHeader, StatementState
from tokenbudget.formats.allocation_rules import parse_allocation_rules
from tokenbudget.formats.statement_report import compose_statement
from tokenbudget.formats.statement_typeset import BUNDLED_RANGES
from tokenbudget.services import statement_documents
from tokenbudget.services.allocation_rules import apply_allocation_rules
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.restatements import (
    Approval,
    approve_restatement,
    propose_restatement,
)
from tokenbudget.services.statement_documents import (
    FORMATS,
    Document,
    Question,
    Surroundings,
    get_version,
    make_documents,
    make_question,
    read_facts,
    write_documents,
)
from tokenbudget.services.typesetting import render_pdf
from tokenbudget.settings import packaged_path
from tokenbudget.store.db import Database

TEMPLATES = packaged_path("reports")
SURROUNDINGS = Surroundings(TEMPLATES, NO_EXCHANGE)


@pytest.fixture
def division() -> Division:
    """Give a September in which growth and search bear a dollar's invoice."""
    division = Division()
    division.know(SEPTEMBER, make_cost("growth", 60), make_cost("search", 40))
    return division


def ask(database: Database, header: StatementHeader, format: str, **options: object) -> Document:
    """Give the statement in one format."""
    question = replace(Question(header.statement_id), **options)  # type: ignore[arg-type]
    [document] = make_documents(database, question, [format], SURROUNDINGS)
    return document


def pdf_text(content: bytes) -> str:
    """Give the text of a PDF, as a reader copies it."""
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def test_every_format_is_made_with_a_name_of_its_own(
    database: Database, division: Division
) -> None:
    header = close(database, division, SEPTEMBER)

    documents = make_documents(database, Question(header.statement_id), FORMATS, SURROUNDINGS)

    assert [document.name for document in documents] == [
        "statement-2026-09-v1.html",
        "statement-2026-09-v1.pdf",
        "statement-2026-09-v1.xlsx",
        "statement-2026-09-v1.csv",
        "statement-2026-09-v1.gl.csv",
    ]
    assert documents[-1].warnings == (
        "team 'growth' has no cost centre",
        "team 'search' has no cost centre",
    )


def test_what_comes_late_is_a_difference_of_the_month_and_a_correction_of_the_next(
    database: Database, division: Division
) -> None:
    set_cost_centers(database, {"growth": "CC-1", "search": "CC-2"})
    september = close(database, division, SEPTEMBER)
    division.know(SEPTEMBER, make_cost("growth", 75), make_cost("search", 25))
    division.know(OCTOBER, make_cost("growth", 10))
    october = close(database, division, OCTOBER)

    earlier = compose_statement(
        read_facts(database, Question(september.statement_id), exchange=NO_EXCHANGE)
    )
    later = compose_statement(
        read_facts(database, Question(october.statement_id), exchange=NO_EXCHANGE)
    )

    assert [(line.carrier, line.bearer, line.amount.text) for line in earlier.views.lines] == [
        ("2026-10 v1", "growth", "0.15"),
        ("2026-10 v1", "search", "−0.15"),
    ]
    assert (earlier.views.as_incurred.text, later.views.as_incurred.text) == ("1.00", "0.10")
    assert [(line.name, line.split.corrections.text) for line in later.totals[0].lines] == [
        ("growth", "0.15"),
        ("search", "−0.15"),
    ]


def test_a_restatement_says_what_it_supersedes_and_is_posted_as_the_change(
    database: Database, division: Division
) -> None:
    set_cost_centers(database, {"growth": "CC-1", "search": "CC-2"})
    first = close(database, division, SEPTEMBER)
    division.know(SEPTEMBER, make_cost("growth", 75), make_cost("search", 25))
    proposed = propose_restatement(
        database, division, month=SEPTEMBER, reason="a wrong tag", now=NOW
    )
    draft = ask(database, proposed, "html")
    second = approve_restatement(
        database, division, proposed.statement_id, approval=Approval(None), now=NOW
    )

    assert "is to supersede version 1" in draft.content.decode()
    assert "Version 2, supersedes version 1" in ask(database, second, "html").content.decode()
    assert "0.15" in ask(database, second, "gl").content.decode()
    assert "0.60" not in ask(database, second, "gl").content.decode()
    assert "0.60" in ask(database, first, "gl").content.decode()
    assert get_version(database, SEPTEMBER, None).version == 2
    assert get_version(database, SEPTEMBER, 1).statement_id == first.statement_id
    with pytest.raises(NotFound, match="2026-09 has no statement of version 3"):
        get_version(database, SEPTEMBER, 3)


def test_a_draft_is_marked_and_never_posted(database: Database, division: Division) -> None:
    from_draft = close(
        database, division, SEPTEMBER, grace=datetime(2026, 11, 23, tzinfo=UTC) - NOW
    )

    html = ask(database, from_draft, "html")

    assert html.name == "statement-2026-09-v1-draft.html"
    assert '<span class="mark">DRAFT</span>' in html.content.decode()
    with pytest.raises(Conflict, match="only what was closed is posted"):
        ask(database, from_draft, "gl")


def test_each_team_gets_a_document_of_its_own_rows(database: Database, division: Division) -> None:
    division.know(SEPTEMBER, make_cost("a/b", 60), make_cost("a-b", 25), make_untracked(15))
    header = close(database, division, SEPTEMBER)

    documents = make_documents(
        database, Question(header.statement_id, each=True), ["csv"], SURROUNDINGS
    )

    assert [document.name for document in documents] == [
        "statement-2026-09-v1-team-a-b.csv",
        "statement-2026-09-v1-team-a-b-c14cddc0.csv",
        "statement-2026-09-v1-team-Untracked.csv",
    ]
    assert [b",0.25\r\n" in document.content for document in documents] == [True, False, False]


def test_more_documents_than_one_call_may_make_are_refused(
    database: Database, division: Division, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_documents, "MAX_DOCUMENTS", 1)
    header = close(database, division, SEPTEMBER)

    with pytest.raises(TooLarge, match="2 documents at once are too many"):
        make_documents(database, Question(header.statement_id, each=True), ["csv"], SURROUNDINGS)


def test_those_without_a_tenant_get_a_document_too(database: Database, division: Division) -> None:
    header = close(database, division, SEPTEMBER)

    [document] = make_documents(
        database, Question(header.statement_id, by="tenant", each=True), ["csv"], SURROUNDINGS
    )

    assert document.name == "statement-2026-09-v1-without-tenant.csv"


def test_notes_come_from_rules_quotes_and_what_has_no_price(
    database: Database, division: Division, ledger: Ledger
) -> None:
    acceptance = {
        "name": "twice",
        "provider": "acme",
        "treat": "scale",
        "reason": "sent twice",
        "by": "F. Officer",
    }
    apply_allocation_rules(database, parse_allocation_rules({"acceptance": [acceptance]}), now=NOW)
    accepted = make_cost(
        "growth", 60, method=Method.ACCEPTED, rule="twice", metered_nanos=65 * CENT
    )
    division.know(SEPTEMBER, accepted)
    add_bill(database, "2026-09-10", 100, currency="EUR")
    record(
        ledger,
        make_event(
            event_id="unpriced",
            occurred_at="2026-09-10T12:00:00Z",
            model="nobody-knows",
            usage=cents(1),
            tags={"team": "growth"},
        ),
    )
    header = close(database, division, SEPTEMBER)
    quotes = FxTable((Quote(date(2026, 9, 1), "EUR", {"USD": Fraction(11, 10)}, "ECB"),))

    facts = read_facts(database, Question(header.statement_id), exchange=quotes)

    assert [(note.subject, note.text) for note in compose_statement(facts).notes] == [
        ("Accepted", "“twice”: 0.05 more metered than invoiced. Reason: sent twice (F. Officer)"),
        ("Converted", "1 EUR = 1.1 USD, quote of 2026-09-01 (ECB)"),
        ("No price", "acme nobody-knows: 1 request of the month, rated at none"),
    ]


def test_what_cannot_be_made_is_refused_by_name(database: Database, division: Division) -> None:
    header = close(database, division, SEPTEMBER)

    def make(*formats: str, **asked: str | bool) -> None:
        question = make_question(header.statement_id, **{"by": "team", **asked})  # type: ignore[arg-type]
        make_documents(database, question, formats, SURROUNDINGS)

    with pytest.raises(InvalidInput, match="format 'docx' is not one of html, pdf, xlsx, csv, gl"):
        make("docx")
    with pytest.raises(InvalidInput, match="by 'model' is not one of team, cost_center, tenant"):
        make("html", by="model")
    with pytest.raises(InvalidInput, match="team and tenant together: a document is about one"):
        make("html", team="a", tenant="b")
    with pytest.raises(InvalidInput, match="each and team together"):
        make("html", team="a", each=True)
    with pytest.raises(InvalidInput, match="a journal is of the whole statement"):
        make("gl", team="growth")
    with pytest.raises(InvalidInput, match="a journal is of the whole statement"):
        make("gl", each=True)
    with pytest.raises(NotFound, match="2026-09 version 1 has no row of Team nobody"):
        make("html", team="nobody")
    with pytest.raises(NotFound, match="there is no statement 'x'"):
        make_documents(database, Question("x"), ["html"], SURROUNDINGS)


def test_accounts_of_the_journal_come_from_a_file(
    database: Database, division: Division, tmp_path: Path
) -> None:
    header = close(database, division, SEPTEMBER)
    file = tmp_path / "gl.toml"
    file.write_text("suspense = '9999'\n[[liability]]\naccount = '2110'\n")

    def make(path: Path) -> Document:
        surroundings = replace(SURROUNDINGS, accounts_file=path)
        return make_documents(database, Question(header.statement_id), ["gl"], surroundings)[0]

    assert "no account for expense usage acme: on '9999'" in make(file).warnings
    with pytest.raises(ConfigurationError, match="the accounts cannot be read: No such file"):
        make(tmp_path / "none.toml")
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="it is not UTF-8"):
        make(file)


def test_files_are_written_whole_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "new" / "directory"

    write_documents([Document("csv", "a.csv", b"one")], out)
    [path] = write_documents([Document("csv", "a.csv", b"two")], out)

    assert (path, path.read_bytes()) == (out / "a.csv", b"two")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_documents([Document("csv", "a.csv", b"")], path)


def test_the_pdf_reads_back_with_its_totals_and_is_the_same_again() -> None:
    report = compose_statement(sample_facts())

    pdf = render_pdf(report, templates=TEMPLATES)
    text = pdf_text(pdf)

    assert pdf == render_pdf(report, templates=TEMPLATES)
    for figure in ("233.32", "127.89", "94.11", "−3.00", "245.66", "1 EUR = 1.0812 USD"):
        assert figure in text
    assert "<script>alert(1)</script>" in text.replace("\u200b", "")
    assert "DRAFT" not in text
    assert PdfReader(io.BytesIO(pdf)).metadata.get("/CreationDate") is None  # type: ignore[union-attr]


def test_the_pdf_of_a_draft_is_marked_on_every_page() -> None:
    draft = sample_statement(state=StatementState.DRAFT, digest=None, closed_at=None)
    report = compose_statement(sample_facts(statement=draft))

    pages = PdfReader(io.BytesIO(render_pdf(report, templates=TEMPLATES))).pages

    assert all("DRAFT" in page.extract_text() for page in pages)


def test_an_empty_statement_is_a_pdf_too() -> None:
    statement = replace(sample_statement(), lines=())
    report = compose_statement(replace(sample_facts(), statement=statement, differences=()))

    assert "Both are the same" in pdf_text(render_pdf(report, templates=TEMPLATES))


def test_bundled_fonts_show_all_that_is_not_spelled_out() -> None:
    source = b"#set page(height: auto)\n"
    source += b"#set text(font: ('Libertinus Serif', 'DejaVu Sans Mono'))\n".replace(b"'", b'"')
    source += b"#for each in json(bytes(sys.inputs.characters)) [#box[#each] ]"

    def glyphs(characters: list[str]) -> set[str]:
        inputs = {"characters": json.dumps(characters)}
        svg = typst.compile(source, format="svg", ignore_system_fonts=True, sys_inputs=inputs)
        return set(re.findall(rb'<use xlink:href="#(\w+)"', svg))

    letters = [
        chr(point)
        for first, last in BUNDLED_RANGES
        for point in range(first, last + 1)
        if unicodedata.category(chr(point))[0] in "LNSP"
    ]

    assert len(letters) > 2_000
    assert not glyphs(["小"]) & glyphs(letters)


@pytest.fixture
def without_typst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the typesetter, as where its extra is not installed."""
    monkeypatch.setitem(sys.modules, "typst", None)


@pytest.mark.usefixtures("without_typst")
def test_without_the_extra_a_pdf_is_one_clear_error() -> None:
    with pytest.raises(ConfigurationError, match=r"PDF needs the extra pdf: pip install"):
        render_pdf(compose_statement(sample_facts()), templates=TEMPLATES)
