"""The owners registry as files spell it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenbudget.domain.errors import InvalidInput
from tokenbudget.domain.owners import Lifecycle, Owner, OwnerEntry, OwnerFacts, OwnerKind
from tokenbudget.formats.owners import describe_owner, parse_owners, parse_owners_toml

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def test_toml_tables_become_entries() -> None:
    text = """
        [[owner]]
        kind = "team"
        name = "growth"
        cost_center = "CC-1"
        email = "ana@example.com"
        valid_from = 2026-11-01

        [[owner]]
        kind = "feature"
        name = "summarise"
        parent = "growth"
        lifecycle = "deprecated"
    """

    entries = parse_owners_toml(text, file_name="owners.toml")

    team = OwnerFacts(cost_center="CC-1", email="ana@example.com")
    feature = OwnerFacts(parent="growth", lifecycle=Lifecycle.DEPRECATED)
    assert entries == [
        OwnerEntry(OwnerKind.TEAM, "growth", team, NOVEMBER),
        OwnerEntry(OwnerKind.FEATURE, "summarise", feature),
    ]


@pytest.mark.parametrize(
    "valid_from",
    ["2026-11-01", "2026-11-01T00:00:00Z", "2026-11-01T05:30:00+05:30", NOVEMBER, NOVEMBER.date()],
)
def test_a_date_is_its_midnight_in_utc_and_a_time_keeps_its_offset(valid_from: object) -> None:
    entry = {"kind": "team", "name": "growth", "valid_from": valid_from}

    (parsed,) = parse_owners({"owner": [entry]})

    assert parsed.valid_from == NOVEMBER


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "guild"}, "owner 1: .*guild.*kind"),
        ({"name": ""}, "owner 1: .*name"),
        ({"colour": "red"}, "owner 1: .*colour"),
        ({"email": "ana"}, "owner 1: .*email"),
        ({"lifecycle": "gone"}, "owner 1: .*gone.*lifecycle"),
        (
            {"valid_from": "2026-11-01T00:00:00"},
            r"owner 1 \(team 'growth'\): valid_from .* has no UTC offset",
        ),
        ({"valid_from": "2026-11-01T00:07:00Z"}, "valid_from must lie on a quarter-hour"),
        ({"valid_from": 20261101}, "valid_from must be a date or an RFC 3339 time"),
        ({"kind": "cost_center", "parent": "x"}, "a cost_center has neither parent nor"),
    ],
)
def test_an_entry_at_fault_is_named_with_its_rule(fault: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_owners({"owner": [{"kind": "team", "name": "growth", **fault}]})


@pytest.mark.parametrize("document", [[], {"owner": {}}, {"owners": []}, None])
def test_a_document_that_is_no_list_of_owners_is_refused(document: object) -> None:
    with pytest.raises(InvalidInput, match="must hold a list named 'owner' and nothing else"):
        parse_owners(document)


def test_text_that_is_no_toml_is_refused_with_the_file() -> None:
    with pytest.raises(InvalidInput, match=r"teams\.toml: not TOML"):
        parse_owners_toml("[[owner", file_name="teams.toml")


def test_the_same_name_and_date_twice_are_refused() -> None:
    entry = {"kind": "team", "name": "growth"}

    with pytest.raises(
        InvalidInput, match=r"owner 2 \(team 'growth'\) says the same .* as owner 1"
    ):
        parse_owners({"owner": [entry, entry]})


def test_more_owners_than_the_limit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 10000 owners"):
        parse_owners({"owner": [{}] * 10_001})


@pytest.mark.parametrize(("valid_to", "shown"), [(None, None), (NOVEMBER, "2026-11-01T00:00:00Z")])
def test_an_owner_is_described_in_the_same_words(
    valid_to: datetime | None, shown: str | None
) -> None:
    owner = Owner(
        OwnerKind.TEAM,
        "growth",
        OwnerFacts(email="ana@example.com"),
        datetime(2026, 1, 1, tzinfo=UTC),
        valid_to,
    )

    assert describe_owner(owner) == {
        "kind": "team",
        "name": "growth",
        "parent": None,
        "cost_center": None,
        "email": "ana@example.com",
        "lifecycle": "active",
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_to": shown,
    }
