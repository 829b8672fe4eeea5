# SPDX-License-Identifier: BSD-3-Clause
"""Ranks of one machine in namespaces of their own, as containers for each rank make them."""

from __future__ import annotations

import subprocess

import pytest

from launch import Jobs, mpiexec, version_of_mpiexec

SCRIPT = """
    import numpy as np
    import nodeshare as ns

    where = ns.topology()
    rows = ns.zeros((100, 3))
    rows.local[...] = where.rank + 1
    rows.allgather()
    table = ns.array(np.arange(1e6) if where.rank == 0 else None)
    if where.nodes == 1:
        taken = ns.Queue()
        taken.put(where.rank)
        rows.sync()
        assert taken.get() in range(where.size)
    begins = [100 * rank // where.size for rank in range(where.size)]
    assert rows.array[begins, 0].tolist() == [rank + 1 for rank in range(where.size)]
    assert table.array[-1] == 999_999
    print(f"{where.size} ranks, {where.nodes} nodes", flush=True)
"""


# What MPICH and the UCX in it need to be told (README, Troubleshooting); else UCX complains, and MPI_Init hangs.
IN_USER_NAMESPACES = {"UCX_POSIX_USE_PROC_LINK": "n"}
WITHOUT_A_COMMON_DEV_SHM = {"MPIR_CVAR_NOLOCAL": "1"}


def job_within(tmp_path, *words):
    """Run a job each of whose ranks is started by these words; skip where the system forbids them."""
    tried = subprocess.run([*words, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"{' '.join(words)}: {tried.stderr.strip()}")
    jobs = Jobs(tmp_path, lambda ranks: [*mpiexec(ranks), *words])

    def run(ranks, **env):
        ended = jobs(ranks, SCRIPT, env=env)
        if "unable to allocate shared memory" in ended.err and "Intel" in version_of_mpiexec():
            pytest.skip(f"Intel MPI does not start within {' '.join(words)}")
        assert ended.code == 0, ended.out + ended.err
        return ended.out.splitlines()

    return run


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("memory", ["auto", "window"])
def test_ranks_in_user_namespaces_of_their_own_share_memory(tmp_path, ranks, memory):
    run = job_within(tmp_path, "unshare", "--user", "--map-root-user")
    assert run(ranks, NODESHARE_MEMORY=memory, **IN_USER_NAMESPACES) == [f"{ranks} ranks, 1 nodes"] * ranks


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_that_have_a_dev_shm_of_their_own_are_nodes_of_their_own(tmp_path, ranks):
    mount = 'mount -t tmpfs none /dev/shm && exec "$0" "$@"'
    run = job_within(tmp_path, "unshare", "--mount", "sh", "-c", mount)
    assert run(ranks, **WITHOUT_A_COMMON_DEV_SHM) == [f"{ranks} ranks, {ranks} nodes"] * ranks
