"""``keys create|list|revoke``: a secret is shown once and kept nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tokenbudget.bootstrap import Services
from tokenbudget.domain.errors import Unauthenticated
from tokenbudget.services.keys import authenticate


def test_a_new_key_works_with_its_scopes_and_pins(command: Command, opened: Services) -> None:
    arguments = ("--scope", "ingest", "--scope", "quota", "--pin", "team=growth")

    [key] = command("keys", "create", "gateway", *arguments, "--json").rows

    facts = authenticate(opened.database, key["secret"])
    assert (facts.key_id, facts.name) == (key["id"], "gateway")
    assert sorted(facts.scopes) == ["ingest", "quota"]
    assert facts.pinned_tags == {"team": "growth"}
    assert key["scopes"] == "ingest,quota"


def test_a_key_may_be_trusted_as_a_gateway_and_demand_tags(
    command: Command, opened: Services
) -> None:
    demands = ("--trust", "gateway", "--require", "team", "--require", "tenant")
    arguments = ("--scope", "ingest", *demands, "--on-missing", "reject")

    [key] = command("keys", "create", "gateway", *arguments, "--json").rows

    caller = authenticate(opened.database, key["secret"]).caller
    assert (caller.key_id, caller.is_gateway, caller.rejects_missing) == (key["id"], True, True)
    assert caller.required_tags == ("team", "tenant")
    [row] = command("keys", "list", "--json").rows
    assert (row["trust"], row["required"], row["on_missing"]) == (
        "gateway",
        "team,tenant",
        "reject",
    )


def test_the_secret_is_neither_listed_nor_stored(command: Command, tmp_path: Path) -> None:
    [key] = command("keys", "create", "gateway", "--scope", "read", "--json").rows

    listed = command("keys", "list", "--json")

    [row] = listed.rows
    assert (row["id"], row["name"], row["revoked_at"]) == (key["id"], "gateway", None)
    assert key["secret"] not in listed.out
    for file in (tmp_path / "data").iterdir():
        assert key["secret"].encode() not in file.read_bytes()


def test_a_revoked_key_is_listed_and_refused(command: Command, opened: Services) -> None:
    [key] = command("keys", "create", "gateway", "--scope", "read", "--json").rows

    revoked = command("keys", "revoke", key["id"])

    [row] = command("keys", "list", "--json").rows
    assert revoked.code == 0
    assert f"key {key['id']} is revoked" in revoked.out
    assert row["revoked_at"] is not None
    with pytest.raises(Unauthenticated):
        authenticate(opened.database, key["secret"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (
            ("create", "x", "--scope", "all"),
            "scope must be among ingest, quota, read, admin, not 'all'",
        ),
        (("create", "x", "--scope", "read", "--pin", "team"), "--pin 'team' must be TAG=VALUE"),
        (
            ("create", "x", "--scope", "read", "--trust", "me"),
            "trust must be caller or gateway, not 'me'",
        ),
        (
            ("create", "x", "--scope", "read", "--require", "model"),
            "required_tags: 'model' is no tag",
        ),
        (("revoke", "nothing"), "key 'nothing' does not exist"),
    ],
)
def test_a_mistake_is_one_line(command: Command, arguments: tuple[str, ...], fault: str) -> None:
    result = command("keys", *arguments)

    assert (result.code, result.error) == (2, f"tokenbudget: {fault}")


def test_a_key_needs_a_scope(command: Command) -> None:
    result = command("keys", "create", "x")

    assert result.code == 2
    assert "--scope" in result.err
