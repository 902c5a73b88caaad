"""Warnings about days that count twice, since one account goes by two names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_providers import running_providers
from tests.services.bill_cases import BILLING, NOW
from tests.services.pull_cases import only, order_of, pulling
from tests.services.withdrawal_cases import MIDNIGHT, Told, bring, format_of, write_bill
from tokenbudget.formats.bills import Replaces
from tokenbudget.services.bill_withdrawals import withdraw_import
from tokenbudget.services.bills import import_bills
from tokenbudget.store.bill_pulls import note_progress
from tokenbudget.store.db import Database

REMEDY = (
    "; if that is one account, take one of them back (tokenbudget bills list, tokenbudget bills"
    " withdraw ID) and import it with the other's --account"
)


def note_pull(database: Database, account: str) -> None:
    """Note that contoso is pulled under this account."""
    with database.transaction() as session:
        note_progress(session, source="contoso", account=account, pulled_until=MIDNIGHT, now=NOW)


def test_days_with_an_account_and_without_one_are_named_with_the_remedy(
    database: Database, tmp_path: Path
) -> None:
    pages = write_bill(tmp_path / "pages", *(Told("", day, cents=day) for day in (1, 2, 3)))
    first = bring(database, pages)
    dashboard = write_bill(
        tmp_path / "dashboard", *(Told("org-1", day, cents=7) for day in (2, 3, 4))
    )

    second = bring(database, dashboard)

    assert first.warnings == ()
    assert second.warnings == (
        "contoso: 2026-08-02 to 2026-08-03 (2 days) in force twice, without an account and under"
        f" 'org-1'{REMEDY}",
    )
    assert bring(database, dashboard).warnings == ()


def test_usage_and_single_days_are_told_of_too(database: Database, tmp_path: Path) -> None:
    bring(database, write_bill(tmp_path / "named", Told("org-1", 2, tokens=5)))

    nameless = bring(database, write_bill(tmp_path / "nameless", Told("", 2, tokens=5)))

    [warning] = nameless.warnings
    assert warning.startswith("contoso: 2026-08-02 in force twice, without an account and under")


def test_a_whole_month_is_looked_at_where_a_source_sends_months(
    database: Database, tmp_path: Path
) -> None:
    shape = format_of(replaces=Replaces.MONTH)
    bring(database, write_bill(tmp_path / "named", Told("a", 2, cents=5)), shape=shape)

    nameless = bring(database, write_bill(tmp_path / "nameless", Told("", 2, cents=5)), shape=shape)

    assert len(nameless.warnings) == 1


def test_accounts_that_one_bill_tells_apart_are_no_doubles(
    database: Database, tmp_path: Path
) -> None:
    told = [Told("", 1, cents=5), Told("a", 1, cents=5), Told("b", 1, cents=5)]
    note_pull(database, "a")

    assert bring(database, write_bill(tmp_path / "bill", *told)).warnings == ()


def test_a_withdrawn_bill_and_another_day_are_no_doubles(
    database: Database, tmp_path: Path
) -> None:
    wrong = bring(database, write_bill(tmp_path / "wrong", Told("", 1, cents=5)))
    withdraw_import(database, wrong.import_id, reason="wrong account", now=NOW)
    bring(database, write_bill(tmp_path / "before", Told("", 2, cents=5)))

    assert bring(database, write_bill(tmp_path / "right", Told("a", 1, cents=5))).warnings == ()


def test_a_bill_without_anything_in_it_has_no_warnings(database: Database, tmp_path: Path) -> None:
    assert bring(database, write_bill(tmp_path / "empty")).warnings == ()


@pytest.mark.parametrize(
    ("cents", "currency_total"), [((5, 7), "the same"), ((7, 5), "the same"), ((5, 8), "another")]
)
def test_a_pulled_account_and_another_that_bills_the_same_are_named(
    database: Database, tmp_path: Path, cents: tuple[int, int], currency_total: str
) -> None:
    note_pull(database, "acme")
    pulled = [Told("acme", 1, cents=4), Told("acme", 1, cents=8)]
    bring(database, write_bill(tmp_path / "pulled", *pulled))

    other = bring(
        database, write_bill(tmp_path / "other", *(Told("org-1", 1, cents=each) for each in cents))
    )

    assert other.warnings == (
        (f"contoso: 2026-08-01 in force twice, under 'acme' and 'org-1'{REMEDY}",)
        if currency_total == "the same"
        else ()
    )


def test_two_pulled_accounts_are_named_once_and_others_never(
    database: Database, tmp_path: Path
) -> None:
    for account in ("one", "two"):
        note_pull(database, account)
    for account in ("one", "three", "four"):
        bring(database, write_bill(tmp_path / account, Told(account, 1, cents=3)))

    last = bring(database, write_bill(tmp_path / "two", Told("two", 1, cents=3)))

    pairs = [warning.split("twice, ")[1].split(";")[0] for warning in last.warnings]
    assert pairs == [
        "under 'one' and 'four'",
        "under 'one' and 'three'",
        "under 'one' and 'two'",
        "under 'two' and 'four'",
        "under 'two' and 'three'",
    ]


def test_days_that_bill_nothing_are_no_doubles(database: Database, tmp_path: Path) -> None:
    note_pull(database, "acme")
    bring(database, write_bill(tmp_path / "pulled", Told("acme", 1, cents=0)))

    assert bring(database, write_bill(tmp_path / "other", Told("b", 1, cents=0))).warnings == ()


def test_sums_beyond_64_bits_of_nanos_are_compared(database: Database, tmp_path: Path) -> None:
    note_pull(database, "acme")
    for account in ("acme", "org-1"):
        told = [Told(account, 1, cents=900_000_000_000)] * 2
        last = bring(database, write_bill(tmp_path / account, *told))

    assert len(last.warnings) == 1


def test_there_are_no_more_warnings_than_anybody_reads(database: Database, tmp_path: Path) -> None:
    named = [Told(f"account-{number}", 1, cents=5) for number in range(30)]
    bring(database, write_bill(tmp_path / "named", *named))

    nameless = bring(database, write_bill(tmp_path / "nameless", Told("", 1, cents=5)))

    assert len(nameless.warnings) == 20


def test_days_of_a_pull_that_a_file_tells_under_another_account_are_warned_of(
    database: Database,
) -> None:
    import_bills(database, [BILLING / "openai-costs.page1.json"], now=NOW)
    order = order_of("2026-09-01", "2026-09-05", account="acme")

    with running_providers() as providers, pulling(database, providers) as puller:
        providers.tell_samples()
        first, again = (only(puller.pull(order=order), "openai-costs") for _ in range(2))

    [warning] = first.warnings
    assert warning.startswith("openai-costs: 2026-09-01 to 2026-09-02 (2 days) in force twice,")
    assert "without an account and under 'acme'" in warning
    assert again.warnings == ()
