# SPDX-License-Identifier: BSD-3-Clause
"""A /dev/shm that is small, full, read-only, unlimited, on a disk or missing: the job works, or all ranks are told."""

import re
import subprocess

import pytest

from launch import Jobs, mpiexec

SMALL = "mount -t tmpfs -o size=64m tmpfs /dev/shm"

# Both in one job: the settings are asked for anew on a duplicate of the communicator.
SCRIPT = """
import os, time
import nodeshare as ns
from mpi4py import MPI

for memory in "auto", "window":
    os.environ["NODESHARE_MEMORY"] = memory
    comm = MPI.COMM_WORLD.Dup()
    comm.Barrier()
    begin = time.monotonic()
    try:
        a = ns.zeros({size}, "u1", comm=comm)
        assert not a.array[:: 1 << 20].any()
        a.sync()  # before others write
        a.local[...] = comm.rank + 1
        a.sync()
        assert all((a.array[slice(*a.rows(rank))] == rank + 1).all() for rank in range(comm.size))
        print(f"{{memory}} has {{ns.memory().arrays[-1].kind}}\\n", end="", flush=True)
        del a
    except ns.Error as error:
        took = time.monotonic() - begin
        assert took < 10, took
        print(f"{{memory}} told {{type(error).__name__}}: {{error}}\\n", end="", flush=True)
    if {goes_on}:
        b = ns.ones(1000, comm=comm)
        b.local += 1
        b.sync()
        assert (b.array == 2).all()
MPI.COMM_WORLD.Barrier()
print("well\\n", end="", flush=True)
"""


@pytest.fixture
def job_with(tmp_path):  # type: ignore[no-untyped-def]
    """Run a script where a shell command has made /dev/shm anew; return how it ended, and what files stayed there."""
    tried = subprocess.run(["unshare", "-m", "sh", "-c", SMALL], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no /dev/shm of a job's own can be mounted here: {tried.stderr.strip()}")
    if tmp_path.is_relative_to("/dev/shm"):
        pytest.skip("the temporary folder (TMPDIR) lies in /dev/shm, which these tests hide")
    started = []

    def run(setup, ranks, script, *, env=None, finish="true"):
        list_files = f'find /dev/shm -type f -printf "%s %p\\n" > {tmp_path}/'
        shell = f'{setup} && {list_files}before; "$@"; code=$?; {finish}; {list_files}after; exit $code'
        jobs = Jobs(tmp_path, lambda ranks: ["unshare", "-m", "sh", "-c", shell, "sh", *mpiexec(ranks)])
        started.append(jobs)
        ended = jobs(ranks, script, env=env)
        before, after = (set((tmp_path / name).read_text().splitlines()) for name in ("before", "after"))
        return ended, sorted(after - before)

    yield run
    for jobs in started:
        jobs.end()


@pytest.mark.parametrize("ranks", [2, 3])
def test_an_array_larger_than_a_small_one_lies_in_a_memfd_or_every_rank_is_told(job_with, ranks):
    ended, left = job_with(SMALL, ranks, SCRIPT.format(size=200 << 20, goes_on=True))
    assert (ended.code, left) == (0, []), ended.out + ended.err
    told = re.findall("window told OutOfSharedMemory: .*200 MiB .* free in /dev/shm", ended.out)
    assert ended.out.count("auto has memfd") == len(told) == ended.out.count("well") == ranks, ended.out


@pytest.mark.parametrize("ranks", [2, 3])
def test_two_arrays_that_fit_only_singly(job_with, ranks):
    ended, left = job_with(
        SMALL,
        ranks,
        """
        import nodeshare as ns
        a = ns.ones(40 << 20, "u1")
        for repeat in range(3):
            try:
                ns.zeros(40 << 20, "u1")
            except ns.OutOfSharedMemory:
                print("told\\n", end="", flush=True)
        assert a.array.min() == 1
        del a
        b = ns.zeros(40 << 20, "u1")
        assert b.array.max() == 0
        print("well\\n", end="", flush=True)
        """,
        env={"NODESHARE_MEMORY": "window"},
    )
    assert (ended.code, left) == (0, []), ended.out + ended.err
    assert (ended.out.count("told"), ended.out.count("well")) == (3 * ranks, ranks), ended.out


FOLDERS = {
    "full": SMALL + "; head -c 64M /dev/zero > /dev/shm/full 2> /dev/null",
    "read-only": SMALL + " && mount -o remount,ro /dev/shm",
    "unlimited": "mount -t tmpfs -o size=0 tmpfs /dev/shm",
    "on a disk": "mkdir -p {tmp_path}/disk && mount --bind {tmp_path}/disk /dev/shm",
    "missing": "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/zero c 1 5 && "
    "mknod -m 666 /dev/urandom c 1 9",
}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("folder", FOLDERS)
def test_an_array_lies_elsewhere_and_where_a_window_is_asked_for_it_works_or_every_rank_is_told(
    job_with, tmp_path, folder, ranks
):
    setup = FOLDERS[folder].format(tmp_path=tmp_path)
    ended, left = job_with(setup, ranks, SCRIPT.format(size=20 << 20, goes_on=False))
    if ended.code != 0 and job_with(setup, ranks, "from mpi4py import MPI")[0].code != 0:
        pytest.skip(f"this MPI does not even start where /dev/shm is {folder}")
    assert (ended.code, left) == (0, []), ended.out + ended.err
    assert ended.out.count("auto has") == ended.out.count("well") == ranks, ended.out
    told = re.findall(r"window told \w+: .*(?:/dev/shm|on a disk)", ended.out)
    assert ranks in (len(told), ended.out.count("window has window")), ended.out


@pytest.mark.parametrize("ranks", [2, 3])
def test_others_that_fill_it_while_windows_are_made_leave_no_rank_waiting(job_with, ranks):
    """Between our look and the MPI's they leave an error; or, where the MPI fails on one rank alone, an abort."""
    others = (
        "{ while [ ! -e /dev/shm/begin ]; do sleep 0.05; done; "
        "while :; do fallocate -l 60M /dev/shm/others; rm -f /dev/shm/others; done; } 2> /dev/null & others=$!"
    )
    ended, _ = job_with(
        f"{SMALL}; {others}; true",
        ranks,
        """
        import nodeshare as ns
        t = ns.topology()
        a = ns.zeros(1000)
        open("/dev/shm/begin", "w").close()
        for step in range(100):
            try:
                a = ns.zeros(8 << 20, "u1")
                a.local[...] = 1
                a.sync()
                assert a.array.all()
                print("made\\n", end="", flush=True)
                del a
                ns.trim()
            except ns.Error as error:
                print(f"told {error}\\n", end="", flush=True)
        print("well\\n", end="", flush=True)
        """,
        env={"NODESHARE_MEMORY": "window"},
        finish="kill $others",
    )
    if ended.code == 0:
        assert ended.out.count("made\n") + ended.out.count("told ") == 100 * ranks, ended.out
        assert ended.out.count("well") == ranks, ended.out
    else:  # the MPI's own last words, where its first touch of a new window finds no page
        assert "so the job is aborted" in ended.err or re.search("signal|BAD TERMINATION", ended.out + ended.err), ended
