# SPDX-License-Identifier: BSD-3-Clause
"""Which rank does which index."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .collective import collective
from .error import Error, InvalidArgument
from .topology import Topology, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["Work", "work"]

_loops: list[Topology] = []  # of the works that this rank is in the midst of


class Work:
    """An iterator over this rank's share of indices (or items); made by `work`. It runs once, in one thread.

    Attributes
    ----------
    topology : Topology
        Whose ranks share the work.
    """

    def __init__(self, core: _core.Work, items: Sequence[Any] | None, progress: bool, where: Topology) -> None:
        self.core = core
        self.topology = where
        self._items = items
        self._progress = progress
        self._begun = False

    def __len__(self) -> int:
        """Local. How many indices are dealt in all, to all ranks together."""
        return self.core.count

    def __iter__(self) -> Iterator[Any]:
        items = self._items
        return self.indices() if items is None else (items[index] for index in self.indices())

    def indices(self) -> Iterator[int]:
        """Local. As iterating, but for indices also where there are items."""
        if self._begun:
            raise Error("this work has been dealt out already: make a new one for each loop")
        self._begun = True
        return self._run()

    def run(self, body: Callable[[int], None]) -> None:
        """Local. Calls `body` for this rank's indices. When it raises, other ranks of the node go no further either."""
        try:
            for index in self.indices():
                if self.core.stopped:
                    break
                body(index)
        except BaseException:
            self.core.stop()
            raise

    def _run(self) -> Iterator[int]:
        core = self.core
        report = _Progress(core) if self._progress and self.topology.rank == 0 else None
        done = 0  # all before this index is done
        _loops.append(self.topology)
        try:
            while (chunk := core.next()) is not None:
                for index in range(*chunk):
                    done = index
                    yield index
                    done = index + 1
                    if report is not None:
                        report.update(done - chunk[0])
            if report is not None:
                report.finish()
        finally:  # also when the loop is left early: its last index then counts as not done
            core.leave(done)
            _loops.remove(self.topology)
            if report is not None:
                report.close()

    def __repr__(self) -> str:
        return f"<Work: {len(self)} indices over {self.topology.size} ranks>"


def work(
    n: int | Sequence[Any],
    chunk: int | None = None,
    schedule: str = "dynamic",
    progress: bool = False,
    *,
    comm: CommLike = None,
) -> Work:
    """Collective over the communicator. Deals each index (or item) to exactly one rank.

    Each node gets a contiguous block in proportion to its ranks; within the node ranks take chunks as they go.
    Iterating is local. An index is done when the loop asks for the next one; not if its body raises, or the loop is
    left there. What a rank that leaves early has not taken goes to the others of its node.

    Several works may be made before their loops begin, which a rank may then go through in any order, or in turn.
    Within a loop ranks hold different indices, so an inner work is over other communicators: ``comm=MPI.COMM_SELF``.

    Parameters
    ----------
    n : int or sequence
        Number of indices, or items of which each rank holds the same: whatever has a length and is indexed by 0, 1, ….
    chunk : int, optional
        How many indices a rank takes at once. Default: many at first, then fewer ("guided").
    schedule : {"dynamic", "static"}
        "static": each rank a block of its own, nothing shared.
    progress : bool
        One bar on rank 0, counted from its node; into a file a line each 10 %.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Raises
    ------
    InvalidArgument
        For a negative `n`, a `chunk` below 1, another `schedule`; for dicts and pandas' tables, which are indexed by
        labels.
    Error
        When a rank makes it in a loop over another work of the same communicator (of several ranks), or loops over one
        work twice.
    Mismatch
        When ranks ask for different works, or have sequences of different lengths.

    Notes
    -----
    Chunks by default are guided ones: OpenMP 5.2, 11.5.3, each at least an index and at most a quarter of a rank's even
    share of what is left on the node.

    Examples
    --------
    >>> import nodeshare as ns
    >>> y = ns.zeros(5)
    >>> hours = ns.work(5)
    >>> for i in hours:
    ...     y[i] = i * i
    >>> y.allgather(hours)
    >>> y.array.tolist()
    [0.0, 1.0, 4.0, 9.0, 16.0]
    """
    where = topology(comm)
    with collective(where, "work") as call:
        return deal(call, where, n, chunk, schedule, progress)


def deal(
    call: collective,
    where: Topology,
    n: int | Sequence[Any],
    chunk: int | None,
    schedule: str,
    progress: bool,
    more: bool = False,
) -> Work:
    """Collective over the communicator, within a call. A work of `n` indices or items, as in `work`."""
    if where.size > 1 and where in _loops:
        raise Error(
            "this rank is in a loop over another work of the same communicator, where each rank holds other indices: "
            "deal before the loop, or over a communicator of this rank alone (comm=MPI.COMM_SELF)"
        )
    count = _length(n)
    if not 0 <= count < 2**62:
        raise InvalidArgument(f"n is {count}: a number of indices is not negative, and below 2**62")
    if chunk is not None and (not isinstance(chunk, (int, np.integer)) or not 1 <= chunk < 2**62):
        raise InvalidArgument(f"chunk is {chunk!r}: at least one index is taken at once, and fewer than 2**62")
    if schedule not in ("dynamic", "static"):
        raise InvalidArgument(f"schedule is {schedule!r}: allowed are 'dynamic' and 'static'")
    call.arguments += f"{count}, chunk={chunk}, schedule={schedule!r}"
    dealt = call.deal(count, int(chunk or 0), schedule == "dynamic", more)
    return Work(dealt, None if isinstance(n, (int, np.integer)) else n, progress, where)


def _length(items: Any) -> int:
    """Local. Raises InvalidArgument for what has no items 0, 1, …: an iterator, a set, what is indexed by labels."""
    if isinstance(items, (int, np.integer)):
        return int(items)
    by_labels = isinstance(items, Mapping) or hasattr(items, "iloc")  # pandas
    indexed = hasattr(items, "__len__") and hasattr(items, "__getitem__") and getattr(items, "shape", None) != ()
    if by_labels or not indexed:
        raise InvalidArgument(f"n is a {type(items).__name__}: a number, or a sequence (list(…) of it), is needed")
    return len(items)


class _Progress:
    """Rank 0's account of its node: a bar on a terminal, a line each 10 % elsewhere."""

    def __init__(self, core: _core.Work) -> None:
        first, last = core.node_range
        self._core = core
        self._total = last - first
        self._next = time.monotonic()
        self._tenth = 0
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, leave=True)

    def update(self, of_chunk: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.1
            self._show(self._core.done_on_node + of_chunk)

    def finish(self) -> None:
        self._show(self._total)  # the rest is under way on this node's other ranks

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, done: int) -> None:
        if self._bar is not None:
            self._bar.n = done
            self._bar.refresh()
        elif self._total and done * 10 // self._total > self._tenth:
            self._tenth = done * 10 // self._total
            print(f"{self._tenth * 10} %: {done} of {self._total}", file=sys.stderr, flush=True)
