"""References come back as they were given, whatever they are, and take the room they are said to.

An operation is found by the index of its references on both engines.
"""

from __future__ import annotations

import string
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st
from sqlmodel import Session

from tests.builders import make_event, record, rows_of
from tokenbudget.domain.usage import Basis
from tokenbudget.services.ledger import Ledger
from tokenbudget.store.coding import (
    BASIS_CODES,
    BASIS_WORDS,
    bucket_of,
    read_reference,
    stored_reference,
)
from tokenbudget.store.db import Database, is_sqlite
from tokenbudget.store.event_queries import are_of_operations, list_operation_usage
from tokenbudget.store.outcomes import list_operations_usage
from tokenbudget.store.tables import ChargeRow, UsageRow

ULID = "01JD4XK8Z3QWERTYASDFGHJKMN"
UUID = "0193477e-9f1c-7aa5-8b1d-2f6f0c9e4d11"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RESPONSE = "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LETTERS = string.ascii_letters + string.digits + "-_"
NEAR_MISSES = (
    "",
    ULID.lower(),
    "8" + "Z" * 25,
    ULID[:-1] + "U",
    ULID[:-1] + "_",
    "+" + ULID[1:],
    " " + ULID[1:],
    UUID.upper(),
    UUID.replace("-", "_"),
    UUID[:-1] + "-",
    "-" * 36,
    UUID[:-1] + "g",
    TRACE.upper(),
    TRACE[:-1],
    f"{TRACE}-{SPAN}",
    f"{TRACE}:{SPAN[:-1]}",
    f"{TRACE}:{SPAN[:-1]}G",
    f"{TRACE}:{SPAN[:-1]}\xe9",
    RESPONSE[:-1] + "+",
    RESPONSE[:-1] + "/",
    RESPONSE[:-1] + "=",
    "\xff" * 17,
)

references = st.one_of(
    st.text(max_size=60).filter(lambda text: text.isprintable()),
    st.text(LETTERS, max_size=60),
    st.text(CROCKFORD, min_size=26, max_size=26),
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text("0123456789abcdefA-:", min_size=36, max_size=36),
    st.uuids().map(str),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (ULID, 17),
        ("7" + "Z" * 25, 17),
        ("0" * 26, 17),
        (UUID, 17),
        (TRACE, 17),
        (SPAN, 9),
        (f"{TRACE}:{SPAN}", 25),
        (RESPONSE, 30),
        (RESPONSE[:-1], 29),
        (RESPONSE[:-2], 28),
        (RESPONSE[:-3], 28),
        ("order-1234", 10),
    ],
)
def test_a_reference_takes_few_bytes(text: str, size: int) -> None:
    stored = stored_reference(text)

    assert len(stored) == size
    assert read_reference(stored) == text


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_what_only_looks_like_a_reference_stays_as_it_is(text: str) -> None:
    assert read_reference(stored_reference(text)) == text


@given(text=references)
def test_every_text_comes_back_and_never_takes_more_room(text: str) -> None:
    stored = stored_reference(text)

    assert read_reference(stored) == text
    assert len(stored) <= len(text.encode())


@given(first=references, second=references)
@example(first=TRACE, second=UUID.replace("-", ""))
@example(first=ULID, second=ULID.lower())
def test_different_texts_are_stored_differently(first: str, second: str) -> None:
    assert (stored_reference(first) == stored_reference(second)) == (first == second)


def test_every_basis_has_its_own_number() -> None:
    assert set(BASIS_CODES) == {basis.value for basis in Basis}
    assert {BASIS_WORDS[code]: code for code in BASIS_WORDS} == BASIS_CODES


@pytest.mark.parametrize(
    "text", [ULID, UUID, TRACE, SPAN, RESPONSE, "order-1234", *NEAR_MISSES[1:]]
)
def test_the_ledger_gives_references_back_as_they_came(ledger: Ledger, text: str) -> None:
    event = make_event(event_id=text, operation_id=text, trace_id=text, response_id=text)

    record(ledger, event)

    [usage] = rows_of(ledger.database, UsageRow)
    names = ("event_ref", "operation_ref", "trace_ref", "response_ref")
    assert [usage[name] for name in names] == [text] * 4
    [charge] = rows_of(ledger.database, ChargeRow)
    assert charge["basis"] == "rated"


def test_a_charge_is_stored_with_a_number_for_its_basis(ledger: Ledger) -> None:
    record(ledger, make_event(), make_event(event_id="e2", model="unheard-of"))

    with ledger.database.reading() as session:
        text = "SELECT basis FROM charges ORDER BY usage_id"
        codes = list(session.connection().exec_driver_sql(text).scalars())
    assert codes == [BASIS_CODES["rated"], BASIS_CODES["unpriced"]]


def test_operations_are_found_among_others_of_their_bucket(ledger: Ledger) -> None:
    first = "op-1"
    others = (f"op-{number}" for number in range(2, 10**6))
    twin = next(name for name in others if bucket_of(name) == bucket_of(first))
    events = [make_event(event_id=name, operation_id=name) for name in (first, twin, ULID)]
    record(ledger, *events, make_event(event_id="none"))

    with ledger.database.reading() as session:
        one = list_operation_usage(session, first, limit=10)
        several = list_operations_usage(session, [twin, ULID, "unheard-of"])

    assert [row.operation_ref for row in one] == [first]
    assert sorted(str(row.operation_ref) for row in several) == sorted([twin, ULID])


@pytest.mark.parametrize("wanted", [["op-1"], ["op-1", "op-2", ULID]])
def test_operations_are_looked_up_in_their_index(database: Database, wanted: list[str]) -> None:
    with database.reading() as session:
        statement = sa.select(UsageRow).where(are_of_operations(session, wanted))
        plan = plan_of(session, statement)

    index = "ix_usage_operation_ref" if database.is_sqlite else "Index Cond: (substr(sha256("
    assert index in plan
    assert "Seq Scan" not in plan


def plan_of(session: Session, statement: sa.Select[Any]) -> str:
    """Give how the database would answer a query if the table were too large to be read."""
    explain = "EXPLAIN QUERY PLAN" if is_sqlite(session) else "EXPLAIN"
    connection = session.connection()
    if not is_sqlite(session):
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")

    def ask_how(*told: Any) -> tuple[str, Any]:
        _, _, text, parameters, *_ = told
        return f"{explain} {text}", parameters

    sa.event.listen(connection, "before_cursor_execute", ask_how, retval=True)
    result = connection.execute(statement)
    return "\n".join(str(row) for row in result.cursor.fetchall())
