"""API keys: shown once, kept as a hash, revoked for good."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.builders import rows_of
from tests.conftest import FrozenClock
from tokenbudget.domain.errors import InvalidInput, NotFound, Unauthenticated
from tokenbudget.services.keys import (
    NewKey,
    authenticate,
    create_first_key,
    create_key,
    list_all_keys,
    revoke,
)
from tokenbudget.store.db import Database
from tokenbudget.store.tables import ApiKeyRow


def make_key(database: Database, clock: FrozenClock, *scopes: str, team: str = "growth") -> NewKey:
    """Give a new key of the growth team."""
    return create_key(
        database, name="gateway", scopes=scopes, pinned_tags={"team": team}, now=clock()
    )


def test_a_key_allows_its_scopes_and_carries_its_tags(
    database: Database, clock: FrozenClock
) -> None:
    key = make_key(database, clock, "ingest", "quota")

    facts = authenticate(database, key.secret)

    assert (facts.key_id, facts.name) == (key.key_id, "gateway")
    assert facts.pinned_tags == {"team": "growth"}
    assert facts.allows("ingest")
    assert not facts.allows("read")


def test_an_admin_key_allows_everything(database: Database, clock: FrozenClock) -> None:
    facts = authenticate(database, make_key(database, clock, "admin").secret)

    assert all(facts.allows(scope) for scope in ("ingest", "quota", "read", "admin"))


def test_only_the_hash_of_the_secret_is_stored(database: Database, clock: FrozenClock) -> None:
    key = make_key(database, clock, "read")

    [row] = rows_of(database, ApiKeyRow)
    assert row["secret_sha256"] == hashlib.sha256(key.secret.encode()).hexdigest()
    assert key.secret not in str(dict(row))


def test_secrets_are_long_and_never_the_same(database: Database, clock: FrozenClock) -> None:
    first, second = (make_key(database, clock, "read") for _ in range(2))

    assert first.secret != second.secret
    assert first.secret.startswith("tb_")
    # 24 random bytes are 32 characters.
    assert len(first.secret) == len("tb_") + 32


@pytest.mark.parametrize(("scopes", "named"), [(("write",), "'write'"), ((), "nothing")])
def test_a_key_needs_scopes_that_exist(
    database: Database, clock: FrozenClock, scopes: tuple[str, ...], named: str
) -> None:
    with pytest.raises(InvalidInput, match=f"scope must be among .*, not {named}"):
        make_key(database, clock, *scopes)

    assert list_all_keys(database) == []


def test_an_unknown_secret_is_refused(database: Database) -> None:
    with pytest.raises(Unauthenticated, match="the API key is unknown or revoked"):
        authenticate(database, "tb_nobody-knows")


def test_a_revoked_key_is_refused_for_good(database: Database, clock: FrozenClock) -> None:
    key = make_key(database, clock, "read")

    revoke(database, key.key_id, now=clock())
    first = list_all_keys(database)[0].revoked_at
    clock.advance(days=1)
    revoke(database, key.key_id, now=clock())

    with pytest.raises(Unauthenticated):
        authenticate(database, key.secret)
    assert list_all_keys(database)[0].revoked_at == first


def test_an_unknown_key_cannot_be_revoked(database: Database, clock: FrozenClock) -> None:
    with pytest.raises(NotFound, match="key 'nobody' does not exist"):
        revoke(database, "nobody", now=clock())


def test_keys_are_listed_oldest_first(database: Database, clock: FrozenClock) -> None:
    made = []
    for _ in range(3):
        made.append(make_key(database, clock, "read").key_id)
        clock.advance(seconds=1)

    assert [row.id for row in list_all_keys(database)] == made


def test_the_first_start_gives_one_admin_key_once(database: Database, clock: FrozenClock) -> None:
    first = create_first_key(database, now=clock())
    second = create_first_key(database, now=clock())

    assert first is not None
    assert authenticate(database, first.secret).allows("admin")
    assert second is None


def test_there_is_no_first_key_where_keys_were_revoked(
    database: Database, clock: FrozenClock
) -> None:
    revoke(database, make_key(database, clock, "read").key_id, now=clock())

    assert create_first_key(database, now=clock()) is None


def test_of_several_processes_that_start_at_once_one_gets_the_first_key(
    database: Database, clock: FrozenClock
) -> None:
    barrier = threading.Barrier(4)

    def start(_: int) -> NewKey | None:
        barrier.wait(10)
        return create_first_key(database, now=clock())

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(start, range(4)))

    assert sum(key is not None for key in given) == 1
    assert len(list_all_keys(database)) == 1
