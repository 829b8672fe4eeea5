# SPDX-License-Identifier: BSD-3-Clause
"""Arrays stay out of core dumps, which would hold each of them once per rank."""

import pathlib

import pytest

SIZE = 100 << 20

MAKE = f"""
import nodeshare as ns
from mpi4py import MPI

arrays = [ns.ones({SIZE}, "u1"), ns.zeros(1000), ns.empty({SIZE}, "u1", reserve=False)]
"""


@pytest.mark.parametrize(("ranks", "memory"), [(0, "memfd"), (2, "memfd"), (2, "window"), (3, "window")])
def test_no_mapping_of_an_array_is_dumped(job, ranks, memory):
    ended = job(
        ranks,
        MAKE
        + """
flags = {}
for line in open("/proc/self/smaps"):
    words = line.split()
    if "-" in words[0]:
        start = int(words[0].split("-")[0], 16)
    elif words[0] == "VmFlags:":
        flags[start] = words[1:]
for a in arrays:
    address = a.array.__array_interface__["data"][0]
    assert address % 4096 == 0
    assert "dd" in flags[address], (a, flags[address])
assert ns.memory().arrays[0].kind == ("memfd" if MPI.COMM_WORLD.size == 1 else "MEMORY")
print("well\\n", end="", flush=True)
""".replace("MEMORY", memory),
        env={"NODESHARE_MEMORY": memory},
    )
    assert (ended.code, ended.out.count("well")) == (0, max(ranks, 1)), ended.out + ended.err


def core_of_a_rank(job, folder, ranks, make):
    """Return the bytes of the largest core dump of a job whose rank 1 aborts."""
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern or "/" in pattern or pattern.startswith("|"):
        pytest.skip(f"core dumps are not plain files of the working folder here: core_pattern is {pattern!r}")
    ended = job(
        ranks,
        make
        + """
import os, resource, signal
_, most = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
arrays[0].sync()
if MPI.COMM_WORLD.rank == 1:
    print("limit", most, flush=True)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.abort()
arrays[0].sync()
""",
    )
    assert ended.code != 0
    if "limit -1" not in ended.out:
        pytest.skip("core dumps are limited here (`ulimit -H -c`)")
    cores = [path for path in folder.iterdir() if path.name.startswith("core")]
    if not cores:
        pytest.skip(f"the system wrote no core dump: core_pattern is {pattern!r}")
    nbytes = max(path.stat().st_blocks * 512 for path in cores)
    for path in cores:
        path.unlink()
    return nbytes


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_core_dump_of_a_rank_does_not_hold_its_arrays(job, tmp_path, ranks):
    few = core_of_a_rank(
        job, tmp_path, ranks, MAKE.replace(str(SIZE), "100")
    )  # of the MPI's own: gigabytes (Intel MPI)
    assert core_of_a_rank(job, tmp_path, ranks, MAKE) < few + SIZE / 2
