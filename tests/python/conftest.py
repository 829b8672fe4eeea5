# SPDX-License-Identifier: BSD-3-Clause
"""Keeps pytest in step on all ranks of a job: `mpiexec -n 3 python -m pytest tests/python/test_x.py`.

After each phase of a test (set-up, call, tear-down) the ranks tell each other how it went. What failed on one rank has
failed on all, and rank 0's report shows what each of them said; the others print nothing. A test that takes longer than
its `timeout` is taken for a hang: each rank says where it is, and the job is ended.

Markers: `ranks(2, 3)` runs a test (or a file, as `pytestmark`) at these rank counts only, at others it does not exist;
`timeout(seconds)` changes a test's limit.
"""

import faulthandler
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback

import pytest
from mpi4py import MPI

SECONDS_PER_TEST = 60.0
SECONDS_FOR_THE_OTHERS = 2.0  # to say where they are, before one rank ends the job

_world = MPI.COMM_WORLD.Dup()  # no message of a test can be mistaken for one of ours
_stderr = None  # the real one, which pytest captures during tests
_watch = None
_failed = []  # what a report at the end would have said, should there be none


class _Watch:
    """Ends the job when a test hangs on this rank."""

    def __init__(self, nodeid, seconds):
        self.what = f"test {nodeid} hangs on rank {_world.rank} (for {seconds:g} s)"
        self.timer = threading.Timer(seconds, self.fire)
        self.timer.daemon = True
        self.timer.start()
        # Should what hangs also hold the GIL, only a C thread can still speak.
        faulthandler.dump_traceback_later(seconds + SECONDS_FOR_THE_OTHERS / 2, exit=True, file=_stderr)

    def fire(self):
        faulthandler.cancel_dump_traceback_later()
        try:
            before = "".join(f"failed before: {line}\n" for line in _failed if _world.rank == 0)
            _stderr.write(f"\n{before}{self.what}\n" + "".join(_stacks()))
            _stderr.flush()
            time.sleep(SECONDS_FOR_THE_OTHERS)
        finally:
            os._exit(1)  # a launcher ends the job when a rank ends so, and this cannot hang itself as MPI_Abort may

    def cancel(self):
        self.timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def _stacks():
    """Yield the lines of all threads' stacks, without those of pytest itself."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident in frames:
            yield f"  thread {thread.name}\n"
            for frame in traceback.extract_stack(frames[thread.ident]):
                if not re.search(r"/(pluggy|_?pytest)/|runpy", frame.filename):
                    yield f"    {frame.filename}:{frame.lineno} {frame.name}: {frame.line}\n"


@pytest.fixture
def comm():
    """Return COMM_WORLD."""
    return MPI.COMM_WORLD


@pytest.fixture
def folder(comm, tmp_path):
    """Give a temporary folder, the same on all ranks."""
    yield comm.bcast(tmp_path)
    comm.Barrier()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    global _stderr
    _stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    config.addinivalue_line("markers", "ranks(*counts): makes sense with so many ranks only")
    config.addinivalue_line("markers", "timeout(seconds): how long the test may take")
    if _world.rank != 0:
        config.option.xmlpath = None
    # pytest's own choice is cleaned up by whoever comes next, which here would be another rank.
    config.option.basetemp = tempfile.mkdtemp(prefix="nodeshare-tests-", dir=os.environ.get("NODESHARE_TEST_FOLDER"))


def pytest_unconfigure(config):
    shutil.rmtree(config.option.basetemp, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    if _world.rank != 0:
        session.config.pluginmanager.getplugin("terminalreporter")._tw._file = open(os.devnull, "w")


def pytest_collection_modifyitems(config, items):
    def fits(item):
        return all(_world.size in mark.args for mark in item.iter_markers("ranks"))

    config.hook.pytest_deselected(items=[item for item in items if not fits(item)])
    items[:] = [item for item in items if fits(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _watch
    mark = item.get_closest_marker("timeout")
    _watch = _Watch(item.nodeid, mark.args[0] if mark else SECONDS_PER_TEST)
    try:
        return (yield)
    finally:
        _watch.cancel()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    error = call.excinfo.exconly().splitlines()[0] if call.excinfo else ""
    text = report.longreprtext + "".join(f"\n--- {title}\n{body}" for title, body in report.sections)
    text = re.sub(r"\b0x[0-9a-f]+", "0x...", text)  # or no two ranks would say the same
    if report.failed:  # should the others hang now, this is why
        _watch.what = f"test {item.nodeid} failed on rank {_world.rank}, which waits for the others:\n{text}\n"
    outcomes = _world.allgather((report.outcome, error, text))
    if all(outcome == outcomes[0][0] != "failed" for outcome, _, _ in outcomes):
        return report
    # Failed somewhere, or skipped on some ranks only.
    ranks_by_outcome = {}
    for rank, (outcome, error, text) in enumerate(outcomes):
        ranks_by_outcome.setdefault((outcome, error, text if error else ""), []).append(str(rank))
    told = [
        (f"{outcome} on rank {', '.join(ranks)}" + f": {error}" * bool(error), text)
        for (outcome, error, text), ranks in sorted(ranks_by_outcome.items())  # "failed" first
    ]
    report.outcome = "failed"
    report.sections = []
    report.longrepr = "; ".join(head for head, _ in told)
    _failed.append(f"{item.nodeid} - {report.longrepr}")
    report.longrepr += "".join(f"\n\n===== {head}\n{text}" for head, text in told if text)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:  # none for this rank count
        session.exitstatus = pytest.ExitCode.OK
