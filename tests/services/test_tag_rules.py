"""Tag rules are put whole, as versions, and hold for what is recorded from then on."""

from __future__ import annotations

from collections.abc import Iterable

from tests.builders import contents, make_event, record, rows_of
from tests.conftest import FrozenClock
from tests.services.attribution_cases import TO_SEARCH, set_rules, spent_by
from tokenbudget.domain.documents import EntryChange
from tokenbudget.formats.tag_rules import parse_tag_rules
from tokenbudget.services.ledger import Ledger
from tokenbudget.services.tag_rules import (
    apply_tag_rules,
    get_tag_rules,
    list_versions,
)
from tokenbudget.store.db import Database
from tokenbudget.store.tables import DimensionSetRow, TagRulesRow


def named(*names: str) -> list[dict[str, object]]:
    """Give rules of these names that do nothing of note."""
    return [{"name": name, "when": {"tenant": name}, "set": {"team": name}} for name in names]


def changed(changes: Iterable[EntryChange]) -> list[tuple[str, str, int | None]]:
    """Give the name, action and position of each change."""
    return [(change.name, change.action, change.position) for change in changes]


def test_every_apply_that_changes_something_is_a_new_version(
    database: Database, clock: FrozenClock
) -> None:
    first = set_rules(database, clock, TO_SEARCH)
    clock.advance(hours=1)
    again = set_rules(database, clock, TO_SEARCH)
    second = set_rules(database, clock)

    assert [each.version for each in (first, again, second)] == [1, 1, 2]
    assert [each.is_changed for each in (first, again, second)] == [True, False, True]
    assert [row["version"] for row in rows_of(database, TagRulesRow)] == [1, 2]
    assert get_tag_rules(database).content == {"mapping": [], "rule": []}
    assert [each.version for each in list_versions(database, limit=1)] == [2]


def test_an_apply_says_what_became_of_each_entry(database: Database, clock: FrozenClock) -> None:
    set_rules(database, clock, *named("a", "b", "c", "d"))
    dear = {**named("d")[0], "set": {"team": "x"}}

    applied = set_rules(database, clock, *named("new", "b", "a"), dear)

    assert changed(applied.changes) == [
        ("new", "added", 1),
        ("b", "moved", 2),
        ("a", "moved", 3),
        ("d", "changed", 4),
        ("c", "removed", 3),
    ]


def test_mappings_are_known_by_what_they_match(database: Database, clock: FrozenClock) -> None:
    old = {"match": {"provider": "openai", "account": ["p1", "p2"]}, "tags": {"team": "a"}}
    new = {**old, "tags": {"team": "b"}}
    dated = {**new, "valid_from": "2026-11-01"}
    set_rules(database, clock, mappings=[old])

    assert changed(set_rules(database, clock, mappings=[new]).changes) == [
        ("account=p1|p2, provider=openai", "changed", 1)
    ]
    assert changed(set_rules(database, clock, mappings=[dated, new]).changes) == [
        ("account=p1|p2, provider=openai from 2026-11-01T00:00:00Z", "added", 1)
    ]


def test_a_dry_run_writes_nothing(database: Database, clock: FrozenClock) -> None:
    before = contents(database)
    draft = parse_tag_rules({"rule": [TO_SEARCH]})

    applied = apply_tag_rules(database, draft, now=clock(), dry_run=True)

    assert (applied.version, applied.is_changed) == (1, True)
    assert contents(database) == before


def test_who_wrote_a_version_is_kept(database: Database, clock: FrozenClock) -> None:
    draft = parse_tag_rules({"rule": [TO_SEARCH]})

    apply_tag_rules(database, draft, now=clock(), by="key-1")

    present = get_tag_rules(database)
    assert (present.recorded_by, present.recorded_at) == ("key-1", clock())


def test_usage_follows_the_rules_of_its_recording_at_once(
    ledger: Ledger, other_ledger: Ledger, database: Database, clock: FrozenClock
) -> None:
    tags = {"tenant": "acme"}
    for worker in (ledger, other_ledger):
        record(worker, make_event(event_id=f"before-{id(worker)}", tags=tags))
    set_rules(database, clock, TO_SEARCH)
    for worker in (ledger, other_ledger):
        record(worker, make_event(event_id=f"after-{id(worker)}", tags=tags))

    assert spent_by(database) == {"unallocated": 40_000_000, "search": 40_000_000}
    steps = [row["resolved_by"]["team"] for row in rows_of(database, DimensionSetRow)]
    assert steps == ["unallocated", "rule"]
