# SPDX-License-Identifier: BSD-3-Clause
"""A queue between the ranks of a node."""

from __future__ import annotations

import operator
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

from . import _core
from .container import CAPACITY, Container, packed, unpacked
from .error import InvalidArgument

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["Queue"]


class Queue(Container):
    """A queue between the ranks of a node, with their threads and forked children; as `queue.Queue`.

    Making one is collective over the communicator, whose ranks must be on one node; the rest is local. Each item is got
    once, those of one rank in the order in which it put them. A rank that waits lets MPI progress, and Ctrl-C ends its
    wait. There is no thread behind it and no pipe: what was put can be got at once, and stays when its rank ends.

    Items are what pickle can carry. Arrays in them (and what else hands out its buffers) come as read-only views of the
    shared memory, which is free when they are gone.

    When a rank ends within a call (killed, say), all that come later raise PeerError; those that wait do so also when
    another rank has failed, or all others have ended.

    Parameters
    ----------
    maxsize : int, optional
        How many items lie in it at most: `put` waits for room. Default: as many as `capacity` allows.
    capacity : int, optional
        Bytes that items take at most; only what is used takes memory. Beyond it `put` raises OutOfSharedMemory.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a queue for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes, for a maxsize that is no int, or a capacity that is none.

    Examples
    --------
    >>> import nodeshare as ns
    >>> tasks = ns.Queue(maxsize=10)
    >>> tasks.put(("hour", 7))
    >>> tasks.get()
    ('hour', 7)
    """

    __slots__ = ()
    _name = "Queue"
    _core_type = _core.Queue

    def __init__(self, maxsize: int = 0, *, capacity: int = CAPACITY, comm: CommLike = None) -> None:
        self._make(comm, capacity, lambda: self._core.bound(_as_maxsize(maxsize)), f"maxsize={maxsize!r}, ", True)

    @property
    def maxsize(self) -> int:
        """Local. How many items lie in it at most; 0: any number."""
        return int(self._core.most)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Local. One more item. Waits for room, for `timeout` seconds at most, then raises `queue.Full`."""
        if not self._core.put(packed(item), _seconds(block, timeout)):
            raise Full

    def put_nowait(self, item: Any) -> None:
        """Local. One more item, if there is room; else raises `queue.Full`."""
        self.put(item, False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Local. The oldest item. Waits for one, for `timeout` seconds at most, then raises `queue.Empty`."""
        kept = self._core.get(_seconds(block, timeout))
        if kept is None:
            raise Empty
        return unpacked(kept)

    def get_nowait(self) -> Any:
        """Local. The oldest item, if there is one; else raises `queue.Empty`."""
        return self.get(False)

    def task_done(self) -> None:
        """Local. An item that was got is dealt with. Raises ValueError if all were that were put."""
        if not self._core.task_done():
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Local. Waits until each item that was put is dealt with."""
        self._core.join()

    def qsize(self) -> int:
        """Local. How many items lie in it now."""
        return len(self._core)

    def empty(self) -> bool:
        """Local. Whether no item lies in it now."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Local. Whether there is no room now."""
        return bool(self._core.full())


def _as_maxsize(maxsize: Any) -> int:
    try:
        number = operator.index(maxsize)
    except TypeError:
        number = 2**63
    if number >= 2**63:
        raise InvalidArgument(f"maxsize is {maxsize!r}: a number of items is needed, or 0 for any")
    return max(number, 0)


def _seconds(block: bool, timeout: float | None) -> float:
    """Local. As the core takes it: 0 does not wait, -1 waits for ever."""
    if not block:
        return 0
    if timeout is None:
        return -1
    if not timeout >= 0:
        raise ValueError(f"'timeout' must be a non-negative number, not {timeout!r}")
    return timeout
