"""``python -m tests.faults.nursery``: the whole server, whose workers are replaced when they die.

Everything is imported and the prices are read before the first worker is forked, so that a new one
answers soon enough for workers to be killed by the dozen. Settings are those of ``serve``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import uvicorn

from tokenbudget.asgi import make_server
from tokenbudget.bootstrap import Services, open_services
from tokenbudget.cli.start import started

COMMAND = (sys.executable, "-m", "tests.faults.nursery")
BACKLOG = 2_048
# PR_SET_PDEATHSIG of Linux.
SET_SIGNAL_OF_PARENTS_DEATH = 1


def main() -> NoReturn:
    """Keep as many workers as the settings say until killed."""
    services = started()
    services.database.close()
    settings = services.settings
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.listen(BACKLOG)
    gc.collect()
    gc.freeze()
    for _ in range(settings.workers):
        fork_worker(services, listener)
    while True:
        os.wait()
        fork_worker(services, listener)


def fork_worker(services: Services, listener: socket.socket) -> None:
    """Start a worker that serves with a database of its own."""
    nursery = os.getpid()
    if os.fork():
        return
    _die_with(nursery)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        own = open_services(services.settings, price_list=services.price_list)
        config = uvicorn.Config(
            make_server(own), log_config=None, access_log=False, backlog=BACKLOG, lifespan="on"
        )
        uvicorn.Server(config).run(sockets=[listener])
    except OSError:
        traceback.print_exc()
    finally:
        os._exit(1)


def _die_with(parent: int) -> None:
    """End this process when its parent does, even one that is killed while it forks."""
    ctypes.CDLL(None).prctl(SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def workers_of(process_id: int) -> list[int]:
    """Give the workers that a nursery has at this moment."""
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in text.split()]


if __name__ == "__main__":
    main()
