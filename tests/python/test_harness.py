# SPDX-License-Identifier: BSD-3-Clause
"""What the other test files rely on."""

import os

import pytest


def test_every_rank_of_the_launcher_is_in_the_communicator(comm):
    assert sorted(comm.allgather(comm.rank)) == list(range(comm.size))
    expected = os.environ.get("NODESHARE_TEST_RANKS")
    if expected is None:
        pytest.skip("not started by tests/run.sh, which says how many ranks there are")
    assert comm.size == int(expected)


@pytest.mark.ranks(2, 3)
def test_a_marked_test_runs_at_its_rank_counts_only(comm):
    assert comm.size in (2, 3)


def test_all_ranks_use_one_folder(comm, folder):
    if comm.rank == comm.size - 1:
        (folder / "file").write_text("text")
    comm.Barrier()
    assert (folder / "file").read_text() == "text"
