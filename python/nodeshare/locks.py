# SPDX-License-Identifier: BSD-3-Clause
"""What one rank of a node holds at a time, or many to read and one to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core
from .words import Words

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Lock", "RWLock"]


class Lock(Words, _core.Lock):
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

    _name = "Lock"
    _make = staticmethod(_core.make_lock)


class RWLock(Words):
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

    _name = "RWLock"
    _make = staticmethod(_core.make_rw_lock)

    @classmethod
    def _at(cls, segment: _core.Segment) -> Self:
        made = object.__new__(cls)
        made.reader = _core.Reader(segment)
        made.writer = _core.Writer(segment)
        return made

    @property
    def _memory(self) -> _core.Segment:  # type: ignore[override]
        return self.reader._memory

    def __repr__(self) -> str:
        return f"<RWLock: {self.reader!r}, {self.writer!r}>"
