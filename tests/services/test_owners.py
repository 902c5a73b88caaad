"""The dated registry of owners, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import Lifecycle, OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.services.owners import OwnersApplied, apply_owners, list_owners
from tokenbudget.store.db import Database, table_of
from tokenbudget.store.tables import RulesVersionRow

NOW = datetime(2026, 11, 20, 12, 7, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def make_entry(
    name: str = "growth",
    *,
    kind: OwnerKind = OwnerKind.TEAM,
    parent: str | None = None,
    email: str | None = "ana@example.com",
    valid_from: datetime | None = None,
) -> OwnerEntry:
    """Give an entry for a team that Ana owns."""
    return OwnerEntry(kind, name, OwnerFacts(parent=parent, email=email), valid_from)


def email_at(database: Database, at: datetime) -> list[str | None]:
    """Give the e-mails in force at the instant."""
    return [owner.facts.email for owner in list_owners(database, at)]


def rules_number(database: Database) -> int | None:
    """Give the stored number of the rules."""
    with database.reading() as session:
        column = table_of(RulesVersionRow).c.number
        return session.connection().execute(sa.select(column)).scalar()


def test_a_new_owner_holds_since_ever(database: Database) -> None:
    applied = apply_owners(database, [make_entry()], now=NOW)

    assert applied == OwnersApplied(created=1, changed=0, unchanged=0)
    assert email_at(database, datetime(1999, 1, 1, tzinfo=UTC)) == ["ana@example.com"]


def test_the_same_entries_again_change_nothing(database: Database) -> None:
    entries = [make_entry(valid_from=NOVEMBER), make_entry(email="bo@x.org", valid_from=DECEMBER)]
    apply_owners(database, entries, now=NOW)
    number = rules_number(database)

    applied = apply_owners(database, entries, now=NOW)

    assert applied == OwnersApplied(created=0, changed=0, unchanged=2)
    assert rules_number(database) == number == 1


def test_a_change_closes_the_old_entry_and_keeps_it(database: Database) -> None:
    apply_owners(database, [make_entry()], now=NOW)

    applied = apply_owners(
        database, [make_entry(email="bo@example.com", valid_from=NOVEMBER)], now=NOW
    )

    assert applied == OwnersApplied(created=0, changed=1, unchanged=0)
    assert email_at(database, datetime(2026, 10, 31, 23, 45, tzinfo=UTC)) == ["ana@example.com"]
    assert email_at(database, NOVEMBER) == ["bo@example.com"]
    assert rules_number(database) == 2


def test_a_change_without_a_date_holds_from_the_quarter_hour_of_now(database: Database) -> None:
    apply_owners(database, [make_entry()], now=NOW)

    apply_owners(database, [make_entry(email="bo@example.com")], now=NOW)

    (owner,) = list_owners(database, NOW)
    assert owner.valid_from == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert owner.facts.email == "bo@example.com"


def test_an_entry_before_a_later_one_holds_until_it_begins(database: Database) -> None:
    apply_owners(database, [make_entry(email="late@example.com", valid_from=DECEMBER)], now=NOW)

    apply_owners(database, [make_entry(email="early@example.com", valid_from=NOVEMBER)], now=NOW)

    (owner,) = list_owners(database, NOVEMBER)
    assert (owner.facts.email, owner.valid_to) == ("early@example.com", DECEMBER)
    assert email_at(database, DECEMBER) == ["late@example.com"]


def test_an_entry_that_begins_where_another_began_replaces_it(database: Database) -> None:
    apply_owners(database, [make_entry(email="typo@example.com", valid_from=NOVEMBER)], now=NOW)

    applied = apply_owners(database, [make_entry(valid_from=NOVEMBER)], now=NOW)

    assert applied.changed == 1
    assert email_at(database, NOVEMBER) == ["ana@example.com"]


def test_a_retired_feature_is_still_listed(database: Database) -> None:
    retired = OwnerFacts(parent="growth", lifecycle=Lifecycle.RETIRED)

    apply_owners(
        database, [make_entry(), OwnerEntry(OwnerKind.FEATURE, "summarise", retired)], now=NOW
    )

    assert [(owner.kind, owner.facts.lifecycle) for owner in list_owners(database, NOW)] == [
        (OwnerKind.FEATURE, Lifecycle.RETIRED),
        (OwnerKind.TEAM, Lifecycle.ACTIVE),
    ]


def test_an_unknown_parent_is_refused_and_nothing_is_written(database: Database) -> None:
    entries = [make_entry(), make_entry("summarise", kind=OwnerKind.FEATURE, parent="ghosts")]

    with pytest.raises(InvalidInput, match="feature 'summarise': parent 'ghosts' is not a known"):
        apply_owners(database, entries, now=NOW)

    assert list_owners(database, NOW) == []


def test_teams_above_each_other_are_refused(database: Database) -> None:
    apply_owners(database, [make_entry("a"), make_entry("b", parent="a")], now=NOW)

    with pytest.raises(InvalidInput, match="leads back to the team itself"):
        apply_owners(database, [make_entry("a", parent="b", valid_from=NOVEMBER)], now=NOW)


def test_owners_are_listed_in_pages(database: Database) -> None:
    apply_owners(
        database,
        [make_entry("b"), make_entry("a"), make_entry("z", kind=OwnerKind.COST_CENTER)],
        now=NOW,
    )

    first = list_owners(database, NOW, limit=2)
    rest = list_owners(database, NOW, after=first[-1].key, limit=2)

    assert [owner.name for owner in first] == ["z", "a"]
    assert [owner.name for owner in rest] == ["b"]
