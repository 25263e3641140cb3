"""Engine hosts by the second: imports everything once, then forks a host for each line on standard input.

A host is what ``./arb up --role engine`` runs inside its task: :func:`bots.engine_host.process.run_host` on the
configured database, and nothing else. Each is a process of its own that can be killed, stopped and continued; only the
seconds its imports take are spared. Prints ``ready``, then each host's process id.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module

HEAVY = ("trading.exchanges.generic.venue",)


def main() -> None:
    import django

    django.setup()
    from bots.engine_host import process
    from bots.engine_host.host import COMPILED

    for name in (*HEAVY, *COMPILED):
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    gc.freeze()
    _say("ready")
    hosts: list[int] = []
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, lambda *_: process.stop())
            nothing = os.open(os.devnull, os.O_RDWR)  # closed, their numbers would be given to sockets
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            process.run_host()
            os._exit(0)
        hosts.append(pid)
        _say(str(pid))
    for pid in hosts:  # whoever ran them is gone
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
