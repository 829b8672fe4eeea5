# SPDX-License-Identifier: BSD-3-Clause
"""The measures: what is timed, what it is compared with, and what is required."""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from figures import Figure, time_above, time_of, times_as_long, times_faster
from jobs import CouldNotRun, Jobs, here, mpiexec, read_samples, root, run

MEMORIES = ("window", "memfd")
FLAT = 1.5  # what counts as "flat in size", for sizes of 1 to 131072
# Where each rank has a core, MPI is timed as on a cluster: it does not yield the core while it waits, as environment.sh
# lets it where cores are few, and as would make a slower floor.
A_CORE_EACH = {"OMPI_MCA_mpi_yield_when_idle": "0"}


def create(jobs: Jobs) -> Iterator[Figure]:
    """Create and drop an array without reserving its pages; floor: MPI_Win_allocate_shared and MPI_Win_free."""
    found = jobs.cpp(2, "create", jobs.few(500, 100), env=A_CORE_EACH)
    for memory, at_most in zip(MEMORIES, (1.6, 0.7)):
        for size in ("8 KiB", "1 GiB"):
            what = f"create and drop {size}, {memory}"
            yield times_as_long(what, found[f"{memory} {size}"], "raw window", found[f"raw {size}"], at_most)
            yield times_as_long(f"{what}, again", found[f"{memory} {size} again"], "raw window", found[f"raw {size}"])
        what = f"create and drop 1 GiB, {memory}"
        yield times_as_long(what, found[f"{memory} 1 GiB"], "the same of 8 KiB", found[f"{memory} 8 KiB"], FLAT)


def reserve(jobs: Jobs) -> Iterator[Figure]:
    """Create 1 GiB of zeros, each page present, by all ranks; floor: a raw window that rank 0 touches or clears."""
    found = jobs.cpp(2, "reserve", jobs.few(11, 3), env=A_CORE_EACH)
    for memory in MEMORIES:
        what = f"zeros of 1 GiB, {memory}"
        yield times_faster(what, found[memory], "raw window, rank 0 touches each page", found["touch"], 2)
        yield times_faster(what, found[memory], "raw window, rank 0 clears it", found["memset"])


def triad(jobs: Jobs) -> Iterator[Figure]:
    """Run STREAM's triad on 3 x 128 MiB, each rank on its rows; floor: the same in raw windows."""
    found = jobs.cpp(2, "triad", jobs.few(90, 18), env=A_CORE_EACH)

    def pages(memory: str) -> str:
        huge = found[f"{memory}, 2 MiB pages"]
        return f" ({huge >> 20} MiB of it in 2 MiB pages)" if huge else ""

    for memory in MEMORIES:
        what = f"triad in a shared array, {memory}{pages(memory)}"
        yield times_as_long(what, found[memory], f"raw window{pages('raw')}", found["raw"], 1.03)


def sync(jobs: Jobs) -> Iterator[Figure]:
    """Call sync() in C++, each rank on a core of its own, and 8 ranks on two; floor: MPI_Barrier."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CouldNotRun("sync is timed with a core for each of 2 ranks, and there is one core")
    found = jobs.cpp(2, "sync", jobs.few(400, 100), 1000, env=A_CORE_EACH)
    yield times_faster("sync() in C++", found["sync"], "MPI_Barrier", found["barrier"], 3)
    yield times_as_long("sync() in C++", found["sync"], "bare flags in shared memory", found["flags"])
    two = ",".join(map(str, cores[:2]))
    found = jobs.cpp(8, "sync", jobs.few(20, 5), 50, two, env={"OMPI_MCA_mpi_yield_when_idle": "1"})
    yield time_of("sync() in C++, 8 ranks on 2 cores", found["sync"], 50)
    yield times_faster("sync() in C++, 8 ranks on 2 cores", found["sync"], "MPI_Barrier", found["barrier"])


def python(jobs: Jobs) -> Iterator[Figure]:
    """Use `.array` and `.sync()` from Python, 100,000 times; floor: an empty loop, and C++'s sync()."""
    library = jobs.built("libnodeshare_benchmark_calls.so")
    for ranks in (1, 2):
        words = jobs.few(31, 7), 100_000, library
        found = jobs.python(ranks, "ranks_calls.py", *words, env=A_CORE_EACH)
        on = f"{ranks} rank{'s' * (ranks > 1)}"
        if ranks == 1:
            yield time_above("a.array in Python", found["array"], "empty loop", found["empty_loop"], 0.05)
        yield time_above(f"a.sync() in Python, {on}", found["sync"], "sync() in C++", found["sync_in_cpp"], 0.4)


def memory(jobs: Jobs) -> Iterator[Figure]:
    """Create, fill and read 256 MiB on 4 ranks: rise of their summed PSS; floor: the array's bytes."""
    nbytes = 256 << 20
    for kind in MEMORIES:
        rises = jobs.python(4, "ranks_memory.py", nbytes, 3, env={"NODESHARE_MEMORY": kind})["rise"]
        rise = sorted(rises)[1]
        words = f"{rise / 2**20:.1f} MiB : 256 MiB"
        what = f"memory (PSS) of 256 MiB on 4 ranks, {kind}"
        yield Figure(what, "its bytes", words, rise / nbytes, "x", min(rises) / nbytes, at_most=1.02)


def arena(jobs: Jobs) -> Iterator[Figure]:
    """Take 100,000 arrays from an arena: private memory beside the data, and time, of each."""
    count = 100_000
    python = jobs.python(2, "ranks_arena.py", count, jobs.few(11, 3))
    cpp = jobs.cpp(2, "arena", jobs.few(31, 7), count)
    for language, found, at_most in (("Python", python, 400), ("C++", cpp, 64)):
        what = f"an array of an arena in {language}"
        yield Figure(f"{what}, beside its data", "", f"{count} of them", found["bytes"], "B", at_most=at_most)
        yield time_of(what, found["arena"])


def live(jobs: Jobs) -> Iterator[Figure]:
    """Make arrays by zeros(1) and keep them, also under `ulimit -n 256`."""
    count = 3000
    for kind in MEMORIES:
        for limit in ((), (256,)):
            found = jobs.python(2, "ranks_live.py", count, *limit, env={"NODESHARE_MEMORY": kind})["live"]
            what = f"live arrays by zeros(1), {kind}" + ", ulimit -n 256" * bool(limit)
            yield Figure(what, "", found[1], found[0], "arrays", at_least=count)


def weather(jobs: Jobs) -> Iterator[Figure]:
    """Run the main job on 2 ranks, computing only; floor: on 1 rank."""
    hours = jobs.few(8760, 1000)
    order = random.Random(1)
    samples: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(jobs.few(3, 2)):
        for ranks in order.sample((1, 2), 2):
            words = [*mpiexec(ranks), sys.executable, str(root / "slurm" / "weather.py")]
            words += ["--resolution", "1", "--hours", str(hours), "--check"]  # with --check it writes nothing
            printed = run(words, {"COLUMNS": "100"})
            spent = re.search(r"\bcomputing\W+([\d.]+) s\b", printed)
            if spent is None:
                raise CouldNotRun("weather.py did not print how many seconds it was computing")
            samples[ranks].append(float(spent[1]))
    yield times_faster("weather on 2 ranks, computing", samples[2], "on 1 rank", samples[1], 1.8)


def copies(jobs: Jobs) -> Iterator[Figure]:
    """Make array(root) of 512 MiB in new memory, and again; floors: a raw window that root fills, one memcpy, Bcast."""
    nbytes = 512 << 20
    for ranks, than_bcast in ((2, 1.7), (4, 5)):
        for memory, than_raw in zip(MEMORIES, (1.3, 2)):
            on = f"array(root) of 512 MiB, {ranks} ranks, {memory}"
            found = jobs.python(ranks, "ranks_copies.py", nbytes, jobs.few(9, 3), env={"NODESHARE_MEMORY": memory})
            if ranks == 2:
                yield times_faster(on, found["new"], "raw window filled by root", found["raw"], than_raw)
            yield times_faster(on, found["new"], "Bcast into fresh buffers", found["bcast"])
            yield times_as_long(f"{on}, again", found["again"], "one memcpy", found["memcpy"], 1.15)
            yield times_faster(f"{on}, again", found["again"], "Bcast into fresh buffers", found["bcast"], than_bcast)
            yield times_as_long(f"{on}, after rows of all", found["after_rows"], "one memcpy", found["memcpy"], 1.15)


def parts(jobs: Jobs) -> Iterator[Figure]:
    """Put parts of all ranks together, 256 MiB, into memory used again; peer: MPI_Allgather into reused buffers."""
    nbytes = 256 << 20
    for ranks, at_least in ((2, 2.3), (4, 4)):
        found = jobs.python(ranks, "ranks_parts.py", nbytes, jobs.few(15, 3))
        what = f"from_parts of 256 MiB, {ranks} ranks, again"
        yield times_faster(what, found["parts"], "Allgather into reused buffers", found["allgather"], at_least)
        shared, private = found["shared_bytes"], found["private_bytes"]
        words = f"{shared / 2**20:.1f} : {private / 2**20:.1f} MiB"
        yield Figure(f"memory (PSS) of {what}", "Allgather", words, shared / private, "x", at_most=1.05 / ranks)


def allreduce(jobs: Jobs) -> Iterator[Figure]:
    """Combine 64 MiB of every rank by allreduce; floor: MPI_Allreduce into private buffers that are used again."""
    nbytes = 64 << 20
    for ranks in (2, 4):
        env = A_CORE_EACH if ranks <= len(os.sched_getaffinity(0)) else None
        found = jobs.python(ranks, "ranks_allreduce.py", nbytes, jobs.few(31, 7), env=env)
        what = f"allreduce of 64 MiB, {ranks} ranks on a node"
        yield times_faster(what, found["allreduce"], "MPI_Allreduce into reused buffers", found["mpi"], 4)


def extra(jobs: Jobs) -> Iterator[Figure]:
    """Fill, copy and combine 256 MiB on two pretend nodes: private memory beside the arrays, on the rank with most."""
    # what is freed goes back to the system at once, so that it counts again when it is taken again
    env = {"NODESHARE_RANKS_PER_NODE": "2", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for name, nbytes in jobs.python(4, "ranks_extra.py", 256 << 20, env=env).items():
        yield Figure(f"private memory beside 256 MiB, {name}", "", "most", nbytes / 2**20, "MiB", at_most=64)


def nodes(jobs: Jobs) -> Iterator[Figure]:
    """Copy 512 MiB to another host, 2 ranks on each; floor: MPI_Bcast between two ranks; peer: over all of them."""
    from hosts import hosts_lack, made_hosts

    if missing := hosts_lack():
        raise CouldNotRun(f"hosts on this machine need {missing}")
    with made_hosts() as hosts:
        found = jobs.python(4, "ranks_nodes.py", 512 << 20, jobs.few(15, 3), launch=hosts.mpiexec)
    what = "bcast of 512 MiB to another host"
    yield times_as_long(what, found["shared"], "MPI_Bcast between the hosts' leaders", found["leaders"], 1.1)
    yield times_faster(
        what, found["shared"], "MPI_Bcast over all ranks, reused private buffers", found["everyone"], 1.8
    )


def again(jobs: Jobs) -> Iterator[Figure]:
    """Make, write in full and drop 256 MiB in a loop; floor: writing; peers: shared_memory, pshmem, SharedArray."""
    nbytes = 256 << 20
    for name, at_least in (("empty", 20), ("zeros", 15)):
        found = jobs.python(2, "ranks_again.py", nbytes, jobs.few(9, 3), name)
        what = f"{name} of 256 MiB, made, written, dropped"
        yield times_as_long(what, found[name], "memory that is there, written", found["there"])
        for peer in sorted(found.keys() - {name, "there"}):
            yield times_faster(what, found[name], peer, found[peer], at_least)


def in_times(what: str, taken: int, nbytes: int, at_most: float | None = None) -> Figure:
    """State the memory of all ranks, in multiples of what is shared."""
    words = f"{taken / 2**20:.1f} MiB : {nbytes / 2**20:.0f} MiB"
    return Figure(f"memory (PSS) of {what}", "its bytes", words, taken / nbytes, "x", at_most=at_most)


def files(jobs: Jobs) -> Iterator[Figure]:
    """Load 1 GiB that is in the page cache, and save it; floors: np.load on each rank, np.save and fsync on one."""
    nbytes = 1 << 30
    found = jobs.python(2, "ranks_files.py", nbytes, jobs.few(9, 2))
    what = "load of 1 GiB, 2 ranks"
    theirs = "np.load on each rank, fresh private memory"
    yield times_faster(f"{what}, again", found["again"], theirs, found["np_load"], 1.6)
    yield times_faster(f"{what}, new memory", found["new"], theirs, found["np_load"])
    yield in_times(what, found["load takes"], nbytes, 1.02)
    what = "save of 1 GiB, 2 ranks"
    yield times_faster(what, found["save"], "np.save and fsync on one", found["np_save"])


def share(jobs: Jobs) -> Iterator[Figure]:
    """Share a dict of 20 arrays, 512 MiB in all; peer: mpi4py's pickled bcast."""
    nbytes = 512 << 20
    for memory in MEMORIES:
        found = jobs.python(2, "ranks_share.py", nbytes, jobs.few(9, 2), env={"NODESHARE_MEMORY": memory})
        what = f"share of 20 arrays, 512 MiB, 2 ranks, {memory}"
        yield times_faster(f"{what}, new memory", found["new"], "pickled bcast of mpi4py", found["pickled"], 8)
        yield times_faster(f"{what}, again", found["again"], "pickled bcast of mpi4py", found["pickled"], 8)
        yield in_times(what, found["share takes"], nbytes, 1.02)


def locks(jobs: Jobs) -> Iterator[Figure]:
    """Take a lock, and count, alone and by 2 ranks at once; peers: multiprocessing's Lock, and Value with its lock."""
    for ranks, lock, counter in ((1, 1, 5), (2, 2, 10)):
        found = jobs.python(ranks, "ranks_locks.py", jobs.few(31, 5), 100_000, env=A_CORE_EACH)
        by = "alone" if ranks == 1 else f"by {ranks} ranks"
        yield times_faster(f"Lock, {by}", found["lock"], "multiprocessing.Lock", found["mp_lock"], lock)
        yield times_faster(f"Counter.add(), {by}", found["count"], "multiprocessing.Value", found["mp_value"], counter)


def elements(jobs: Jobs) -> Iterator[Figure]:
    """Use the elements of a List and a Dict, alone and by 2 ranks; peers: a multiprocessing.Manager, ShareableList."""
    for ranks in (1, 2):
        found = jobs.python(ranks, "ranks_containers.py", "elements", jobs.few(15, 3), env=A_CORE_EACH)
        by = "alone" if ranks == 1 else f"by {ranks} ranks"
        for what in ("List get", "List set", "List append", "Dict get", "Dict set", "Dict insert"):
            ours, theirs = found[f"our {what}"], found[f"manager's {what}"]
            yield times_faster(f"{what}, {by}", ours, "multiprocessing.Manager", theirs, 20)
            if theirs := found.get(f"Shareable{what}"):
                yield times_faster(f"{what}, {by}", ours, "multiprocessing's ShareableList", theirs, 1)


def exchange(jobs: Jobs) -> Iterator[Figure]:
    """Pass items from rank to rank by a Queue and a Pipe, and read arrays in full; peers: those of multiprocessing."""
    found = jobs.python(2, "ranks_containers.py", "exchange", jobs.few(21, 5), env=A_CORE_EACH)
    small, large = "a small item", "an array of 1 MiB"
    for kind, item, at_least in (("Queue", small, 3), ("Queue", large, 5), ("Pipe", small, 3), ("Pipe", large, 3)):
        ours, theirs = found[f"our {kind}, {item}"], found[f"multiprocessing's {kind}, {item}"]
        there_and_back = ", there and back" if kind == "Pipe" else ""
        yield times_faster(f"{kind}, {item}{there_and_back}", ours, f"multiprocessing.{kind}", theirs, at_least)


def hours(jobs: Jobs) -> Iterator[Figure]:
    """Share 1.5 GiB, calculate 8,760 hours of it on 2; peers: Pool, and joblib, SharedArray, pshmem, Ray if there."""
    nbytes, processes = jobs.few(3 << 29, 1 << 26), 2
    ours = ("in_place", "from_root")
    peers = {
        "shared_memory": "multiprocessing.shared_memory and Pool",
        "sharedarray": "SharedArray and Pool",
        "joblib": "joblib",
        "pshmem": "pshmem",
        "ray": "Ray",
    }
    order = random.Random(1)
    found: dict[str, list[float]] = {}
    for _ in range(jobs.few(5, 1)):
        for name in order.sample([*ours, *peers], len(ours) + len(peers)):
            if name in (*ours, "pshmem"):
                sample = jobs.python(processes, "ranks_hours.py", nbytes, name, env=A_CORE_EACH)
            else:
                words = [sys.executable, str(here / "processes_hours.py"), str(nbytes), str(processes), name]
                sample = read_samples(run(words))
            for what, values in sample.items():
                found.setdefault(what, []).extend(values)
    for mine, made in zip(ours, ("made in place", "of rank 0's array")):
        what = f"8,760 hours of {nbytes / 2**30:.3g} GiB, 2 ranks, {made}"
        for name, words in peers.items():
            if name in found:
                yield times_faster(what, found[mine], words, found[name], 1 if mine == "in_place" else None)
        yield in_times(what, int(min(found[f"{mine} takes"])), nbytes, 1.02 if mine == "in_place" else None)
    for name, words in peers.items():
        if name in found:
            yield in_times(words, int(min(found[f"{name} takes"])), nbytes)


ONE_ARRAY = (create, reserve, triad, sync, python, memory, arena, live)
FILLING = (copies, again, parts, allreduce, nodes, files, share, extra)
TOGETHER = (locks, elements, exchange, hours, weather)
MEASURES: dict[str, Callable[[Jobs], Any]] = {one.__name__: one for one in (*ONE_ARRAY, *FILLING, *TOGETHER)}
