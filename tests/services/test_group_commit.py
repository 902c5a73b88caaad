"""The queue before the writer: what waits together commits together, and only then is answered."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import CENT, broken_rules, check_work, make_budget, make_check, set_budgets
from tests.builders import standings as standings_of
from tests.conftest import FrozenClock
from tests.store_fixtures import make_services
from tokenbudget.bootstrap import make_ledger
from tokenbudget.domain.errors import NotFound, QueueFull, Unavailable
from tokenbudget.services.group_commit import GroupCommit
from tokenbudget.services.ledger import Answer, Work
from tokenbudget.store.db import Database

WAIT_SECONDS = 10
PATIENCE_MILLISECONDS = 60_000
CALLERS = 200


@dataclass(frozen=True)
class Job:
    """Work that takes ``weight`` items of the bounds."""

    name: str
    weight: int = 1


class Writer:
    """Writes down every batch; it waits at the gate while that is closed."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def apply(self, jobs: Sequence[Job]) -> list[str | Exception]:
        """Give each name in capitals, an error for ``missing``; ``poison`` spoils its batch."""
        self.entered.set()
        assert self.gate.wait(WAIT_SECONDS)
        names = [job.name for job in jobs]
        if "down" in names:
            raise Unavailable("the database cannot answer: it is away")
        if "poison" in names:
            raise ValueError("poison")
        self.batches.append(names)
        return [NotFound("missing") if name == "missing" else name.upper() for name in names]


@asynccontextmanager
async def running(
    apply: Callable[[Sequence[Job]], Sequence[str | Exception]],
    *,
    queue_items: int = 100,
    batch_items: int = 100,
    batch_wait_milliseconds: int = 0,
) -> AsyncIterator[GroupCommit[Job, str | Exception]]:
    """Give a queue with its writer running, and stop it in the end."""
    queue: GroupCommit[Job, str | Exception] = GroupCommit(
        apply,
        queue_items=queue_items,
        batch_items=batch_items,
        batch_wait_milliseconds=batch_wait_milliseconds,
    )
    queue.start()
    try:
        yield queue
    finally:
        await asyncio.to_thread(queue.stop)


async def submit_while_busy(
    queue: GroupCommit[Job, str | Exception], writer: Writer, *jobs: Job
) -> list[asyncio.Task[str | Exception]]:
    """Submit one job, wait until the writer is busy with it, then submit the others in order."""
    first = asyncio.create_task(queue.submit(Job("first")))
    await asyncio.to_thread(writer.entered.wait, WAIT_SECONDS)
    tasks = [asyncio.create_task(queue.submit(job)) for job in jobs]
    await asyncio.sleep(0)
    return [first, *tasks]


async def outcomes(*waiting: Awaitable[object]) -> list[object]:
    """Give each answer, or the error that was raised in its place."""
    return list(await asyncio.gather(*waiting, return_exceptions=True))


def test_work_is_answered_with_what_the_writer_gave() -> None:
    async def scenario() -> str | Exception:
        async with running(Writer().apply) as queue:
            return await queue.submit(Job("a"))

    assert asyncio.run(scenario()) == "A"


def test_what_waits_together_is_written_together_in_order() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[str | Exception]:
        async with running(writer.apply) as queue:
            tasks = await submit_while_busy(queue, writer, Job("a"), Job("b"), Job("c"))
            writer.gate.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(scenario()) == ["FIRST", "A", "B", "C"]
    assert writer.batches == [["first"], ["a", "b", "c"]]


def test_nobody_is_answered_before_the_commit() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> bool:
        async with running(writer.apply) as queue:
            [task] = await submit_while_busy(queue, writer)
            answered_early = task.done()
            writer.gate.set()
            await task
            return answered_early

    assert not asyncio.run(scenario())


def test_a_batch_stays_within_its_bound() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> None:
        async with running(writer.apply, batch_items=3) as queue:
            jobs = [Job("a", 2), Job("b", 1), Job("c", 1), Job("d", 5), Job("e", 1)]
            tasks = await submit_while_busy(queue, writer, *jobs)
            writer.gate.set()
            await asyncio.gather(*tasks)

    asyncio.run(scenario())

    # A job larger than the bound goes alone.
    assert writer.batches == [["first"], ["a", "b"], ["c"], ["d"], ["e"]]


def test_a_full_queue_refuses_and_accepts_nothing_of_what_it_refused() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[object]:
        async with running(writer.apply, queue_items=3) as queue:
            jobs = [Job("a", 2), Job("b", 2), Job("c", 1)]
            tasks = await submit_while_busy(queue, writer, *jobs)
            writer.gate.set()
            return await outcomes(*tasks)

    first, a, b, c = asyncio.run(scenario())

    assert (first, a, c) == ("FIRST", "A", "C")
    assert isinstance(b, QueueFull)
    assert (b.status, b.retry_after_seconds) == (503, 1)
    assert writer.batches == [["first"], ["a", "c"]]


def test_a_job_larger_than_the_whole_queue_is_taken_when_nothing_waits() -> None:
    async def scenario() -> str | Exception:
        async with running(Writer().apply, queue_items=3) as queue:
            return await queue.submit(Job("large", 50))

    assert asyncio.run(scenario()) == "LARGE"


def test_a_job_that_breaks_its_batch_fails_alone() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[object]:
        async with running(writer.apply) as queue:
            tasks = await submit_while_busy(queue, writer, Job("a"), Job("poison"), Job("c"))
            writer.gate.set()
            return await outcomes(*tasks)

    first, a, poison, c = asyncio.run(scenario())

    assert (first, a, c) == ("FIRST", "A", "C")
    assert isinstance(poison, ValueError)
    assert writer.batches == [["first"], ["a"], ["c"]]


def test_an_error_among_the_answers_is_raised_to_its_caller_alone() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[object]:
        async with running(writer.apply) as queue:
            tasks = await submit_while_busy(queue, writer, Job("missing"), Job("b"))
            writer.gate.set()
            return await outcomes(*tasks)

    _, missing, b = asyncio.run(scenario())

    assert isinstance(missing, NotFound)
    assert b == "B"


def test_a_database_that_is_away_is_told_to_everyone_who_waits() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[object]:
        async with running(writer.apply) as queue:
            tasks = await submit_while_busy(queue, writer, Job("a"), Job("down"), Job("c"))
            writer.gate.set()
            answers = await outcomes(*tasks)
            return [*answers, await queue.submit(Job("after"))]

    first, *told, after = asyncio.run(scenario())

    assert [type(answer) for answer in told] == [Unavailable] * 3
    assert (first, after) == ("FIRST", "AFTER")


def test_stopping_writes_what_waits_and_refuses_what_comes_later() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> list[object]:
        async with running(writer.apply) as queue:
            tasks = await submit_while_busy(queue, writer, Job("a"), Job("b"))
            stopping = asyncio.create_task(asyncio.to_thread(queue.stop))
            writer.gate.set()
            await stopping
            return await outcomes(*tasks, queue.submit(Job("late")))

    first, a, b, late = asyncio.run(scenario())

    assert (first, a, b) == ("FIRST", "A", "B")
    assert isinstance(late, Unavailable)


def test_work_before_the_start_is_refused() -> None:
    queue: GroupCommit[Job, str | Exception] = GroupCommit(
        Writer().apply, queue_items=1, batch_items=1, batch_wait_milliseconds=0
    )

    with pytest.raises(Unavailable, match="the writer has not started"):
        asyncio.run(queue.submit(Job("a")))


def test_stopping_what_never_started_is_no_error() -> None:
    queue: GroupCommit[Job, str | Exception] = GroupCommit(
        Writer().apply, queue_items=1, batch_items=1, batch_wait_milliseconds=0
    )

    queue.stop()


def test_a_caller_that_went_away_does_not_keep_others_from_their_answers() -> None:
    writer = Writer(is_open=False)

    async def scenario() -> str | Exception:
        async with running(writer.apply) as queue:
            first, gone, stays = await submit_while_busy(queue, writer, Job("gone"), Job("stays"))
            gone.cancel()
            writer.gate.set()
            await first
            return await stays

    assert asyncio.run(scenario()) == "STAYS"
    assert writer.batches == [["first"], ["gone", "stays"]]


def test_a_writer_waits_for_as_many_as_came_last_time_and_no_longer() -> None:
    writer = Writer()

    async def scenario() -> None:
        async with running(writer.apply, batch_wait_milliseconds=PATIENCE_MILLISECONDS) as queue:
            await asyncio.gather(*(queue.submit(Job(name)) for name in "abc"))
            early = asyncio.create_task(queue.submit(Job("d")))
            await asyncio.sleep(0.01)
            await asyncio.gather(early, queue.submit(Job("e")), queue.submit(Job("f")))

    asyncio.run(asyncio.wait_for(scenario(), WAIT_SECONDS))

    assert writer.batches == [["a", "b", "c"], ["d", "e", "f"]]


def test_a_writer_does_not_wait_for_company_when_its_batch_is_full() -> None:
    writer = Writer()

    async def scenario() -> None:
        async with running(
            writer.apply, batch_items=3, batch_wait_milliseconds=PATIENCE_MILLISECONDS
        ) as queue:
            await asyncio.gather(*(queue.submit(Job(name)) for name in "abc"))
            await queue.submit(Job("large", 3))

    asyncio.run(asyncio.wait_for(scenario(), WAIT_SECONDS))

    assert writer.batches == [["a", "b", "c"], ["large"]]


def test_a_writer_whose_company_does_not_come_begins_without_it() -> None:
    writer = Writer()

    async def scenario() -> None:
        async with running(writer.apply, batch_wait_milliseconds=20) as queue:
            await asyncio.gather(queue.submit(Job("a")), queue.submit(Job("b")))
            await queue.submit(Job("alone"))

    asyncio.run(asyncio.wait_for(scenario(), WAIT_SECONDS))

    assert writer.batches == [["a", "b"], ["alone"]]


def test_two_hundred_checks_through_the_queue_admit_exactly_twenty(
    sqlite_database: Database, clock: FrozenClock, tmp_path: Path
) -> None:
    set_budgets(sqlite_database, make_budget(), now=clock())
    ledger = make_ledger(make_services(sqlite_database, clock, tmp_path))
    check = check_work(make_check(estimate="0.05"))

    async def scenario() -> list[Answer]:
        queue: GroupCommit[Work, Answer] = GroupCommit(
            ledger.apply, queue_items=1_000, batch_items=50, batch_wait_milliseconds=0
        )
        queue.start()
        answers = await asyncio.gather(*(queue.submit(check) for _ in range(CALLERS)))
        await asyncio.to_thread(queue.stop)
        return answers

    answers = asyncio.run(scenario())

    decisions = Counter(answer["decision"] for answer in answers if isinstance(answer, dict))
    assert decisions == {"allow": 20, "deny": 180}
    assert standings_of(sqlite_database, now=clock())["all",] == (0, 100 * CENT)
    assert broken_rules(sqlite_database) == []
