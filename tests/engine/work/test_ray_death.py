"""Servers of Ray's that die while we use them: those of a cluster that others started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.cluster_utils import Cluster

from ssense.engine.work import ray_death

REPOSITORY = Path(__file__).parents[3]

JOINER = """
import sys
from dataclasses import dataclass
from ray.util.placement_group import placement_group, remove_placement_group
from ssense.cli.command import run_command
from ssense.engine.work import ray_death
from ssense.engine.work.workers import running_ray

ray_death._PATIENCE_S = 1

@dataclass
class Options:
    pass

def main(options):
    with running_ray():
        print("running", flush=True)
        while True:  # each waits for the GCS inside of Ray, where no interrupt comes through
            remove_placement_group(placement_group([{"CPU": 1}]))

run_command(Options, main)
"""


@pytest.mark.slow
def test_the_death_of_a_clusters_gcs_is_one_line_within_seconds():
    place = {"node_ip_address": "127.0.0.2", "include_dashboard": False, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args=place)
    address = cluster.address
    try:
        with subprocess.Popen(
            [sys.executable, "-c", JOINER],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "running\n"
            before = time.monotonic()
            cluster.head_node.kill_gcs_server(check_alive=False)
            shown, errors = process.communicate()
        assert time.monotonic() - before < 30
    finally:
        cluster.shutdown()
    assert (process.returncode, shown, errors) == (
        2,
        "",
        f"error: Ray's GCS (gcs_server) at {address} died: killed, out of memory, or "
        "stopped with the cluster. Restart the cluster, or unset RAY_ADDRESS to use this "
        "machine, and run the same command again: what is done is kept.\n",
    )


@pytest.fixture
def servers(monkeypatch) -> dict[str, socket.socket]:
    """Sockets that listen where a joined Ray has its GCS and its raylet."""
    found = {name: socket.create_server(("127.0.0.1", 0)) for name in ("gcs", "raylet")}
    ports = {name: server.getsockname()[1] for name, server in found.items()}
    node = SimpleNamespace(
        gcs_address=f"127.0.0.1:{ports['gcs']}",
        node_ip_address="127.0.0.1",
        node_manager_port=ports["raylet"],
    )
    monkeypatch.setattr(ray_death.ray_worker, "_global_node", node)
    monkeypatch.setattr(ray_death, "_REFUSED_S", 0.3)
    yield found
    for server in found.values():
        server.close()


def test_a_cluster_is_dead_where_nobody_listens_any_more(servers):
    death = ray_death.cluster_death()
    assert death() == ""
    port = servers["raylet"].getsockname()[1]
    servers["raylet"].close()
    assert death().startswith(f"Ray's raylet on this machine at 127.0.0.1:{port} died: ")


def test_a_server_that_accepts_nobody_for_a_moment_is_not_dead(servers):
    death, address = ray_death.cluster_death(), servers["gcs"].getsockname()
    servers["gcs"].close()
    again: list[socket.socket] = []
    timer = threading.Timer(0.1, lambda: again.append(socket.create_server(address)))
    timer.start()
    assert death() == ""
    timer.join()
    again[0].close()


def test_a_network_that_is_away_kills_no_cluster(monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "create_connection", away)
    node = SimpleNamespace(
        gcs_address="192.0.2.1:1", node_ip_address="192.0.2.1", node_manager_port=2
    )
    monkeypatch.setattr(ray_death.ray_worker, "_global_node", node)
    assert ray_death.cluster_death()() == ""


def test_a_client_of_a_cluster_elsewhere_watches_nothing(monkeypatch):
    monkeypatch.setattr(ray_death.ray_worker, "_global_node", None)
    assert ray_death.cluster_death()() == ""


def test_a_death_that_is_seen_while_the_work_ends_interrupts_nothing(monkeypatch):
    monkeypatch.setattr(ray_death.ray, "shutdown", lambda: None)  # other tests use theirs
    asked = threading.Event()

    def death() -> str:
        asked.set()
        time.sleep(0.3)
        return "dead"

    before = signal.getsignal(ray_death._LOST)
    with ray_death.ending_with_ray(death):
        assert asked.wait(10)
    assert signal.getsignal(ray_death._LOST) == before
