"""Documents of a statement: what goes into them, and each of their formats.

It owns which questions are asked; the figures are worked out in ``formats``. It refuses to state
anything: a document shows rows that are kept, and the same ledger gives the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tokenbudget.domain.errors import ConfigurationError, InvalidInput, NotFound, TooLarge
from tokenbudget.domain.exchange import Conversion, FxTable
from tokenbudget.domain.invoice_months import convert_lines
from tokenbudget.domain.months import format_month, month_period
from tokenbudget.domain.statements import Statement, StatementHeader, StatementState
from tokenbudget.formats.allocation_rules import parse_allocation_rules
from tokenbudget.formats.gl_accounts import USUAL_ACCOUNTS, GlAccounts, parse_gl_toml
from tokenbudget.formats.gl_export import Journal, compose_journal
from tokenbudget.formats.panels import UnpricedLine
from tokenbudget.formats.statement_csv import statement_csv
from tokenbudget.formats.statement_report import (
    CarriedLine,
    StatementFacts,
    StatementReport,
    compose_statement,
    lines_in_scope,
)
from tokenbudget.formats.statement_sheets import statement_xlsx
from tokenbudget.formats.statement_totals import group_by_bearer
from tokenbudget.formats.statement_words import DIMENSION_WORDS, Scope
from tokenbudget.formats.whole_files import replace_file
from tokenbudget.services.rendering import make_environment
from tokenbudget.services.statements import (
    MAX_LISTED,
    StatedDifference,
    compare_views,
    get_shown,
    get_statement,
    list_statements,
)
from tokenbudget.services.typesetting import render_pdf
from tokenbudget.services.unpriced import list_unpriced
from tokenbudget.store.bill_tables import AllocationRulesRow
from tokenbudget.store.db import Database
from tokenbudget.store.documents import find_version
from tokenbudget.store.reconciliation import iterate_lines_of

HTML, PDF, XLSX, CSV, GL = "html", "pdf", "xlsx", "csv", "gl"
FORMATS: Final = (HTML, PDF, XLSX, CSV, GL)
SUFFIXES: Final = {HTML: "html", PDF: "pdf", XLSX: "xlsx", CSV: "csv", GL: "gl.csv"}
IN_FORCE_ONCE: Final = (StatementState.CLOSED, StatementState.SUPERSEDED)
UNSAFE_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
DIGEST_DIGITS: Final = 8
MAX_DOCUMENTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """Which document: ``by`` cuts its chapters, ``scope`` None is all of the statement.

    ``each`` asks for one document for each bearer that there is, of the dimension ``by``.
    """

    statement_id: str
    by: str = "team"
    scope: Scope | None = None
    each: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What documents need besides the ledger: templates, quotes, and accounts of the GL."""

    templates: Path
    exchange: FxTable
    accounts_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A file's name without directory, and what is in it.

    ``warnings`` are what finance must look at before it uses the file.
    """

    format: str
    name: str
    content: bytes
    warnings: tuple[str, ...] = ()


def make_question(
    statement_id: str,
    *,
    by: str,
    team: str | None = None,
    cost_center: str | None = None,
    tenant: str | None = None,
    each: bool = False,
) -> Question:
    """Give the question; raises InvalidInput for what chapters cannot be by, and for two scopes."""
    if by not in DIMENSION_WORDS:
        raise InvalidInput(f"by {by!r} is not one of {', '.join(DIMENSION_WORDS)}", field="by")
    asked = {"team": team, "cost_center": cost_center, "tenant": tenant}
    scopes = [Scope(name, value) for name, value in asked.items() if value is not None]
    if each and scopes:
        raise InvalidInput(f"each and {scopes[0].dimension} together", field="each")
    if len(scopes) > 1:
        names = " and ".join(scope.dimension for scope in scopes)
        raise InvalidInput(f"{names} together: a document is about one", field=scopes[1].dimension)
    return Question(statement_id, by, scopes[0] if scopes else None, each)


def make_documents(
    database: Database,
    question: Question,
    formats: Collection[str],
    surroundings: Surroundings,
) -> list[Document]:
    """Give the statement in each format, in the order of ``FORMATS``.

    Raises NotFound for a statement or a bearer that there is not, InvalidInput for a format nobody
    knows and for a journal of one bearer, TooLarge for more than a sheet or one call can hold,
    Conflict for a journal of what is not closed, and ConfigurationError where PDF cannot be made.
    """
    _require_formats(formats, question)
    accounts = read_accounts(surroundings.accounts_file) if GL in formats else USUAL_ACCOUNTS
    facts = read_facts(database, question, exchange=surroundings.exchange)
    wanted = [name for name in FORMATS if name in formats]
    documents: list[Document] = []
    for part in _parts(facts, question):
        stem = _file_stem(part)
        for name in wanted:
            file_name = f"{stem}.{SUFFIXES[name]}"
            if name == GL:
                documents.append(_journal_document(database, part, accounts, file_name))
            else:
                content = _render(part, name, surroundings.templates)
                documents.append(Document(name, file_name, content))
    return documents


def write_documents(documents: Iterable[Document], directory: Path) -> list[Path]:
    """Write the files, each whole or not at all, and give their paths.

    Earlier files of the same name are replaced. Raises ConfigurationError when the directory cannot
    be written.
    """
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for document in documents:
            path = directory / document.name
            replace_file(path, document.content)
            paths.append(path)
    except OSError as error:
        raise ConfigurationError(
            f"the directory {directory} cannot be written: {error.strerror}"
        ) from None
    return paths


def read_facts(database: Database, question: Question, *, exchange: FxTable) -> StatementFacts:
    """Give what documents are made of; raises NotFound."""
    statement = get_statement(database, question.statement_id)
    header = statement.header
    later = compare_views(database, header.statement_id).differences
    facts = StatementFacts(
        statement=statement,
        differences=(*_stated_later(later), *_used_earlier(statement)),
        supersedes=_superseded_by(database, header),
        acceptances=_read_acceptances(database, header.rules_version),
        conversions=_read_conversions(database, header, exchange),
        unpriced=_read_unpriced(database, header.month),
        scope=question.scope,
        by=question.by,
    )
    if question.scope is not None and not lines_in_scope(facts):
        raise NotFound(f"{header.name} has no row of {question.scope.text}")
    return facts


def render_html(report: StatementReport, *, templates: Path) -> str:
    """Give the statement as one self-contained HTML file, from the templates in the directory."""
    return make_environment(templates).get_template("statement.html.j2").render(report=report)


def read_accounts(path: Path | None) -> GlAccounts:
    """Give the accounts of the file, or the usual ones without a file.

    Raises ConfigurationError when it cannot be read, InvalidInput when it is not well formed.
    """
    if path is None:
        return USUAL_ACCOUNTS
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path}: the accounts cannot be read: {reason}") from None
    return parse_gl_toml(text, file_name=path.name)


def get_version(database: Database, month: int, version: int | None) -> StatementHeader:
    """Give a version of a month's statement, None is the one that counts; raises NotFound."""
    if version is None:
        return get_shown(database, month)
    for header in list_statements(database, month=month, limit=MAX_LISTED):
        if header.version == version:
            return header
    raise NotFound(f"{format_month(month)} has no statement of version {version}")


def _parts(facts: StatementFacts, question: Question) -> list[StatementFacts]:
    """Give the facts of each document: one, or one a bearer."""
    if not question.each:
        return [facts]
    names = group_by_bearer(facts.statement.lines, question.by)
    if len(names) > MAX_DOCUMENTS:
        raise TooLarge(f"{len(names)} documents at once are too many", field="each")
    return [replace(facts, scope=Scope(question.by, name)) for name in names]


def _require_formats(formats: Collection[str], question: Question) -> None:
    for unknown in sorted(set(formats).difference(FORMATS)):
        raise InvalidInput(f"format {unknown!r} is not one of {', '.join(FORMATS)}", field="format")
    if GL in formats and (question.each or question.scope is not None):
        field = "each" if question.scope is None else question.scope.dimension
        raise InvalidInput(
            "a journal is of the whole statement, else it does not balance", field=field
        )


def _render(facts: StatementFacts, name: str, templates: Path) -> bytes:
    if name == CSV:
        return statement_csv(facts).encode()
    report = compose_statement(facts)
    if name == XLSX:
        return statement_xlsx(facts, report)
    if name == PDF:
        return render_pdf(report, templates=templates)
    return render_html(report, templates=templates).encode()


def _journal_document(
    database: Database, facts: StatementFacts, accounts: GlAccounts, file_name: str
) -> Document:
    before = None
    if facts.supersedes is not None:
        header = facts.statement.header
        replaced = _versions(database, header)[facts.supersedes]
        before = get_statement(database, replaced.statement_id)
    journal = compose_journal(facts.statement, accounts, before=before)
    return Document(GL, file_name, journal.text.encode(), _warnings(journal, accounts))


def _warnings(journal: Journal, accounts: GlAccounts) -> tuple[str, ...]:
    suspended = [f"no account for {each}: on {accounts.suspense!r}" for each in journal.suspended]
    uncentered = [f"team {each!r} has no cost centre" for each in journal.uncentered]
    return (*suspended, *uncentered)


def _stated_later(differences: Sequence[StatedDifference]) -> list[CarriedLine]:
    return [
        CarriedLine(_carrier(each.statement), each.line, 1) for each in differences if each.sign > 0
    ]


def _used_earlier(statement: Statement) -> list[CarriedLine]:
    """Give the rows of other months, of the very rows that are shown."""
    header = statement.header
    return [
        CarriedLine(_carrier(header), line, -1)
        for line in statement.lines
        if line.key.service_month != header.month
    ]


def _carrier(header: StatementHeader) -> str:
    return f"{format_month(header.month)} v{header.version}"


def _versions(database: Database, header: StatementHeader) -> dict[int, StatementHeader]:
    listed = list_statements(database, month=header.month, limit=MAX_LISTED)
    return {each.version: each for each in listed}


def _superseded_by(database: Database, header: StatementHeader) -> int | None:
    """Give the version that this one took, or would take, the place of."""
    earlier = [
        version
        for version, each in _versions(database, header).items()
        if version < header.version and each.state in IN_FORCE_ONCE
    ]
    return max(earlier, default=None)


def _read_acceptances(database: Database, version: int) -> dict[str, str]:
    """Give the reasons of the acceptances of that version of the rules, and who gave them."""
    with database.reading() as session:
        row = find_version(session, AllocationRulesRow, version)
    if row is None:
        return {}
    draft = parse_allocation_rules(row.content, where="stored allocation rules")
    return {each.name: f"{each.reason} ({each.by})" for each in draft.rules.acceptances}


def _read_conversions(
    database: Database, header: StatementHeader, exchange: FxTable
) -> tuple[Conversion, ...]:
    with database.reading() as session:
        lines = iterate_lines_of(session, header.month)
        return convert_lines(lines, header.currency, exchange).conversions


def _read_unpriced(database: Database, month: int) -> tuple[UnpricedLine, ...]:
    return tuple(
        UnpricedLine(
            each.provider, each.model, each.requests, each.input_tokens, each.output_tokens
        )
        for each in list_unpriced(database, period=month_period(month))
    )


def _file_stem(facts: StatementFacts) -> str:
    """Give a name that is safe in any file system; odd names get a digest, to stay apart."""
    header, scope = facts.statement.header, facts.scope
    state = "" if header.state in IN_FORCE_ONCE else f"-{header.state.value}"
    stem = f"statement-{format_month(header.month)}-v{header.version}{state}"
    if scope is None:
        return stem
    dimension = scope.dimension.replace("_", "-")
    if scope.value is None:
        return f"{stem}-without-{dimension}"
    safe = UNSAFE_IN_NAME.sub("-", scope.value)[:40]
    if safe != scope.value:
        digest = hashlib.sha256(scope.value.encode()).hexdigest()[:DIGEST_DIGITS]
        safe = f"{safe}-{digest}"
    return f"{stem}-{dimension}-{safe}"
