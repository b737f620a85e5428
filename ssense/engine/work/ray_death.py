"""The death of Ray's servers is noticed at once, where Ray would be silent for a minute.

Without its GCS, which knows all machines, or the driver's own raylet, nothing continues. Ray's
driver waits for them, prints what they logged last, and then ends the process without a word to it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import ray
from ray._private import worker as ray_worker

from ssense.errors import UserError

_LOOK_S = 0.2
_LOST = signal.SIGUSR2  # not SIGINT, which background jobs of a shell script ignore
_PATIENCE_S = 20.0  # for a loaded machine; Ray itself ends the process after a minute
_REFUSED_S = 2.0  # a server that accepts nobody for a moment may only be busy
_CONNECT_S = 2.0


@contextmanager
def ending_with_ray(death: Callable[[], str]) -> Iterator[None]:
    """End what runs meanwhile once Ray is dead, and shut Ray down; call this in the main thread.

    The block is interrupted. Where it waits for the GCS, inside of Ray, no interrupt reaches it;
    there the process ends with the same one line, as if it were killed.

    Args:
        death: Says what has died and what to do; empty as long as all that Ray needs lives.

    Raises:
        UserError: Something without which Ray can't work has died.
    """
    over, lost, ended = threading.Event(), threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None  # it has begun

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if words := death():
                lost.set()
                signal.pthread_kill(main, _LOST)
                if not ended.wait(_PATIENCE_S):
                    print("error:", words, file=sys.stderr, flush=True)
                    os._exit(2)
                return

    watcher = threading.Thread(target=watch, name="ray watch", daemon=True)
    before = signal.signal(_LOST, signal.default_int_handler)
    try:
        watcher.start()
        try:
            with (
                replaced(ray_worker, "print_to_stdstream", _print_nothing),
                replaced(threading, "excepthook", _without_rays_threads(threading.excepthook)),
            ):
                yield
        finally:
            signal.signal(_LOST, signal.SIG_IGN)  # it must not interrupt what follows
    except BaseException as error:
        dead = death()
        # Ctrl-C, and what a batch system sends to Ray and to us, is an interrupt all the same.
        if not dead or (isinstance(error, KeyboardInterrupt) and not lost.is_set()):
            raise
        raise UserError(dead) from error
    finally:
        over.set()
        ray.shutdown()
        ended.set()
        watcher.join()
        signal.signal(_LOST, before)


def cluster_death() -> Callable[[], str]:
    """Return a function that tells whether the joined Ray has lost its GCS or our raylet.

    Others started them, here or on another machine: all that can be seen is that nobody listens any
    more where they did. A network that is down for a while refuses nothing.
    """
    node = ray_worker._global_node
    if node is None:  # a client, whose Ray is elsewhere
        return str
    servers = {
        "GCS (gcs_server)": node.gcs_address,
        "raylet on this machine": f"{node.node_ip_address}:{node.node_manager_port}",
    }

    def death() -> str:
        for name, address in servers.items():
            if _refuses(address):
                return (
                    f"Ray's {name} at {address} died: killed, out of memory, or stopped with the "
                    "cluster. Restart the cluster, or unset RAY_ADDRESS to use this machine, "
                    "and run the same command again: what is done is kept."
                )
        return ""

    return death


def _refuses(address: str) -> bool:
    """Whether a machine says all the time that nobody listens at an address, "HOST:PORT"."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + _REFUSED_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
            return False
        except ConnectionRefusedError:
            if time.monotonic() > end:
                return True
            time.sleep(_LOOK_S)
        except OSError:
            return False


def _print_nothing(*_: Any, **__: Any) -> None:
    """Suppress the twenty log lines by which Ray says that one of its processes died."""


def _without_rays_threads(
    shown: Callable[[threading.ExceptHookArgs], Any],
) -> Callable[[threading.ExceptHookArgs], None]:
    """Show what ends a thread, unless it is one in which Ray listens to its servers."""

    def show(ended: threading.ExceptHookArgs) -> None:
        if ended.thread is None or not ended.thread.name.startswith("ray_"):
            shown(ended)

    return show


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """Replace a name of a module for the length of the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
