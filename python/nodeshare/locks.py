# SPDX-License-Identifier: BSD-3-Clause
"""What one rank of a node holds at a time, or many to read and one to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _core
from .collective import collective
from .pickling import reduce_words
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["Lock", "RWLock"]


class Lock(_core.Lock):
    """A lock for the ranks of a node, and their threads and forked children; as `threading.Lock`.

    Making one is collective over the communicator, whose ranks must be on one node; ``acquire``, ``release`` and
    ``locked`` are local. A rank that waits lets MPI progress, and Ctrl-C ends its wait without the lock.

    When the owner ends (killed, or by itself) without releasing it, all that wait or come later raise PeerError: what
    the lock guards may be half changed. Only the thread that holds it releases it; should it acquire it once more, that
    is an Error.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a lock for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes.

    Examples
    --------
    >>> import nodeshare as ns
    >>> total = ns.zeros(1)
    >>> lock = ns.Lock()
    >>> with lock:
    ...     total[0] += 1
    >>> lock.acquire(timeout=0.5)
    True
    >>> lock.locked()
    True
    >>> lock.release()
    """

    __slots__ = ("__weakref__",)

    def __new__(cls, comm: CommLike = None) -> Lock:
        where = topology(comm)
        with collective(where, "Lock") as call:
            return cls._at(call.make_words(_core.make_lock))

    @classmethod
    def _at(cls, segment: _core.Segment) -> Lock:
        return super().__new__(cls, segment)

    def __reduce__(self) -> Any:
        return reduce_words(type(self), self._memory)


class RWLock:
    """A lock that many may hold to read, or one to write: two sides, each with the methods of `Lock`.

    Making one is collective over the communicator, whose ranks must be on one node; the rest is local. Writers go
    first: while one waits, no more readers come in. A thread holds one side at a time, once. When a reader or writer
    ends without releasing its side, those that would have to wait for it raise PeerError, then and later.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a lock for each.

    Attributes
    ----------
    reader, writer
        The sides.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes.

    Examples
    --------
    >>> import nodeshare as ns
    >>> table, lock = ns.zeros(10), ns.RWLock()
    >>> with lock.writer:
    ...     table[:] = 1
    >>> with lock.reader:
    ...     float(table.array.sum())
    10.0
    """

    __slots__ = ("__weakref__", "reader", "writer")

    reader: _core.Reader
    writer: _core.Writer

    def __init__(self, comm: CommLike = None) -> None:
        where = topology(comm)
        with collective(where, "RWLock") as call:
            self._take(call.make_words(_core.make_rw_lock))

    def _take(self, segment: _core.Segment) -> None:
        self.reader = _core.Reader(segment)
        self.writer = _core.Writer(segment)

    @classmethod
    def _at(cls, segment: _core.Segment) -> RWLock:
        made = cls.__new__(cls)
        made._take(segment)
        return made

    def __reduce__(self) -> Any:
        return reduce_words(type(self), self.reader._memory)

    def __repr__(self) -> str:
        return f"<RWLock: {self.reader!r}, {self.writer!r}>"
