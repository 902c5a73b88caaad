"""Importing providers' bills: it owns idempotency, what supersedes what, and all-or-nothing.

It refuses shapes (``formats/bills``), taking back (``bill_withdrawals.py``) and comparison with the
ledger (``reconciliation.py``). Files are read to their end before the database is written to, so
that nobody waits for the reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from sqlmodel import Session

from tokenbudget.domain.errors import Conflict
from tokenbudget.domain.months import format_month
from tokenbudget.formats.bills import (
    BillEntry,
    BillFormat,
    Replaces,
    detect_format,
    get_format,
    refuse_file,
)
from tokenbudget.services.bill_doubles import warn_of_import
from tokenbudget.services.bill_spool import LINES, BillSpool, Origin
from tokenbudget.store import bills as store
from tokenbudget.store.db import Database
from tokenbudget.store.tables import BillImportRow

IMPORT_NAMESPACE: Final = UUID("7c1f6b1e-52c0-5a53-9a53-0d5b8a1c6b5e")

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class BillImport:
    """What came of one file.

    ``is_new`` is false when the same bytes were imported before: then nothing was stored and
    ``totals`` is empty. ``superseded_lines`` counts earlier lines this file restates. ``totals``
    are the exact sums by currency. ``warnings`` tell of days that seem to count twice.
    """

    file_name: str
    source: str
    import_id: str
    is_new: bool
    line_count: int
    superseded_lines: int
    totals: Mapping[str, Decimal]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Files that are parts of one delivery, besides those imported earlier as ``part_of``."""

    paths: Sequence[Path]
    source: str | BillFormat | None = None
    account: str = ""
    part_of: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class PulledEntries:
    """What was fetched rather than read from a file.

    ``digest`` is 64 hexadecimal digits that stand for "the same bytes", ``name`` what is shown for
    a file's name. ``account`` is that of entries which do not name theirs.
    """

    source: str
    account: str
    name: str
    digest: str
    entries: Iterable[BillEntry]
    replaces: Replaces = Replaces.DAY


@dataclass(frozen=True, slots=True)
class _Given:
    """One thing to import; its entries are read when it ``is_new``."""

    name: str
    origin: Origin
    digest: str
    entries: Callable[[], Iterable[BillEntry]]
    is_new: bool = True


def import_bills(
    database: Database,
    paths: Sequence[Path],
    *,
    now: datetime,
    source: str | BillFormat | None = None,
    account: str = "",
    advance: Advance = lambda _count: None,
) -> list[BillImport]:
    """Give what came of each file, in the order given; all of them are stored, or none.

    The source is told from the content unless it is named. ``account`` is used for lines whose bill
    does not name theirs. A file replaces, for its source and account, what earlier files said of
    each UTC day or each billing month it covers, by the source's rule; by day, that goes for files
    before it in the same call too. What it replaces is kept. The same bytes are imported once, and
    again once that was withdrawn. ``advance`` is told the number of lines read, now and then.

    Raises BadFile, naming file, row, column and rule, or InvalidInput for a source nobody knows.
    BadFile too for two files of one call that cover the same billing month of a source that sends
    whole months: nobody can tell a part from a restatement. Conflict for bytes that were imported
    under another account or source.
    """
    given = [_open_bill(path, source, account) for path in paths]
    imports = _import_all(database, given, now=now, advance=advance)
    return _warn(database, imports)


def import_delivery(
    database: Database,
    delivery: Delivery,
    *,
    now: datetime,
    advance: Advance = lambda _count: None,
) -> list[BillImport]:
    """Give what came of each file of one delivery: parts that never replace each other.

    Otherwise like ``import_bills``.
    """
    given = [_open_bill(path, delivery.source, delivery.account) for path in delivery.paths]
    imports = _import_all(database, given, now=now, advance=advance, part_of=delivery.part_of)
    return _warn(database, imports)


def import_entries(database: Database, pulled: PulledEntries, *, now: datetime) -> BillImport:
    """Give what came of entries that were fetched, without warnings; else like ``import_bills``."""
    origin = Origin(_import_id(pulled.digest), pulled.source, pulled.account, pulled.replaces)
    given = _Given(pulled.name, origin, pulled.digest, lambda: pulled.entries)
    [imported] = _import_all(database, [given], now=now, advance=lambda _count: None)
    return imported


def _open_bill(path: Path, source: str | BillFormat | None, account: str) -> _Given:
    if isinstance(source, str):
        # A name that nobody knows is told before a file that is not there.
        get_format(source)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise refuse_file(path, f"cannot be read: {error.strerror}") from None
    match source:
        case None:
            chosen = detect_format(path)
        case str():
            chosen = get_format(source, path)
        case _:
            chosen = source
    if chosen.meaning:
        digest = hashlib.sha256(f"{digest}\n{chosen.meaning}".encode()).hexdigest()
    origin = Origin(_import_id(digest), chosen.source, account, chosen.replaces)
    return _Given(path.name, origin, digest, lambda: chosen.read(path))


def _import_id(digest: str, withdrawn_count: int = 0) -> str:
    told = f"{digest}\n{withdrawn_count}" if withdrawn_count else digest
    return str(uuid5(IMPORT_NAMESPACE, told))


def _import_all(
    database: Database,
    given: Sequence[_Given],
    *,
    now: datetime,
    advance: Advance,
    part_of: Collection[str] | None = None,
) -> list[BillImport]:
    """Read all that is new, then store it.

    With ``part_of`` they are parts of one delivery with those imports and spare each other.
    """
    with ExitStack() as stack:
        with database.reading() as session:
            named = [_name(session, each) for each in given]
        together: frozenset[str] = frozenset()
        if part_of is not None:
            together = frozenset((*part_of, *(each.origin.import_id for each in named)))
        spools: dict[str, BillSpool] = {}
        for each in {each.digest: each for each in named if each.is_new}.values():
            spool = stack.enter_context(BillSpool(each.origin))
            for count in spool.take(each.entries()):
                advance(count)
            if part_of is None:
                _refuse_parts(each, spool, spools.values())
            spools[each.digest] = spool
        with database.transaction() as session:
            store.lock_imports(session)
            return [_store(session, each, spools, together, now) for each in named]


def _name(session: Session, given: _Given) -> _Given:
    """Give it with the id it has or will have; bytes that were withdrawn get another one."""
    earlier = store.find_import(session, sha256=given.digest)
    if earlier is not None:
        _require_same(given, earlier)
        import_id = earlier.id
    else:
        withdrawn_count = store.count_withdrawn(session, sha256=given.digest)
        import_id = _import_id(given.digest, withdrawn_count)
    origin = replace(given.origin, import_id=import_id)
    return replace(given, origin=origin, is_new=earlier is None)


def _require_same(given: _Given, earlier: BillImportRow) -> None:
    """Raise Conflict for bytes that were imported under another source or account.

    No account differs where everything in the file names its own.
    """
    origin = given.origin
    if origin.source != earlier.source:
        known = f"as {earlier.source}"
    elif earlier.account not in (None, origin.account):
        known = (
            f"under the account {earlier.account!r}" if earlier.account else "without an account"
        )
    else:
        return
    raise Conflict(
        f"{given.name}: these bytes were imported {known} before, as {earlier.id}; to import them"
        f" otherwise, first run: tokenbudget bills withdraw {earlier.id} --reason TEXT",
        id=earlier.id,
        source=earlier.source,
        account=earlier.account,
    )


def _refuse_parts(given: _Given, spool: BillSpool, others: Iterable[BillSpool]) -> None:
    for other in others:
        shared = spool.restated & other.restated
        if (
            given.origin.replaces is not Replaces.MONTH
            or given.origin.source != other.origin.source
        ):
            continue
        for month in sorted(each.billing_month or 0 for each in shared):
            raise refuse_file(
                Path(given.name),
                f"covers {format_month(month)} as another file of this call does; import"
                " parts of one delivery as such, and a restatement in a call of its own",
            )


def _store(
    session: Session,
    given: _Given,
    spools: Mapping[str, BillSpool],
    together: frozenset[str],
    now: datetime,
) -> BillImport:
    origin = given.origin
    earlier = store.find_import(session, sha256=given.digest)
    if earlier is not None:
        _require_same(given, earlier)
        return BillImport(given.name, earlier.source, earlier.id, False, earlier.line_count, 0, {})
    withdrawn_count = store.count_withdrawn(session, sha256=given.digest)
    if origin.import_id != _import_id(given.digest, withdrawn_count):
        raise Conflict(f"{given.name}: an import of it was withdrawn meanwhile; import it again")
    spool = spools[given.digest]
    spared = together | {origin.import_id}
    store.append_import(
        session,
        {
            "id": origin.import_id,
            "source": origin.source,
            "file_name": given.name,
            "sha256": given.digest,
            "account": origin.account if spool.lends_account else None,
            "part_of": sorted(together - {origin.import_id}) or None,
            "line_count": spool.line_count,
            "imported_at": now,
        },
    )
    superseded_lines = _supersede(session, spool, spared)
    for kind, columns in spool.parts():
        append = store.append_lines if kind == LINES else store.append_usage
        append(session, columns)
    totals = dict(sorted(spool.totals.items()))
    return BillImport(
        given.name,
        origin.source,
        origin.import_id,
        True,
        spool.line_count,
        superseded_lines,
        totals,
    )


def _supersede(session: Session, spool: BillSpool, spared: Collection[str]) -> int:
    origin = spool.origin
    all_restated = sorted(spool.restated, key=_order)
    store.append_restatements(
        session, all_restated, source=origin.source, import_id=origin.import_id
    )
    held = store.tables_with(session, source=origin.source)
    return sum(
        store.supersede(
            session,
            model,
            restated,
            source=origin.source,
            import_id=origin.import_id,
            spared=spared,
        )
        for model in held
        for restated in all_restated
    )


def _warn(database: Database, imports: Sequence[BillImport]) -> list[BillImport]:
    return [
        replace(each, warnings=warn_of_import(database, each.source, each.import_id))
        if each.is_new
        else each
        for each in imports
    ]


def _order(restated: store.Restated) -> tuple[str, int, str]:
    return restated.account, restated.billing_month or 0, str(restated.period)
