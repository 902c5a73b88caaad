"""Taking imports back: what they had replaced counts again, nothing is lost, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import CENT, PRICES
from tests.fake_providers import running_providers
from tests.services.bill_cases import NOW, stored_lines, total_in_force
from tests.services.pull_cases import only, order_of, pulling
from tests.services.statement_cases import AUGUST, SEPTEMBER, cells_of
from tests.services.withdrawal_cases import (
    SOURCE,
    Imported,
    Told,
    bring,
    format_of,
    in_force,
    replay,
    rows_of,
    write_bill,
)
from tokenbudget.domain.errors import Conflict, InvalidInput, NotFound
from tokenbudget.formats.bills import Replaces
from tokenbudget.services.bill_records import get_import
from tokenbudget.services.bill_withdrawals import Withdrawal, withdraw_import
from tokenbudget.services.bills import import_bills
from tokenbudget.services.closing import AT_ONCE, close_month
from tokenbudget.services.stating import make_allocate
from tokenbudget.store.db import Database


def withdraw(database: Database, import_id: str, reason: str = "wrong file") -> Withdrawal:
    """Take an import back."""
    return withdraw_import(database, import_id, reason=reason, now=NOW, by="key-1")


class Chain:
    """Bills of one day, each restating the one before, known by their names."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.directory = directory
        self.ids: dict[str, str] = {}

    def bring(self, name: str, *told: Told) -> None:
        path = write_bill(self.directory / name, *(told or (Told("a", 1, cents=100),)))
        self.ids[name] = bring(self.database, path).import_id

    def withdraw(self, name: str) -> Withdrawal:
        return withdraw(self.database, self.ids[name])

    @property
    def in_force(self) -> list[str]:
        names = {import_id: name for name, import_id in self.ids.items()}
        return in_force(self.database, names.__getitem__)


@pytest.fixture
def chain(database: Database, tmp_path: Path) -> Chain:
    """Give three bills of the same day, of which the third is in force."""
    chain = Chain(database, tmp_path)
    for name in ("A", "B", "C"):
        chain.bring(name)
    return chain


def test_withdrawing_the_middle_one_leaves_the_last_in_force(chain: Chain) -> None:
    done = chain.withdraw("B")

    assert (done.is_new, done.withdrawn_lines, done.restored_lines) == (True, 0, 0)
    assert chain.in_force == ["C"]
    superseded_by = {row.import_id: row.superseded_by for row in rows_of(chain.database)}
    assert superseded_by[chain.ids["A"]] == chain.ids["C"]


def test_withdrawing_the_last_one_brings_the_one_before_back(chain: Chain) -> None:
    done = chain.withdraw("C")

    assert (done.withdrawn_lines, done.restored_lines) == (1, 1)
    assert chain.in_force == ["B"]


@pytest.mark.parametrize("order", ["BC", "CB"])
def test_withdrawing_the_last_two_brings_the_first_back(chain: Chain, order: str) -> None:
    for name in order:
        chain.withdraw(name)

    assert chain.in_force == ["A"]


def test_nothing_of_a_withdrawn_bill_comes_back_with_what_it_had_superseded(chain: Chain) -> None:
    for name in "ABC":
        chain.withdraw(name)

    assert chain.in_force == []
    assert len(rows_of(chain.database)) == 3


def test_a_day_that_a_later_bill_tells_to_be_empty_does_not_come_back(chain: Chain) -> None:
    chain.bring("D", Told("a", 1, cents=None))

    chain.withdraw("C")

    assert chain.in_force == []
    assert chain.withdraw("D").restored_lines == 1
    assert chain.in_force == ["B"]


def test_only_what_no_later_bill_covers_comes_back(database: Database, tmp_path: Path) -> None:
    chain = Chain(database, tmp_path)
    chain.bring("A", *(Told("a", day, cents=day) for day in (1, 2, 3)), Told("b", 1, cents=50))
    chain.bring("B", *(Told("a", day, cents=10 * day) for day in (1, 2, 3)))
    chain.bring("C", Told("a", 2, cents=7))

    done = chain.withdraw("B")

    assert (done.withdrawn_lines, done.restored_lines) == (2, 2)
    # Days 1 and 3 of A, day 2 of C, and the account that nothing has touched.
    assert str(total_in_force(database)) == "0.61"


def test_withdrawing_twice_changes_nothing_and_keeps_the_first_reason(chain: Chain) -> None:
    chain.withdraw("C")
    before = rows_of(chain.database)

    again = withdraw(chain.database, chain.ids["C"], "something else")

    assert again == Withdrawal(chain.ids["C"], False, 0, 0)
    assert rows_of(chain.database) == before
    row = get_import(chain.database, chain.ids["C"]).row
    assert (row.withdrawn_at, row.withdrawn_by, row.withdrawal_reason) == (
        NOW,
        "key-1",
        "wrong file",
    )


def test_an_import_that_is_unknown_and_a_reason_that_is_none_are_refused(chain: Chain) -> None:
    with pytest.raises(NotFound, match="no import of bills 'nothing'"):
        withdraw(chain.database, "nothing")
    for reason in (" ", "x" * 1001, "nul\x00"):
        with pytest.raises(InvalidInput, match="reason must"):
            withdraw(chain.database, chain.ids["A"], reason)

    assert chain.in_force == ["C"]


def test_the_same_bytes_may_be_imported_again_under_another_account(
    database: Database, tmp_path: Path
) -> None:
    path = write_bill(tmp_path / "bill", Told("", 1, cents=5))
    wrong = bring(database, path, account="wrong")
    with pytest.raises(Conflict, match=r"imported under the account 'wrong' before.*withdraw"):
        bring(database, path, account="right")
    withdraw(database, wrong.import_id)

    right = bring(database, path, account="right")
    again = bring(database, path, account="right")

    assert (right.is_new, again.is_new) == (True, False)
    assert right.import_id == again.import_id != wrong.import_id
    assert str(total_in_force(database)) == "0.05"
    assert get_import(database, wrong.import_id).row.account == "wrong"
    withdraw(database, right.import_id)
    assert bring(database, path, account="wrong").is_new


def test_the_same_bytes_under_another_name_of_the_account_or_source_are_one_clear_error(
    database: Database, tmp_path: Path
) -> None:
    path = write_bill(tmp_path / "bill", Told("", 1, cents=5))
    imported = bring(database, path)

    with pytest.raises(Conflict, match="imported without an account before") as caught:
        bring(database, path, account="acme")
    with pytest.raises(Conflict, match=f"imported as {SOURCE} before"):
        bring(database, path, shape=format_of("fabrikam"))

    assert caught.value.facts == {"id": imported.import_id, "source": SOURCE, "account": ""}
    assert len(rows_of(database)) == 1


def test_a_bill_that_names_its_accounts_is_the_same_whatever_account_is_given(
    database: Database, tmp_path: Path
) -> None:
    path = write_bill(tmp_path / "bill", Told("a", 1, cents=5))
    bring(database, path)

    assert not bring(database, path, account="another").is_new


def test_a_bill_that_is_withdrawn_while_it_is_read_again_is_one_clear_error(
    database: Database, tmp_path: Path
) -> None:
    old = write_bill(tmp_path / "old", Told("a", 1, cents=5))
    new = write_bill(tmp_path / "new", Told("a", 1, cents=6))
    imported = bring(database, old)

    with pytest.raises(Conflict, match="withdrawn meanwhile"):
        import_bills(
            database,
            [new, old],
            now=NOW,
            source=format_of(),
            advance=lambda _count: withdraw(database, imported.import_id),
        )

    assert str(total_in_force(database)) == "0"


def test_a_part_of_a_delivery_that_is_withdrawn_leaves_its_other_parts_alone(
    database: Database, tmp_path: Path
) -> None:
    chain = Chain(database, tmp_path)
    chain.bring("whole", Told("a", 1, cents=100))
    one, two = (write_bill(tmp_path / name, Told("a", 1, cents=5)) for name in ("one", "two"))
    chain.ids["one"] = bring(database, one, part_of=()).import_id
    chain.ids["two"] = bring(database, two, part_of=[chain.ids["one"]]).import_id

    chain.withdraw("one")
    after_one = chain.in_force
    chain.withdraw("two")

    assert after_one == ["two"]
    assert chain.in_force == ["whole"]


def test_a_day_that_was_withdrawn_is_pulled_again(database: Database) -> None:
    order = order_of("2026-09-02", "2026-09-03")
    with running_providers() as providers, pulling(database, providers) as puller:
        providers.tell_samples()
        puller.pull(order=order)
        [wrong] = {line.import_id for line in stored_lines(database)}
        withdraw(database, wrong)

        again = only(puller.pull(order=order), "openai-costs")

    assert again.changed_days == 1
    assert str(total_in_force(database)) == "6.5693225"


def test_a_closed_month_shows_it_as_a_correction_in_the_next_statement(
    database: Database, tmp_path: Path
) -> None:
    bring(database, write_bill(tmp_path / "first", Told("a", 10, cents=150)))
    wrong = bring(database, write_bill(tmp_path / "wrong", Told("a", 10, cents=900)))
    allocate = make_allocate(currency="USD", price_list=PRICES)
    august = close_month(database, allocate, month=AUGUST, now=NOW, grace=AT_ONCE).statement

    withdraw(database, wrong.import_id)
    september = close_month(database, allocate, month=SEPTEMBER, now=NOW, grace=AT_ONCE).statement

    assert cells_of(database, august.statement_id) == [("202608", "Untracked", "untracked", 900)]
    assert cells_of(database, september.statement_id) == [
        ("202608", "Untracked", "untracked", -750)
    ]
    assert september.total_nanos == -750 * CENT


def test_usage_falls_to_a_later_bill_of_another_month_for_the_same_day(
    database: Database, tmp_path: Path
) -> None:
    usage = bring(database, write_bill(tmp_path / "usage", Told("b", 1, cents=None, tokens=7)))
    wrong = bring(database, write_bill(tmp_path / "wrong", Told("b", 1, cents=2, month=202609)))
    later = bring(database, write_bill(tmp_path / "later", Told("b", 1, cents=2)))

    withdraw(database, wrong.import_id)

    [row] = [row for row in rows_of(database) if row.import_id == usage.import_id]
    assert row.superseded_by == later.import_id


DAYS = st.builds(
    Told,
    account=st.sampled_from(["a", "b"]),
    first=st.integers(1, 3),
    days=st.sampled_from([1, 1, 1, 2]),
    cents=st.sampled_from([1, 2, None]),
    tokens=st.none(),
    month=st.sampled_from([202608, 202608, 202609]),
)
USAGE = st.builds(
    Told,
    account=st.sampled_from(["a", "b"]),
    first=st.integers(1, 3),
    days=st.just(1),
    cents=st.none(),
    tokens=st.integers(1, 9),
    month=st.just(202608),
)
BILL = st.lists(DAYS | USAGE, min_size=1, max_size=4)
MONTH_BILL = st.lists(DAYS.filter(lambda told: told.cents is not None), min_size=1, max_size=4)
STEP = st.tuples(st.sampled_from(["import", "import", "part", "withdraw", "again"]), BILL)
MONTH_STEP = st.tuples(st.sampled_from(["import", "import", "withdraw"]), MONTH_BILL)
NUMBERS = count()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    case=st.tuples(st.just(Replaces.DAY), st.lists(STEP, min_size=2, max_size=9))
    | st.tuples(st.just(Replaces.MONTH), st.lists(MONTH_STEP, min_size=2, max_size=7)),
    choices=st.randoms(use_true_random=False),
)
def test_what_is_in_force_is_what_the_imports_that_are_left_would_have_made_it(
    database: Database,
    tmp_path: Path,
    case: tuple[Replaces, list[tuple[str, list[Told]]]],
    choices: Random,
) -> None:
    replaces, steps = case
    source = f"source-{next(NUMBERS)}"
    shape = format_of(source, replaces)
    files: dict[str, tuple[Path, list[Told]]] = {}
    left: list[Imported] = []

    for step, told in steps:
        chosen = choices.choice(sorted(files)) if files else None
        if step == "withdraw" and chosen is not None:
            withdraw(database, chosen)
            left = [each for each in left if each.import_id != chosen]
            continue
        path = write_bill(tmp_path / f"{source}-{len(files)}", *told)
        part_of: Sequence[str] | None = None
        if step == "again" and chosen is not None:
            path, told = files[chosen]
        elif step == "part" and chosen is not None:
            part_of = [chosen]
        imported = bring(database, path, shape=shape, part_of=part_of)
        if imported.is_new:
            files[imported.import_id] = (path, told)
            spared = frozenset(part_of or ())
            left.append(Imported(imported.import_id, told, spared, replaces))

    remaining = {each.import_id for each in left}
    found = rows_of(database, source)
    assert {row for row in found if row.import_id in remaining} == replay(left)
    assert all(
        row.superseded_by == row.import_id for row in found if row.import_id not in remaining
    )
