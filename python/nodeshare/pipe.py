# SPDX-License-Identifier: BSD-3-Clause
"""Two connected ends on a node."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import _core
from .container import CAPACITY, Container, packed, unpacked
from .pickling import reduce_words

if TYPE_CHECKING:
    from typing_extensions import Self

    from .topology import CommLike

__all__ = ["Connection", "Pipe"]


def Pipe(duplex: bool = True, *, capacity: int = CAPACITY, comm: CommLike = None) -> tuple[Connection, Connection]:
    """Collective over the communicator, whose ranks must be on one node. Two connected ends; as `multiprocessing.Pipe`.

    Every rank gets both ends, and takes one of them: what is sent into one end is received at the other. An end is used
    by one process at a time.

    Parameters
    ----------
    duplex : bool, optional
        Whether both ends send and receive; else the first only receives, and the second only sends.
    capacity : int, optional
        Bytes that lie in it at most; only what is used takes memory. While more than a quarter of it lies unread in a
        direction, or what lies unread leaves no room, `Connection.send` waits. It raises OutOfSharedMemory when there
        is still none a second after that was received: views of it that are kept take memory, too.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a pipe for each.

    Returns
    -------
    tuple of Connection

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes, or for a capacity that is none.

    Examples
    --------
    >>> import nodeshare as ns
    >>> here, there = ns.Pipe()
    >>> here.send(["frame", 7])
    >>> there.poll(), there.recv()
    (True, ['frame', 7])
    """
    return Connection._pair(duplex, capacity, comm)


class Connection(Container):
    """One end of a `Pipe`; as `multiprocessing.connection.Connection`, but that it has no ``fileno()``.

    All methods are local. What waits lets MPI progress, and ends with Ctrl-C. An end is closed when the process that
    uses it closes it or ends, or when each of several ranks has closed it; to drop it is not enough. At the other end,
    `recv` raises EOFError then, once it has given all that was sent, and `send` BrokenPipeError. When another rank of
    the node has failed, those that wait raise PeerError.
    """

    __slots__ = ("_side", "closed", "readable", "writable")

    _name = "Pipe"
    closed: bool
    readable: bool
    writable: bool

    def __init__(self) -> None:
        raise TypeError("a Connection is made by Pipe()")

    @classmethod
    def _pair(cls, duplex: bool, capacity: int, comm: CommLike) -> tuple[Connection, Connection]:
        first = cls.__new__(cls)
        first._take(0, True, bool(duplex))
        first._make(comm, capacity, lambda: None, f"duplex={duplex!r}, ")
        return first, cls._at(first._core.memory, 1, bool(duplex), True)

    @classmethod
    def _at(cls, segment: _core.Segment, side: int = 0, readable: bool = True, writable: bool = True) -> Connection:
        made = cls.__new__(cls)
        made._take(side, readable, writable)
        made._core = made._core_type(segment)
        return made

    def _take(self, side: int, readable: bool, writable: bool) -> None:
        self._side, self.readable, self.writable, self.closed = side, readable, writable, False

    def _core_type(self, segment: _core.Segment) -> _core.PipeEnd:
        return _core.PipeEnd(segment, self._side)

    def send(self, obj: Any) -> None:
        """Local. An object, as pickle carries it, to the other end."""
        self._send(packed(obj))

    def recv(self) -> Any:
        """Local. The next object from the other end. Waits for it; raises EOFError if none comes any more."""
        return unpacked(self._receive())

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Local. Whether `recv` would not wait, within `timeout` seconds; None: as long as it takes."""
        self._require("readable")
        return bool(self._core.poll(-1 if timeout is None else max(timeout, 0)))

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Local. Bytes of a buffer to the other end, as one message."""
        whole = memoryview(buf).cast("B")
        if offset < 0 or offset > len(whole):
            raise ValueError(f"offset is {offset}: the buffer has {len(whole)} bytes")
        size = len(whole) - offset if size is None else size
        if size < 0 or offset + size > len(whole):
            raise ValueError(f"size is {size}: {len(whole) - offset} bytes are there from offset {offset} on")
        self._send([whole[offset : offset + size]])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Local. A message of `send_bytes`. Raises OSError if it is longer than `maxlength`, and then it is lost."""
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        message = self._message()
        if maxlength is not None and len(message) > maxlength:
            raise OSError(f"the message has {len(message)} bytes, maxlength is {maxlength}")
        return message

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Local. A message of `send_bytes` into a buffer. Its length; raises BufferTooShort if there is no room."""
        from multiprocessing import BufferTooShort

        room = memoryview(buf).cast("B")
        if offset < 0 or offset > len(room):
            raise ValueError(f"offset is {offset}: the buffer has {len(room)} bytes")
        message = self._message()
        if len(message) > len(room) - offset:
            raise BufferTooShort(message)
        room[offset : offset + len(message)] = message
        return len(message)

    def close(self) -> None:
        """Local. This process uses the end no more."""
        if not self.closed:
            self.closed = True
            self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        self._require()
        return reduce_words(
            partial(self._at, side=self._side, readable=self.readable, writable=self.writable), self._core.memory
        )

    def _require(self, ability: str = "") -> None:
        if self.closed:
            raise OSError("this end of the pipe is closed")
        if ability and not getattr(self, ability):
            raise OSError(f"this end of the pipe is not {ability}: it was made with duplex=False")

    def _send(self, value: Any) -> None:
        self._require("writable")
        if not self._core.send(value):
            raise BrokenPipeError("the other end of the pipe is closed")

    def _receive(self) -> Any:
        self._require("readable")
        kept = self._core.receive(-1)
        if kept is None:
            raise EOFError("the other end of the pipe is closed")
        return kept

    def _message(self) -> bytes:
        kept = self._receive()
        return kept if type(kept) is bytes else b"".join(kept)
