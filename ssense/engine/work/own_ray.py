"""A Ray of this process's own: no other user reaches it, and it ends when the process does.

HOME/       a folder in the temporary one that no other user can enter
    lock    held by this process and by the guard, as long as one of them lives
    r/      Ray's sessions: sockets, logs, objects that do not fit into memory

On loopback, Ray takes orders from every local user unless they must show a token. Ours is drawn for
each start and is in the environment of its own processes alone. It is demanded whatever
RAY_AUTH_MODE says: that is about clusters, which people join, and nobody joins this Ray.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray._raylet import (  # type: ignore[attr-defined]  # compiled: its stub lacks them
    AuthenticationTokenLoader,
    Config,
)

from ssense.engine.work import ray_guard
from ssense.engine.work.ray_death import ending_with_ray, replaced
from ssense.errors import UserError, one_line
from ssense.training.process import usable_cores

PREFIX = "ssense-ray-"
_LOCK = "lock"
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes that the path of a Unix socket may have."""
_SOCKET = f"r/session_2026-01-31_00-00-00_000000_{2**22}/sockets/plasma_store"
"""Where Ray has its sockets; its folder "r" lies in ours, as it opens its own to everybody."""
_TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
_ESSENTIAL = (ray_constants.PROCESS_TYPE_GCS_SERVER, ray_constants.PROCESS_TYPE_RAYLET)
_CONFIGURATION = {
    # These are not read, and sending the rest of them takes 15 s once Ray's servers are gone.
    "task_events_report_interval_ms": 0,
    "enable_metrics_collection": False,
    # Workers import what they need as soon as they start, while data are made ready.
    "preload_python_modules": ["ssense.engine.work.cell"],
}


@contextmanager
def own_ray(cores: int | None = None) -> Iterator[None]:
    """Start a Ray of this process's own; call this in the main thread.

    Args:
        cores: How many cells it trains at a time; None for the cores that this process may use.

    Raises:
        UserError: It does not start; or a process without which it can't work died meanwhile.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _secret():
        try:
            home, lock = _new_home()
        except OSError as error:
            raise UserError(_why_not(error)) from error
        with _guarded(home, lock) as guard:
            try:
                _start(home, cores or usable_cores())
                _check_guard(guard)
                signal.signal(signal.SIGTERM, on_sigterm)
                with ending_with_ray(_death()):
                    yield
            finally:
                ray.shutdown()
                signal.signal(signal.SIGTERM, on_sigterm)


def own_home() -> Path | None:
    """The folder of the Ray of our own that runs, removed at its end; None for any other Ray."""
    node = ray_worker._global_node
    if node is None:  # a client, whose Ray is elsewhere
        return None
    home = Path(node.get_temp_dir_path()).parent
    return home if home.name.startswith(PREFIX) else None


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that starts meanwhile listen on loopback alone, as it does on Windows and macOS.

    On Linux it would otherwise take connections from anybody on the network.
    """
    with replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


def _start(home: Path, cores: int) -> None:
    try:
        with on_loopback(), _no_interrupt_is_lost():
            ray.init(
                address="local",  # else it would join what runs here already
                num_cpus=cores,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=str(home / "r"),
                _system_config=_CONFIGURATION,
            )
    except SystemExit as sigterm:  # Ray's own handler, which would end this process without a word
        raise KeyboardInterrupt from sigterm
    except Exception as error:  # Ray raises half a dozen kinds, plain exceptions among them
        raise UserError(_why_not(error)) from error


@contextmanager
def _no_interrupt_is_lost() -> Iterator[None]:
    """Raise at the end what was sent meanwhile and nobody saw, while processes are forked.

    Python drops an interrupt that comes while a handler of `os.register_at_fork` or a finaliser
    runs, as those of the module logging do at each fork; of what it dropped it prints a traceback.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # a background job of a shell script ignores interrupts
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        handler(number, frame)

    tell = sys.unraisablehook

    def tell_others(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            tell(dropped)

    signal.signal(signal.SIGINT, note)
    try:
        with replaced(sys, "unraisablehook", tell_others):
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def _why_not(error: Exception) -> str:
    return (
        f"Ray does not start on this machine ({one_line(error)}). Is it busy, or short of memory "
        f"or of space in {_places()[0]}? Run the same command again."
    )


# ---------------------------------------------------------------- its secret


@contextmanager
def _secret() -> Iterator[None]:
    """Have Ray's processes, which inherit this environment, demand a token of each other."""
    before = {name: os.environ.get(name) for name in _TOKEN}
    os.environ.update(zip(_TOKEN, ("token", secrets.token_hex(32)), strict=True))
    _read_environment()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _read_environment()


def _read_environment() -> None:
    """Make Ray read again what it once read from the environment."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


# ---------------------------------------------------------------- its folder and its guard


@contextmanager
def _guarded(home: Path, lock: int) -> Iterator[subprocess.Popen[bytes]]:
    """Have a guard end what is left of Ray, and remove its folder, once we are done or dead.

    Raises:
        UserError: It can't be started.
    """
    try:
        guard = subprocess.Popen(
            # -P, not -I: psutil may be known from PYTHONPATH or the user's packages alone.
            [sys.executable, "-P", ray_guard.__file__, str(home), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,
        )
    except OSError as error:
        shutil.rmtree(home, ignore_errors=True)
        os.close(lock)
        raise UserError(_why_not(error)) from error
    try:
        yield guard
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        if guard.wait() != 0:
            ray_guard.clear(home, spare=os.getpid())
        os.close(lock)


def _check_guard(guard: subprocess.Popen[bytes]) -> None:
    """Make sure that the guard works, by the time that Ray runs.

    Raises:
        UserError: It has ended.
    """
    code = guard.poll()
    if code is not None:
        raise UserError(
            f"the process that stops Ray after this command ended early (exit code {code}). Does "
            f"`{sys.executable} -P -c 'import psutil'` work? Run the same command again."
        )


def _new_home() -> tuple[Path, int]:
    """Make a folder for Ray and lock it; remove folders that nobody holds any more.

    Raises:
        UserError: No temporary folder has a path that is short enough.
        OSError: The folder can't be made.
    """
    places = _places()
    for place in places:
        _remove_abandoned(place)
    while True:
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=places[0]))
        lock = _lock(home)
        if lock is not None:
            return home, lock


def _places() -> list[Path]:
    """Temporary folders in which Ray's sockets have paths that are short enough, best first.

    Raises:
        UserError: There is no such folder.
    """
    asked = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    longest = _LONGEST_SOCKET - len(f"/{PREFIX}12345678/{_SOCKET}")
    found = [
        Path(place)
        for place in dict.fromkeys((asked, "/tmp", "/var/tmp"))
        if len(os.fsencode(place)) <= longest and os.access(place, os.W_OK | os.X_OK)
    ]
    if not found:
        raise UserError(
            f"the temporary folder {asked} can't be used: its path is longer than the {longest} "
            "bytes that Ray allows, or it can't be written to, nor can /tmp. Set RAY_TMPDIR to a "
            "folder with a shorter path."
        )
    return found


def _remove_abandoned(place: Path) -> None:
    """Remove the folders of our Rays whose process and guard are dead, and what runs there."""
    for home in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process may remove it meanwhile
            if home.is_symlink() or not home.is_dir() or home.stat().st_uid != os.getuid():
                continue
            lock = _lock(home)
            if lock is not None:
                ray_guard.clear(home)
                os.close(lock)


def _lock(home: Path) -> int | None:
    """Lock a folder, until the process ends; None if another has it, or has removed it."""
    try:
        lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (home / _LOCK).stat()  # whoever had it may have removed it
    except OSError:
        os.close(lock)
        return None
    return lock


# ---------------------------------------------------------------- its death


def _death() -> Callable[[], str]:
    """Return a function that tells whether a process that this Ray needs has died."""
    node: Any = ray_worker._global_node  # None, as it is typed, before Ray has started
    started = node.all_processes
    processes = {name: started[name][0].process for name in _ESSENTIAL}

    def death() -> str:
        for name, process in processes.items():
            if process.poll() is not None:
                return (
                    f"Ray's {name} (process {process.pid}) died: killed, or out of memory. Free "
                    "memory, or lower `cpus_per_cell` or `batch_size`, and run the same command "
                    "again: what is done is kept."
                )
        return ""

    return death
