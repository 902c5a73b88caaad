"""Events on their way out: bounded, kept through crashes and forks, and never in the way."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.client.fake_service import PATIENCE, URL, FakeService, listening
from tokenbudget.client import Client, Manner
from tokenbudget.client._manner import MAX_SPOOLED_BYTES
from tokenbudget.client._spool import MAX_EVENT_BYTES, Spool

KILL_ROUNDS = 5
SHORT = 0.5

WRITES_UNTIL_KILLED = """
import sys
from tokenbudget.client import Client, Manner
client = Client("http://127.0.0.1:9", manner=Manner(spool_directory=sys.argv[1]))
for number in range(10**6):
    client.record({"event_id": f"{sys.argv[2]}-{number}"})
    print(f"{sys.argv[2]}-{number}", flush=True)
"""
SENDS = """
import sys
from tokenbudget.client import Client, Manner
client = Client(sys.argv[1], manner=Manner(spool_directory=sys.argv[2]))
for number in range(10):
    client.record({"event_id": f"e{number}"})
print("recorded", flush=True)
client.flush(30)
"""
FORKS = """
import os, sys
from tokenbudget.client import Client, Manner
client = Client(sys.argv[1], manner=Manner(spool_directory=sys.argv[2]))
client.record({"event_id": "before"})
client.flush(10)
children = []
for name in "abcd":
    client.record({"event_id": f"parent-{name}"})
    child = os.fork()
    if child == 0:
        for number in range(20):
            client.record({"event_id": f"child-{name}-{number}"})
        client.close()
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
client.record({"event_id": "after"})
assert client.flush(10)
client.close()
"""


def events(count: int) -> list[dict[str, Any]]:
    return [{"event_id": f"e{number}"} for number in range(count)]


def spool_at(path: Path, **bounds: int) -> Spool:
    chosen = {"max_events": 1_000, "max_bytes": MAX_SPOOLED_BYTES, **bounds}
    return Spool(path / "spool.db", **chosen)


def run_program(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_event_is_lost_to_a_kill_at_any_moment(tmp_path: Path) -> None:
    recorded: list[str] = []
    for number in range(KILL_ROUNDS):
        process = run_program(WRITES_UNTIL_KILLED, str(tmp_path), str(number))
        assert process.stdout is not None
        recorded += [process.stdout.readline().strip() for _ in range(20 * (number + 1))]
        process.kill()
        recorded += process.communicate()[0].split()

    waiting = {item.event["event_id"] for item in spool_at(tmp_path).oldest(10**6)}

    assert len(recorded) >= 300
    assert set(recorded) <= waiting


def test_a_kill_between_sending_and_deleting_sends_the_same_event_again(tmp_path: Path) -> None:
    service = FakeService()
    killed = threading.Event()
    respond = service.respond
    processes: list[subprocess.Popen[str]] = []

    class Deadly(FakeService):
        def respond(self, request: httpx.Request) -> httpx.Response:
            answer = respond(request)
            if not killed.is_set():
                killed.set()
                processes[0].kill()
                processes[0].wait()
            return answer

    with listening(Deadly()) as url:
        processes.append(run_program(SENDS, url, str(tmp_path)))
        assert killed.wait(PATIENCE)
        processes[0].communicate()
        with Client(url, manner=Manner(spool_directory=tmp_path)) as client:
            assert client.flush(PATIENCE)

    sent = Counter(event["event_id"] for event in service.events)
    assert set(sent) >= {"e0"}
    assert sent["e0"] == 2
    assert all(
        len({json.dumps(event) for event in service.events if event["event_id"] == name}) == 1
        for name in sent
    )


def test_a_fork_shares_no_connection_and_every_event_arrives_once(tmp_path: Path) -> None:
    service = FakeService()
    with listening(service) as url:
        process = run_program(FORKS, url, str(tmp_path))
        _, complaint = process.communicate(timeout=60)

    assert (process.returncode, complaint) == (0, "")
    sent = Counter(event["event_id"] for event in service.events)
    assert len(sent) == 1 + 4 + 4 * 20 + 1
    assert set(sent.values()) == {1}


def test_processes_that_share_a_spool_take_turns(tmp_path: Path) -> None:
    one, other = spool_at(tmp_path), spool_at(tmp_path)

    with one.sending() as is_ours:
        assert is_ours
        with other.sending() as is_theirs:
            assert not is_theirs
    with other.sending() as is_theirs:
        assert is_theirs


def test_what_another_process_sends_is_waited_for(tmp_path: Path) -> None:
    service = FakeService()
    holder = spool_at(tmp_path)
    with service.client(tmp_path) as client, holder.sending():
        client.record({"event_id": "e"})
        assert not client.flush(0.2)
        threading.Timer(0.3, lambda: holder.remove([1])).start()
        assert client.flush(PATIENCE)

    assert service.events == []


def test_a_spool_is_bounded_in_bytes_and_takes_no_giant(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, max_bytes=256 * 1024)

    assert not spool.add({"event_id": "giant", "tags": {"x": "y" * MAX_EVENT_BYTES}})
    kept = [spool.add({"event_id": str(number), "x": "y" * 10_000}) for number in range(50)]

    assert 10 < sum(kept) < 30
    assert spool.dropped == 1 + kept.count(False)
    assert (tmp_path / "spool.db").stat().st_size <= 256 * 1024
    spool.remove([item.number for item in spool.oldest(50)])
    assert spool.add({"event_id": "again"})


def test_only_so_many_refused_events_are_kept(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, max_events=3)
    for event in events(5):
        spool.add(event)
        spool.refuse(spool.oldest(1)[0], "no")

    assert [event["event_id"] for event, _ in spool.refused()] == ["e2", "e3", "e4"]


def test_a_place_that_cannot_be_written_is_replaced_by_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    service = FakeService()

    with service.client(tmp_path / "file") as client:
        assert client.record({"event_id": "e"})
        assert service.told_by(client) == [{"event_id": "e"}]


def test_a_damaged_spool_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"no database at all" * 1_000)

    spool = spool_at(tmp_path)

    assert spool.add({"event_id": "e"})
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_in_the_open_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    foreign = tmp_path / "tokenbudget"
    foreign.mkdir()
    os.chown(foreign, 12_345, 12_345)

    spool = spool_at(foreign)

    assert spool.add({"event_id": "e"})
    assert list(foreign.iterdir()) == []


def test_services_and_keys_have_spools_of_their_own_and_a_named_one_is_kept() -> None:
    manner = Manner()
    paths = {
        manner.spool_path("http://a", None),
        manner.spool_path("http://b", None),
        manner.spool_path("http://a", "key"),
    }

    assert len(paths) == 3
    assert not any("key" in path.name for path in paths)
    assert Manner(spool_directory="/x").spool_path("http://a", "key") == Path("/x/spool.db")


def test_a_faulty_event_is_found_in_its_batch_and_the_rest_is_sent(tmp_path: Path) -> None:
    service = FakeService()

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/events" and b"faulty" in request.content:
            return httpx.Response(400, text="malformed")
        return service.respond(request)

    manner = Manner(spool_directory=tmp_path)
    with Client(URL, manner=manner, transport=httpx.MockTransport(respond)) as client:
        for number in range(20):
            client.record({"event_id": "faulty" if number == 7 else f"e{number}"})
        assert client.flush(PATIENCE)
        ((event, reason),) = client.outlet.spool.refused()

    assert event == {"event_id": "faulty"}
    assert "malformed" in reason
    assert len(service.events) == 19


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>a proxy's page</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"rejected": [{"code": "no index"}]}),
        httpx.Response(401),
        httpx.Response(503, headers={"retry-after": "7"}),
    ],
)
def test_what_is_no_answer_keeps_the_events(tmp_path: Path, answer: httpx.Response) -> None:
    manner = Manner(spool_directory=tmp_path)
    transport = httpx.MockTransport(lambda request: answer)
    with Client(URL, manner=manner, transport=transport) as client:
        client.record({"event_id": "e"})

        assert not client.flush(SHORT)
        assert len(client.outlet.spool) == 1


def test_a_service_that_comes_back_gets_what_waited(tmp_path: Path) -> None:
    service = FakeService(events_status=503)
    with service.client(tmp_path) as client:
        client.record({"event_id": "e"})
        sleep(0.7)
        service.events_status = 200
        deadline = monotonic() + PATIENCE
        while not service.events and monotonic() < deadline:
            sleep(0.02)

    assert service.events == [{"event_id": "e"}]


def test_a_service_that_hangs_holds_up_neither_flush_nor_close(tmp_path: Path) -> None:
    release = threading.Event()

    def respond(request: httpx.Request) -> httpx.Response:
        release.wait(PATIENCE)
        return httpx.Response(503)

    manner = Manner(spool_directory=tmp_path)
    client = Client(URL, manner=manner, transport=httpx.MockTransport(respond))
    client.record({"event_id": "e"})
    sleep(0.7)
    begun = monotonic()
    assert not client.flush(SHORT)
    flushed = monotonic()
    threading.Timer(1.5, release.set).start()
    client.close()

    assert flushed - begun < SHORT + 1.0
    assert monotonic() - flushed < 5.0
    assert len(spool_at(tmp_path)) == 1


def test_a_closed_client_records_nothing_and_raises_nothing(tmp_path: Path) -> None:
    service = FakeService()
    with service.client(tmp_path) as client:
        pass
    client.close()

    assert not client.record({"event_id": "late"})
    assert not client.flush(SHORT)
    assert client.outlet.spool.dropped == 1


def test_a_locked_database_does_not_reach_the_application(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    assert not spool.add({"event_id": "e"})

    other.close()
    assert spool.add({"event_id": "e"})
