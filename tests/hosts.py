# SPDX-License-Identifier: BSD-3-Clause
"""Hosts on this machine, each with its own /dev/shm and network: see multinode/nodes.sh."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launch import mpiexec

here = Path(__file__).resolve().parent / "multinode"
HOSTS = ("node1", "node2", "node3")
CPUS = 2  # of each, as Slurm sees them


class Hosts:
    """The hosts `node1`, `node2` and `node3`; jobs run on the first two, unless told otherwise."""

    def __init__(self, number: int, shared: list[Path]) -> None:
        self.net = f"10.77.{number}"
        self._settings = {
            "RIG_NAME": f"rig{number}",
            "RIG_NET": self.net,
            "RIG_PORT": str(16817 + 2 * number),
            "RIG_CPUS": str(CPUS),
            "RIG_SHARE": ":".join(str(folder) for folder in shared if Path("/tmp") in folder.parents),
        }

    def script(self, name: str, *words: str) -> str:
        """Run nodes.sh or slurm.sh; return what it writes."""
        done = subprocess.run(
            [here / name, *words],
            env={**os.environ, **self._settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=120,
            text=True,
        )
        if done.returncode != 0:
            raise AssertionError(f"{name} {' '.join(words)}:\n{done.stdout}")
        return done.stdout.strip()

    def run(self, host: str, *words: str) -> str:
        """Run a command in a host; return what it writes."""
        return self.script("nodes.sh", "exec", host, *words)

    def up(self) -> None:
        """Make the hosts, removing first what there is of them."""
        self.script("nodes.sh", "up", str(len(HOSTS)))

    def mpiexec(self, ranks: int, slots: Sequence[int] = (), cyclic: bool = False) -> list[str]:
        """Return the words that start so many ranks of what follows.

        `slots` tells how many go to each host (as many to node1 as to node2, or one more); with `cyclic` they go to the
        hosts in turn (to two hosts, or as many as there are slots).
        """
        ssh, net = str(here / "nodes.sh"), f"{self.net}.0/24"
        slots = slots or ((1, 1) if cyclic else ((ranks + 1) // 2, ranks // 2))
        order = "node" if cyclic else "slot"
        env = {
            **self._settings,
            "TMPDIR": "/tmp",  # of each host
            # Open MPI: started how, talking through what; bound to no core, since the hosts have the same ones
            **{"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl_tcp_if_include": net, "OMPI_MCA_mpi_yield_when_idle": "1"},
            # its version 5
            **{"PRTE_MCA_plm": "ssh", "PRTE_MCA_plm_ssh_agent": ssh, "PRTE_MCA_plm_ssh_no_tree_spawn": "1"},
            **{"PRTE_MCA_prte_if_include": net, "PRTE_MCA_hwloc_default_binding_policy": "none"},
            "PRTE_MCA_rmaps_default_mapping_policy": f"{order}:oversubscribe",
            # its version 4
            **{"OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": ssh, "OMPI_MCA_plm_rsh_no_tree_spawn": "1"},
            **{"OMPI_MCA_oob_tcp_if_include": net, "OMPI_MCA_hwloc_base_binding_policy": "none"},
            **{"OMPI_MCA_rmaps_base_mapping_policy": order, "OMPI_MCA_rmaps_base_oversubscribe": "1"},
            # MPICH and its kin
            **{"HYDRA_LAUNCHER": "rsh", "HYDRA_LAUNCHER_EXEC": ssh},
        }
        where = ",".join(f"{host}:{count}" for host, count in zip(HOSTS, slots))
        return ["env", *(f"{key}={value}" for key, value in env.items()), *mpiexec(ranks), "-host", where]


def hosts_lack() -> str:
    """Return what is missing here for hosts; nothing if they can be made."""
    return subprocess.run([here / "nodes.sh", "lacks"], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def made_hosts(*shared: Path) -> Iterator[Hosts]:
    """Make hosts and remove them at the end; they share the project, the MPI and other folders."""
    with socket.socket(socket.AF_UNIX) as lock:
        for number in range(200):  # another run on this machine has its own
            try:
                lock.bind(f"\0nodeshare-rig{number}")
                break
            except OSError:
                pass
        launcher = Path(shutil.which(mpiexec(1)[0]) or "/").resolve()
        hosts = Hosts(number, [here.parents[1], *shared, launcher.parent.parent])
        try:
            hosts.script("slurm.sh", "stop")  # what a killed run may have left
            hosts.up()
            yield hosts
        finally:
            hosts.script("nodes.sh", "down")
