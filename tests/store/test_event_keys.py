"""A key is claimed once, whoever comes first, and claiming in one order never locks anyone out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.store_fixtures import url_of
from tokenbudget.store.db import MANY_ROWS, Database
from tokenbudget.store.event_keys import claim_keys, find_keys

FEW, MANY = 3, 2 * MANY_ROWS
ROUNDS = 5
PATIENCE_SECONDS = 30


def keys(count: int, *, first: int = 0) -> list[bytes]:
    """Give keys that are spread like digests."""
    return [(number * 2**120 // 7 % 2**128).to_bytes(16, "big") for number in range(first, count)]


@pytest.mark.parametrize("count", [FEW, MANY])
def test_free_keys_are_claimed_and_nobody_is_named(database: Database, count: int) -> None:
    claims = {key: number for number, key in enumerate(keys(count))}

    with database.transaction() as session:
        holders = claim_keys(session, claims)

    with database.reading() as session:
        found = find_keys(session, [*claims, b"x" * 16])
    assert holders == {}
    assert found == claims


@pytest.mark.parametrize("count", [FEW, MANY])
def test_when_one_key_is_taken_all_holders_are_named(database: Database, count: int) -> None:
    every = keys(count)
    with database.transaction() as session:
        claim_keys(session, {every[1]: 7})

    with database.transaction() as session:
        holders = claim_keys(session, {key: 100 + number for number, key in enumerate(every)})

    assert holders == {key: 7 if number == 1 else 100 + number for number, key in enumerate(every)}


@pytest.mark.parametrize("count", [FEW, MANY])
def test_two_workers_that_claim_the_same_keys_agree_on_who_came_first(
    postgres_database: Database, count: int
) -> None:
    barrier = threading.Barrier(2)

    def claim(worker: int) -> list[int]:
        database = Database(url_of(postgres_database))
        firsts = []
        for round_number in range(ROUNDS):
            wanted = [key[:15] + bytes([round_number]) for key in keys(count)]
            if worker:
                wanted.reverse()
            barrier.wait(PATIENCE_SECONDS)
            with database.transaction() as session:
                holders = claim_keys(session, dict.fromkeys(wanted, worker))
            owners = {holders.get(key, worker) for key in wanted}
            assert len(owners) == 1
            firsts.append(owners.pop())
        database.close()
        return firsts

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(claim, range(2))

    assert first == second


def test_few_and_many_keys_are_claimed_in_the_same_order(postgres_database: Database) -> None:
    barrier = threading.Barrier(2)
    every = keys(MANY)

    def claim(worker: int) -> int:
        database = Database(url_of(postgres_database))
        wanted = every if worker else [every[-1], every[0]]
        barrier.wait(PATIENCE_SECONDS)
        with database.transaction() as session:
            holders = claim_keys(session, dict.fromkeys(wanted, worker))
        database.close()
        return holders.get(every[0], worker)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(claim, range(2))

    assert first == second
