"""One driver at a time: the claim that a running driver holds on the folder of its sweep.

SWEEP/driver.json    who works on the sweep; left behind only by a driver that was killed

Whether a driver still works is seen by its claim changing, never by comparing clocks: those of
machines and of storage differ. The first to create the claim has it: on a file system by creating
the file exclusively, in an object store by a put that demands that there is none. A claim that was
left behind must be replaced, and an object store that was not asked beforehand may ignore the
demand: there, whoever writes last has it, and the others see that when they read it back.
Should two ever work at once, as when one comes to after a long pause, the claim names one of them,
and the other finds that out by its next heartbeat and is interrupted.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from upath import UPath

from ssense.cli.screen import say
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.storage import (
    create,
    is_local,
    partial_file,
    read_whole,
    remove,
    remove_partial_files,
    write_whole,
)

CLAIM = "driver.json"

HEARTBEAT_S = 5.0
"""Time between two signs of life."""

STALE_S = 60.0
"""Time without a sign of life after which a claim is taken over."""

_OVERTAKEN = signal.SIGUSR2  # not SIGINT, which background jobs of a shell script ignore
_TO_END = (_OVERTAKEN, signal.SIGTERM)  # the latter from cluster managers


@contextmanager
def sole_driver(
    folder: UPath, *, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S
) -> Iterator[Claim]:
    """Work on a sweep as its only driver; call this in the main thread.

    SIGTERM is an interrupt here, like SIGINT: a KeyboardInterrupt that leaves nothing behind.

    A claim left by a process that is dead on this machine is taken over at once, any other after
    `stale_s` without a heartbeat. The folder is made if need be, and removed again if left empty.

    Raises:
        UserError: Another driver works on the sweep, or took it over while this one hung; or the
            folder can't be written to.
    """
    claim = Claim(folder / CLAIM, heartbeat_s, stale_s)
    earlier = {number: signal.signal(number, signal.default_int_handler) for number in _TO_END}
    try:
        claim.acquire()
        yield claim
    finally:
        claim.release()
        for number, handler in earlier.items():
            signal.signal(number, handler)
        if claim.lost_to is not None:
            raise claim.loss() from None


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim: the content of its file.

    Attributes:
        host: Name of the machine, for people.
        machine: Identity that tells apart machines and containers of the same name.
        id: Identity of this claim, drawn at random.
        started, heartbeat: ISO 8601 by the clock of the host, for people.
    """

    host: str
    machine: str
    pid: int
    id: str
    started: str
    heartbeat: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (started {self.started[:19]} UTC)"

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to be gone, which it never is of another machine."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):  # or no system counts that far
            return True
        except PermissionError:  # it is there, and another user's
            pass
        return False


def this_process() -> Holder:
    """Who this process is to others, under a new identity."""
    return Holder(
        host=platform.node(),
        machine=_machine(),
        pid=os.getpid(),
        id=uuid.uuid4().hex,
        started=_now(),
        heartbeat=_now(),
    )


class Claim:
    """The claim file, as one driver sees it.

    Attributes:
        lost_to: The driver that took the claim over, once that was noticed.
    """

    def __init__(self, path: UPath, heartbeat_s: float, stale_s: float) -> None:
        self.lost_to: Holder | None = None
        self._path = path
        self._heartbeat_s = heartbeat_s
        self._stale_s = stale_s
        self._us = this_process()
        self._made: list[Path] = []
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def acquire(self) -> None:
        """Get the claim, and keep it alive from now on.

        Raises:
            UserError: Another driver has it, or the folder can't be written to.
        """
        folder = self._path.parent
        try:
            if is_local(folder):  # elsewhere there are no empty folders
                self._made = [place for place in (folder, *folder.parents) if not place.exists()]
            while not self._try():
                pass
        except UserError:
            raise
        except Exception as error:  # an object store raises whatever its client library does
            raise UserError(
                f"{folder} can't be written to ({one_line(error)}). Check `storage`."
            ) from error
        remove_partial_files(folder)
        self._heart.start()

    def release(self) -> None:
        """Remove the claim if it is ours, and folders that were made for nothing else."""
        self._released.set()
        if self._heart.is_alive():
            self._heart.join()
        with suppress(Exception):  # the storage can't be reached: the claim will go stale
            if self._is_ours(self._read()):
                remove(self._path)
            for place in self._made:
                place.rmdir()

    def check(self) -> None:
        """Refuse to continue without the claim, where the interrupt may not have arrived.

        While Ray shuts down nothing may interrupt it, and the heart interrupts once.

        Raises:
            UserError: Another driver has taken the claim over.
        """
        if self.lost_to is not None:
            raise self.loss()

    def loss(self) -> UserError:
        """What to say of a claim that was lost."""
        return UserError(
            f"{self._path.parent} was taken over by {self.lost_to}: one of the two gave no "
            f"sign of life for {self._stale_s:.0f} s. Leave the sweep to that process."
        )

    def _try(self) -> bool:
        """Try to get the claim; False where it has just changed hands and must be tried again."""
        on_disk = is_local(self._path)
        if on_disk:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        found = self._read()
        if found is None:
            try:
                create(self._path, self._content())
            except FileExistsError:  # another driver was faster
                return False
            except FileNotFoundError:
                if on_disk:  # someone cleaned up the folder
                    return False
                raise
            if on_disk:
                return True
        else:
            if self._is_gone(found):
                return False
            self._replace()
        time.sleep(self._heartbeat_s / 5)  # until whoever else saw what we saw has written too
        return self._is_ours(self._read())

    def _is_gone(self, found: bytes) -> bool:
        """Watch a claim: True once it is removed, False once it is given up for dead.

        Raises:
            UserError: The claim shows a sign of life.
        """
        holder = _parsed(found)
        polls_per_beat = 10
        for poll in range(round(polls_per_beat * self._stale_s / self._heartbeat_s)):
            if holder is not None and holder.is_dead:
                break
            if poll == 2 * polls_per_beat:
                who = holder or "an unreadable claim"
                say(f"No sign of life from {who}: taking over within {self._stale_s:.0f} s")
            time.sleep(self._heartbeat_s / polls_per_beat)
            seen = self._read()
            if seen is None:
                return True
            alive = _parsed(seen)
            if seen != found and alive is not None:
                raise UserError(
                    f"{self._path.parent} is being worked on by {alive}. "
                    "Wait until it has ended, or stop it, and run the same command again."
                )
        return False

    def _beat(self) -> None:
        """Show that this driver is alive, until it releases the claim or has lost it."""
        while self.lost_to is None:
            with suppress(Exception):  # the storage may be away for a while
                self._refresh()
            if self._released.wait(self._heartbeat_s):
                break

    def _refresh(self) -> None:
        found = self._read()
        holder = _parsed(found or b"")
        if found is None:
            create(self._path, self._content())
        elif holder is None or holder.id == self._us.id:
            self._replace()
        else:
            self.lost_to = holder
            main = threading.main_thread().ident
            assert main is not None  # it has begun
            signal.pthread_kill(main, _OVERTAKEN)

    def _read(self) -> bytes | None:
        """The claim as it is now: None where there is none, empty where a link leads to no file.

        Raises:
            UserError: The claim can't be read, or something else has its name: a pipe would never
                end.
        """
        on_disk = is_local(self._path)
        try:
            if on_disk and not stat.S_ISREG(self._path.stat().st_mode):
                raise UserError(
                    f"{self._path} is not a file. Something else took the name of the sweep's "
                    "claim: remove it, and run the same command again."
                )
            return read_whole(self._path)
        except FileNotFoundError:
            return b"" if on_disk and self._path.is_symlink() else None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link to itself
                return b""
            raise

    def _replace(self) -> None:
        """Write the claim whole, and make no folder: a missing one means that a mount is gone."""
        if is_local(self._path):
            with partial_file(self._path) as partial:
                partial.write_bytes(self._content())
        else:
            write_whole(self._path, self._content())

    def _content(self) -> bytes:
        return json.dumps(asdict(replace(self._us, heartbeat=_now())), indent=1).encode()

    def _is_ours(self, found: bytes | None) -> bool:
        holder = _parsed(found or b"")
        return holder is not None and holder.id == self._us.id


def _parsed(content: bytes) -> Holder | None:
    """The holder of a claim; None if it is only half written, or damaged."""
    try:
        holder = Holder(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (holder.host, holder.machine, holder.id, holder.started, holder.heartbeat)
    is_one = all(type(text) is str for text in texts) and type(holder.pid) is int
    return holder if is_one and holder.pid > 0 else None


@cache
def _machine() -> str:
    """Name what process numbers are counted in: a machine since its start, and a container."""
    parts = [platform.node()]
    with suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return digest(*parts)


def _now() -> str:
    return datetime.now(UTC).isoformat()
