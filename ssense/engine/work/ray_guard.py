"""The guard of a private Ray: once its driver is gone, it ends what is left of that Ray.

Without it, Ray's agents outlive a killed driver by a minute, and Ray's files stay. The guard runs
as a script in a process of its own, which signals to the driver's terminal or batch job do not end.
It waits until its standard input closes: the driver closes it at a normal end, the system when the
driver dies in any other way.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

_GIVE_UP_S = 10.0
_SERVERS = ("gcs_server", "raylet")
"""Ray's processes that are programs of their own; all others run this Python."""


def clear(home: Path, *, spare: int | None = None) -> None:
    """Kill every process of the Ray that lives in a folder, and remove the folder.

    Args:
        home: The folder that holds the sessions of this Ray and of no other.
        spare: The process number of its driver, which has a log file open there too.
    """
    deadline = time.monotonic() + _GIVE_UP_S
    # Again until none is found: one that is killed may just have started another.
    while (found := _processes_of(home, spare)) and time.monotonic() < deadline:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=1)
    shutil.rmtree(home, ignore_errors=True)


def _processes_of(home: Path, spare: int | None) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # the process has just ended, or is another user's
            if process.pid not in (os.getpid(), spare) and _lives_in(home, process):
                found.append(process)
    return found


def _lives_in(home: Path, process: psutil.Process) -> bool:
    """Whether a process belongs to this Ray.

    The command line of a process names the folder until Ray renames it; by then the process writes
    its log there.
    """
    if process.uids().real != os.getuid():
        return False
    if process.name() not in _SERVERS and process.exe() != psutil.Process().exe():
        return False
    in_home = f"{home}{os.sep}"
    return any(in_home in word for word in process.cmdline()) or any(
        file.path.startswith(in_home) for file in process.open_files()
    )


def _main() -> None:
    home, driver = Path(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clear(home, spare=driver)


if __name__ == "__main__":
    _main()
