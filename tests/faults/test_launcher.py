# SPDX-License-Identifier: BSD-3-Clause
"""Programs started in the wrong way get a sentence, not nonsense."""

import pytest


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_a_launcher_of_another_mpi_is_named(job, name):
    # what a rank sees that mpiexec of another MPI started: the launcher's variables, and a world of one
    script = f"import os\nos.environ['{name}'] = '4'\nimport nodeshare as ns\nns.zeros(3)\n"
    ended = job(0, "from mpi4py import MPI\n" + script)
    assert ended.code == 1
    assert "InvalidArgument: the launcher started 4 ranks (" + name in ended.err
    assert "MPI_COMM_WORLD has 1" in ended.err


def test_a_batch_script_s_own_python_is_no_step_of_several_ranks(job):
    ended = job(
        0, "import nodeshare as ns\nprint(ns.topology().size)\n", env={"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}
    )
    assert ended.out == "1\n"


def test_an_extension_for_another_mpi_than_mpi4py_s_is_named(job):
    ended = job(
        0,
        """
        import nodeshare as ns
        from nodeshare import _core
        _core.library_version = lambda: "MPICH Version: 4.0.2"
        ns.zeros(3)
        """,
    )
    assert "Error: mpi4py uses" in ended.err and "nodeshare was built for MPICH Version: 4.0.2" in ended.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("NODESHARE_MEMORY", "shm"), ("NODESHARE_PATIENCE", "soon"), ("NODESHARE_RANKS_PER_NODE", "2;1")],
)
@pytest.mark.parametrize("ranks", [0, 2])
def test_a_bad_setting_is_refused_on_every_rank(job, name, value, ranks):
    script = """
        import nodeshare as ns
        try:
            ns.zeros(3)
        except ns.InvalidArgument as error:
            print("told:", error, flush=True)
    """
    ended = job(ranks, script, env={name: value})
    assert ended.code == 0, ended.err
    assert ended.out.count(f"told: {name}={value}") == max(ranks, 1) and "allowed is" in ended.out
