"""One of the processes of ``leases.py``: it spends a budget from leases and says what it spent.

It imports the client alone, so that eight of them start soon.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from random import Random
from time import sleep
from typing import Any, Final

from tokenbudget.client import Client, Decision, LeaseTerms, Manner, QuotaDenied, RunningCall
from tokenbudget.client._leases import Lease

# A million tokens of this model cost 2.50 dollars in and 10 out: such a call 0.0032 at most.
CALL: Final[Mapping[str, Any]] = {
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 256,
    "max_output_tokens": 256,
}
INPUT_NANOS, OUTPUT_NANOS = 2_500, 10_000
LEASED_CALLS: Final = 20
# For how long a lease is used, and how long a call may take, by what the process is for.
TEAMS: Final = {"share": "share", "survive": "kill", "die": "kill"}
LEASED_SECONDS: Final = {"share": 30, "kill": 2}
CALL_SECONDS: Final = {"share": 60, "kill": 30}
# In a row. What a call left of its bound comes free with its event, half a second later; who is to
# leave what the dead hold does not wait for that.
DENIALS_UNTIL_DONE: Final = {"share": 60, "kill": 3}
# Who is to die does so in the middle of a call, with a good part of a lease unused.
CALLS_UNTIL_DEATH, PIECES_AT_DEATH = 10, 5
PAUSE_SECONDS: Final = 0.02
LONGEST_CALL_SECONDS: Final = 0.005
UNSENT_SHARE, FULL_SHARE = 0.1, 0.8
TIMEOUT_SECONDS: Final = 30.0


def main(url: str, spool: str, way: str, seed: str) -> None:
    """Once told to, make calls until the budget is spent, or until death; print what came of it."""
    random = Random(seed)
    team = TEAMS[way]
    made = leased = spent = denials = 0
    terms = LeaseTerms(calls=LEASED_CALLS, seconds=LEASED_SECONDS[team])
    manner = Manner(spool_directory=spool, timeout_seconds=TIMEOUT_SECONDS, lease=terms)
    print("ready", flush=True)
    sys.stdin.readline()
    with Client(url, manner=manner) as client, client.operation(team=team) as operation:
        while denials < DENIALS_UNTIL_DONE[team]:
            call = operation.call(**CALL, ttl_seconds=CALL_SECONDS[team])
            is_last = way == "die" and made >= CALLS_UNTIL_DEATH
            done = carry_out(call, random, dies=is_last)
            denials = denials + 1 if done is None else 0
            nanos, is_leased = done or (0, False)
            made += nanos > 0
            leased += nanos > 0 and is_leased
            spent += nanos
    print(json.dumps({"made": made, "leased": leased, "spent": spent}), flush=True)


def carry_out(
    asked: AbstractContextManager[RunningCall], random: Random, *, dies: bool
) -> tuple[int, bool] | None:
    """Make the call and give its nanos and whether it was leased, None when it is denied.

    Or die in the middle of it.
    """
    try:
        with asked as call:
            lease = call.permit.lease
            if dies and isinstance(lease, Lease) and lease.left >= PIECES_AT_DEATH:
                os.kill(os.getpid(), signal.SIGKILL)
            return make(call, random), lease is not None
    except QuotaDenied:
        sleep(PAUSE_SECONDS)
        return None


def make(call: RunningCall, random: Random) -> int:
    """Use what the call is permitted, mostly all of it, and give its nanos; none if not sent."""
    assert call.permit.decision in (Decision.ALLOW, Decision.REDUCE), call.permit
    sleep(random.random() * LONGEST_CALL_SECONDS)
    if random.random() < UNSENT_SHARE:
        call.not_sent()
        return 0
    output = call.permit.max_output_tokens or 0
    if random.random() > FULL_SHARE:
        output = random.randint(0, output)
    call.usage(input_tokens=256, output_tokens=output)
    return 256 * INPUT_NANOS + output * OUTPUT_NANOS


if __name__ == "__main__":
    main(*sys.argv[1:])
