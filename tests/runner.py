# SPDX-License-Identifier: BSD-3-Clause
"""Runs all tests of nodeshare and adds them up. Started by tests/run.sh.

  cpp/NAME         a suite of the C++ tests, on all ranks      } in each run: a number of ranks, and how they are put on
  python/test_X    a file of pytest tests, on all ranks        } pretend nodes; the fast one on these with memfd, too
  faults, programs, multinode, packaging                         pytest files on no rank, which start what they need
  another_mpi/NAME                                               with an MPI of another family, the fast ones of all
                                                                 this, on ranks in the run 3:2

They mostly wait for ranks to start and to end, so three run at a time: at first one of those that make hosts, one of
those that build, and one of all others.
Counted are test cases, once for each start. Skips are listed with their reasons; a test that hangs is a failure, names
itself and its ranks, and costs its start. Suites and files are started many at a time, as starting ranks takes longer
than most of them. The list of runs is in tests/cpp/CMakeLists.txt. With NODESHARE_MEMORY set, all is run on that
memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from launch import Ended, Job, mpiexec

SECONDS_PER_START = 900  # a case has 60 (main.cpp, conftest.py)
SECONDS_FOR_ALL = 75 * 60  # a bound for what is stuck
LINES_OF_A_FAILURE = 80
NOTHING_SELECTED = 5  # pytest's exit code
PER_START = {"cpp": 100, "python": 6}  # suites, files
# With MANY ranks each file of Python is run once. What these test happens on a rank or within a node: on one node; the
# others in turn in the runs that have several.
MANY = 5
QUEUE_OF = {"multinode": "hosts", "packaging": "builds"}  # one after another, beside all else
WITHIN_A_NODE = (
    "closing dict doctests harness held_window info layout list memory numpy_words pickling pipe queue reserve".split()
)
# What these test is the same on each kind of memory and with each MPI: with the second ones they do not run again.
ABOVE_ALL_THAT = (
    "dict doctests from_function from_source harness info layout list map map_blocks numpy_words pipe queue".split()
)
# Of the faults those in which an MPI itself has a part; the others are between us and the system.
FAULTS_OF_MPI = (
    "communicators endings forks kills launcher letting_go namespaces progress shared_memory_folder signals weather"
).split()
# Ranks of Open MPI that wait call sched_yield without end; where several do on a core, Linux 6.18 may let nothing else
# run there for a minute (dmesg: "rcu_preempt kthread starved"), not even the rank that they wait for. So they nap.
NAPS = {"OMPI_MCA_threads_pthreads_yield_strategy": "nanosleep"}

root = Path(__file__).resolve().parent.parent
build = Path(sys.prefix) / "build"


@dataclass
class Start:
    """One program to start, once."""

    name: str
    where: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    queue: str = ""  # starts of one queue come one after another, beside all else
    alone: bool = False  # after all else: ranks of an MPI that spins leave those that yield to each other no time


def runs() -> dict[str, bool]:
    """Return the runs that CTest knows ("3:2": 3 ranks on nodes of 2), and whether each is a fast one."""
    listing = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], capture_output=True, check=True)
    found = {}
    for test in json.loads(listing.stdout)["tests"]:
        labels = next((p["value"] for p in test.get("properties", []) if p["name"] == "LABELS"), [])
        found[test["name"].partition("@")[2]] = "fast" in labels
    return found


def starts(fast: bool, memory_of_all: str | None, names: list[str], only: str | None) -> list[Start]:
    """Return what there is to start of these names, or all; on one kind of memory, in one run, if that was chosen."""

    def wanted(name: str) -> bool:
        return not names or any(part in name for part in names)

    suites = [p.name.replace("_test.cpp", "") for p in sorted((root / "tests/cpp").glob("*_test.cpp"))]
    files = sorted((root / "tests/python").glob("test_*.py"))
    pytest = [sys.executable, "-m", "pytest", "-q", "--color=no"]
    plan = []
    run_of_file = with_many(files, runs())
    memories = ["", *["memfd"] * (not fast)] if memory_of_all is None else [memory_of_all]
    for memory in memories:
        for run, is_fast in runs().items():
            ranks, _, placement = run.partition(":")
            again = memory != memories[0]
            few = fast or again
            if run != (only or run) or (few and not is_fast and not only) or (again and not placement):
                continue
            where = f"{ranks} rank{'s' * (ranks != '1')}" + f", nodes of {placement}" * bool(placement)
            where += f", {memory}" * bool(memory)
            env = {"NODESHARE_TEST_RANKS": ranks}
            if placement:
                env["NODESHARE_RANKS_PER_NODE"] = placement
            if memory:
                env["NODESHARE_MEMORY"] = memory
            for some, name in in_starts("cpp", [suite for suite in suites if wanted(f"cpp/{suite}")]):
                tests = [str(build / "tests/cpp/nodeshare_tests"), "--color_output=no"]
                plan.append(Start(name, where, [*mpiexec(int(ranks)), *tests, f"--run_test={','.join(some)}"], env))
            chosen = [file for file in files if wanted(f"python/{file.stem}")]
            if int(ranks) >= MANY and not only:
                chosen = [file for file in chosen if run == run_of_file[file]]
            if again:
                chosen = depending(chosen)
            quick = ["-m", "not slow"] * (again or fast or not is_fast)  # slow ones with 2 ranks, and on nodes
            for some, name in in_starts("python", [file.stem for file in chosen]):
                paths = [f"tests/python/{stem}.py" for stem in some]
                plan.append(Start(name, where, [*mpiexec(int(ranks)), *pytest, *quick, *paths], env))
    env = {"NODESHARE_MEMORY": memory_of_all} if memory_of_all else {}
    for folder in ["faults", "programs", *QUEUE_OF] if not fast else ["faults", "programs"]:
        for file in sorted((root / "tests" / folder).glob("test_*.py")):
            words = [*pytest, *(["-m", "not slow"] * fast), str(file.relative_to(root))]
            plan.append(Start(f"{folder}/{file.stem}", "", words, env, QUEUE_OF.get(folder, "")))
    if not fast and memory_of_all is None:
        other = "mpich" if "openmpi" in Path(sys.prefix).name else "openmpi"
        chosen = ["cpp/", *(f"faults/test_{name}" for name in FAULTS_OF_MPI)]
        chosen += [f"python/{file.stem}" for file in depending(files)]
        words = ["bash", "tests/run.sh", "--mpi", other, "--fast", "--run", "3:2", "-j", "2", *chosen]
        plan.append(Start(f"another_mpi/{other}", "", words, alone=True))
        # its environment beside what mostly waits; should that fail, the tests say why
        words = ["bash", "-c", "bash slurm/environment.sh test || true"]
        env = {"NODESHARE_PYPI_MPI": other, "MPIEXEC": ""}
        plan.append(Start(f"another_mpi/{other}: set-up", "", words, env, QUEUE_OF["packaging"]))
    return [start for start in plan if start.where or wanted(start.name)]


def depending(files: list[Path]) -> list[Path]:
    """Return those of Python's files that may find something else on other memory, or with another MPI."""
    return [file for file in files if file.stem.removeprefix("test_") not in ABOVE_ALL_THAT]


def with_many(files: list[Path], runs: Iterable[str]) -> dict[Path, str]:
    """Return in which of the runs with MANY ranks each file of Python is."""
    many = [run for run in runs if int(run.partition(":")[0]) >= MANY]
    on_one_node = next(run for run in many if ":" not in run)
    on_several = itertools.cycle(run for run in many if ":" in run)
    here = [file for file in files if file.stem.removeprefix("test_") in WITHIN_A_NODE]
    return {file: on_one_node if file in here else next(on_several) for file in files}


def in_starts(kind: str, names: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield which of these are started together, and what that start is called."""
    for first in range(0, len(names), PER_START[kind]):
        some = names[first : first + PER_START[kind]]
        yield some, f"{kind}/{some[0]}" + f" and {len(some) - 1} more" * (len(some) > 1)


class Starter:
    """Runs programs to their end, some at a time; leaving the block ends those that still run."""

    def __init__(self, at_a_time: int, env: dict[str, str]) -> None:
        self._pool = ThreadPoolExecutor(at_a_time)
        self._env = env
        self._end = time.monotonic() + SECONDS_FOR_ALL
        self._lock = threading.Lock()
        self._running: list[Job] | None = []  # None: no more are to be started

    def run(self, start: Start) -> tuple[Ended | None, float]:
        """Run one; return how it ended (None: there was no time left to start it), and the seconds it was given."""
        limit = min(self._end - time.monotonic(), SECONDS_PER_START * (1 if start.where else 4))
        with self._lock:
            if self._running is None or limit < 1:
                return None, limit
            job = Job(start.argv, {**self._env, **start.env}, str(root))
            self._running.append(job)
        ended = job.wait(limit)
        with self._lock:
            if self._running is not None:
                self._running.remove(job)
        return ended, limit

    def run_all(self, plan: list[Start]) -> Iterator[tuple[Start, Ended | None, float]]:
        """Run all; yield them in order, those of queues and those that run alone last, each as soon as it has ended."""
        queues: dict[str, list[Start]] = {}
        for start in plan:
            if not start.alone:
                queues.setdefault(start.queue, []).append(start)
        others = queues.pop("", [])
        # queues first, or they would be left at the end
        taken = [self._pool.submit(lambda queue=queue: [*map(self.run, queue)]) for queue in queues.values()]
        for start, ended in zip(others, self._pool.map(self.run, others)):
            yield start, *ended
        for queue, all_ended in zip(queues.values(), taken):
            for start, ended in zip(queue, all_ended.result()):
                yield start, *ended
        for start in plan:
            if start.alone:
                yield start, *self.run(start)

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            running, self._running = self._running or [], None
        for job in running:
            job.process.kill()
        self._pool.shutdown()


def count(output: str, code: int) -> Counter[str]:
    """Read how many cases passed, failed and were skipped from the last line that says so."""
    total = Counter[str]()
    for line in output.splitlines():
        found = re.findall(r"(\d+) (passed|failed|skipped|error)", line)
        if found:
            total = Counter[str]()
            for number, what in found:
                total["failed" if what == "error" else what] += int(number)
    if code == NOTHING_SELECTED and re.search(r"^\d+ deselected", output, re.M):
        return total
    if code != 0 and not total["failed"]:
        total["failed"] = 1  # crashed or hung before it could count
    return total


def shown(output: str, start: Start) -> list[str]:
    """Return the last lines, without pytest's own frames."""
    lines = [line for line in output.splitlines() if not re.search(r'File ".*/(pluggy|_?pytest)/.*"', line)]
    if start.argv[0] == "bash":
        lines = [line for line in lines if not line.startswith("ok ")]
    lines = [line for line in lines if not re.match(r"\[rank \d+\] Running \d+ test cases", line)]
    return lines[-LINES_OF_A_FAILURE:]


def tell(start: Start, ended: Ended | None, limit: float, reasons: Counter[str]) -> Counter[str]:
    """Print how a start ended; return what counts of it, and add to the reasons for skips."""
    label = f"{start.name:<24} {start.where:<26}"
    if ended is None:
        print(f"FAILED {label} not started: all tests together took more than {SECONDS_FOR_ALL // 60} minutes")
        return Counter(failed=1)
    counts = count(ended.out, ended.code)
    notes = [f"ended, since it took more than {limit:.0f} s"] * ended.timed_out
    if ended.left:
        notes.append("left behind, now killed: " + "; ".join(ended.left))
        counts["failed"] += not counts["failed"]
    said = ", ".join(f"{counts[what]} {what}" for what in ("passed", "failed", "skipped") if counts[what])
    print(f"{'FAILED' if counts['failed'] else 'ok    '} {label} {ended.seconds:5.1f} s  {said or 'nothing to do'}")
    if counts["failed"]:
        print(f"       $ {' '.join(f'{k}={v}' for k, v in start.env.items())} {' '.join(start.argv)}")
        print("\n".join(f"     | {line}" for line in shown(ended.out + ended.err, start) + notes))
    for change in re.findall(r"^nodeshare: (installing by .*)", ended.out, re.M):
        print(f"       {change}")
    reasons.update(re.findall(r"^SKIPPED (?:\[\d+\] )?(.*)", ended.out, re.M))
    for times, reason in re.findall(r"^skipped (\d+) x (.*)", ended.out, re.M):  # by another MPI's tests
        reasons[reason] += int(times)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests/run.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only tests with this in their name: topology, cpp/")
    parser.add_argument("--all-mpis", action="store_true", help="first: with each MPI that can be had, each --fast")
    parser.add_argument("--mpi", metavar="NAME", help="first: with openmpi, mpich, impi, debian-openmpi, debian-mpich")
    parser.add_argument(
        "-j",
        "--jobs",
        type=int,
        default=3,
        metavar="N",
        help="so many starts at a time, of those that may (%(default)s)",
    )
    parser.add_argument("--fast", action="store_true", help="2 and 3 ranks, one memory, without multinode, packaging")
    parser.add_argument("--run", metavar="RANKS[:PLACEMENT]", help="what happens on ranks only in this one: 3:2")
    options = parser.parse_args()
    if options.run and options.run not in runs():
        parser.error(f"--run {options.run}: allowed are {', '.join(runs())}")
    plan = starts(options.fast, os.environ.pop("NODESHARE_MEMORY", None), options.names, options.run)
    if not plan:
        parser.error(f"no test has {' or '.join(options.names)} in its name")
    for name in ("NODESHARE_RANKS_PER_NODE", "NODESHARE_PATIENCE"):
        os.environ.pop(name, None)  # the runs say what is set
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each rank would compile the tests again
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends us, the running jobs end first

    folder = tempfile.TemporaryDirectory(prefix="nodeshare-tests-")  # here, since a killed rank cannot tidy up
    common = {**NAPS, "NODESHARE_TEST_FOLDER": folder.name, "PYTHONFAULTHANDLER": "1", "COLUMNS": "120"}
    total, reasons = Counter[str](), Counter[str]()
    with Starter(options.jobs, common) as starter:
        for start, ended, limit in starter.run_all(plan):
            total += tell(start, ended, limit, reasons)
            sys.stdout.flush()

    for reason, times in reasons.items():
        print(f"skipped {times} x {reason}")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
