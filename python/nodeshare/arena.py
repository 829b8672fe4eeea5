# SPDX-License-Identifier: BSD-3-Clause
"""Many small arrays in one piece of memory."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import _core
from .asked import NOTHING, Asked
from .collective import collective
from .error import Error, InvalidArgument
from .layout import Layout
from .shared_array import SharedArray
from .topology import Topology, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["Arena", "ArenaArray", "arena"]


class ArenaArray(SharedArray):
    """A SharedArray in an arena. Nothing is stored for it beside its ndarray, which knows shape, dtype and place."""

    __slots__ = ()

    def __init__(self, segment: _core.Segment, array: np.ndarray) -> None:
        object.__setattr__(self, "_segment", segment)
        object.__setattr__(self, "_whole", segment.layout)
        object.__setattr__(self, "array", array)

    @classmethod
    def at(cls, segment: _core.Segment, offset: int, layout: Layout, writable: bool = True) -> ArenaArray:
        """Local. The array that begins there."""
        return cls(segment, segment.ndarray(layout.dtype, layout.shape, layout.strides, writable, offset))

    @property
    def _layout(self) -> Layout:
        if self._segment is None:
            return self._whole
        array = self.array
        order = "F" if array.flags.fnc else "C"
        return self._whole._replace(shape=array.shape, dtype=array.dtype, order=order)

    @property
    def _offset(self) -> int:  # type: ignore[override]
        return int(self.array.__array_interface__["data"][0]) - self._memory.address

    def sync(self) -> None:
        """Collective over the node. As that of other arrays, and `Mismatch` when the ranks took different arrays."""
        try:
            self._memory.sync_at(self._offset)
        except Error as error:
            self._tell_if_closed(error)
            raise

    def _make_array(self, writable: bool) -> None:
        again = self.at(self._memory, self._offset, self._layout, writable)
        object.__setattr__(self, "array", again.array)

    def freeze(self, protect: bool = False) -> None:
        """Local. As that of other arrays, but for `protect`: the pages hold other arrays, too."""
        if protect:
            self._refuse("freeze(protect=True)")
        self._make_array(False)

    def thaw(self) -> None:
        """Local. From now on `array` may be written on this rank."""
        self._make_array(True)

    def mlock(self) -> None:
        """Local. Refused: the pages hold other arrays, too."""
        self._refuse("mlock()")

    def munlock(self) -> None:
        """Local. Refused: the pages hold other arrays, too."""
        self._refuse("munlock()")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidArgument(
            f"{what} is for whole pages, and those of this array hold others of {self._memory.description} too: "
            "make it by itself (nodeshare.zeros)"
        )

    def close(self) -> None:
        """Local. Lets go of the handle's share of the memory, any number of times; views still alive stay valid."""
        object.__setattr__(self, "_whole", self._layout)  # to tell of what is gone
        super().close()


class Arena:
    """One piece of memory on each node, from which arrays are taken one behind the other; made by `arena`.

    `zeros empty ones full` give a `SharedArray` each, without communication. The ranks take the same arrays in the same
    order, so that each finds them at the same place; the next collective call on the communicator, whichever it is,
    compares what they took, and all raise `Mismatch` if that differs.

    An array begins at a multiple of 64 bytes. It keeps the memory alive by itself, and is not given back by itself: the
    memory is free when the arena and all its arrays are gone, on all ranks of the node.
    """

    __slots__ = ("__weakref__", "_core", "_segment", "_topology")

    def __init__(self, core: _core.Arena, where: Topology) -> None:
        self._core: _core.Arena | None = core
        self._topology = where
        self._segment: _core.Segment | None = core.memory
        self._segment.layout = Layout((self._segment.nbytes,), np.dtype(np.uint8), "C", where, "arena")
        self._segment.arena = core

    def zeros(self, shape: Any, dtype: Any = float, *, order: str = "C") -> SharedArray:
        """Local, in the same order on every rank. An array of zeros.

        Parameters
        ----------
        shape, dtype, order
            As of `nodeshare.zeros`. (Where an array is in both orders, it says "C".)

        Raises
        ------
        InvalidArgument
            For a shape, dtype or order that no shared array can have.
        OutOfSharedMemory
            When less is left; then nothing is taken.
        """
        return self._take("zeros", shape, dtype, order)

    def empty(self, shape: Any, dtype: Any = float, *, order: str = "C") -> SharedArray:
        """Local, in the same order on every rank. An array, its contents unspecified. See `zeros`."""
        return self._take("empty", shape, dtype, order)

    def ones(self, shape: Any, dtype: Any = float, *, order: str = "C") -> SharedArray:
        """Local, in the same order on every rank. An array of ones: each rank fills its own rows. See `zeros`.

        What other ranks of the node fill is there after the next `sync`.
        """
        return self._take("ones", shape, dtype, order, 1)

    def full(self, shape: Any, fill_value: Any, dtype: Any = None, *, order: str = "C") -> SharedArray:
        """Local, in the same order on every rank. An array of one value: each rank fills its own rows. See `ones`."""
        return self._take("full", shape, dtype, order, fill_value)

    def _take(self, name: str, shape: Any, dtype: Any, order: str, fill: Any = NOTHING) -> SharedArray:
        core = self._open
        asked = Asked(name, shape, dtype, order, None, fill)
        offset = core.take(asked.layout.nbytes, f"{name}({asked.words})")
        assert self._segment is not None
        made = ArenaArray.at(self._segment, offset, asked.layout)
        if fill is not NOTHING:
            asked.put(made)
        return made

    @property
    def _open(self) -> _core.Arena:
        if self._core is None:
            raise Error("this arena has been closed: no more arrays are taken from it")
        return self._core

    def sync(self) -> None:
        """Collective over the node. Every write before it, into any of its arrays, is seen by all after it.

        Raises Mismatch when the ranks took different arrays, or call different things; PeerError when a rank has ended.
        """
        try:
            self._open.sync()
        except Error as error:
            if self._core is None:  # closed on this rank: the others must not wait for it
                self._topology._core.fail("arena.sync", "", str(error), True)
            raise

    @property
    def topology(self) -> Topology:
        """Local. Whose ranks share it."""
        return self._topology

    @property
    def nbytes(self) -> int:
        """Local. Bytes of it, once per node."""
        return self._open.memory.nbytes

    @property
    def used(self) -> int:
        """Local. Bytes that were taken, with what was left between arrays to align them."""
        return self._open.used

    @property
    def free(self) -> int:
        """Local. Bytes of the largest array that can still be taken."""
        return self._open.free

    @property
    def count(self) -> int:
        """Local. How many arrays were taken."""
        return self._open.count

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        if self._core is None:
            return "<Arena closed>"
        nodes = self._topology.nodes
        return (
            f"<Arena of {self.count} array{'s' * (self.count != 1)}, {self.used} of {self.nbytes} bytes used, "
            f"on {nodes} node{'s' * (nodes != 1)}>"
        )

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *ignored: Any) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise Error("an Arena is not pickled, as only its ranks take arrays from it; its arrays are")

    def close(self) -> None:
        """Local. Lets go of the arena's share of the memory, any number of times; its arrays stay valid."""
        self._core = self._segment = None


def arena(nbytes: int, *, comm: CommLike = None, reserve: bool = True) -> Arena:
    """Collective over the communicator. One piece of memory per node for many small arrays.

    An array by `nodeshare.zeros` costs a mapping, a page at least and a meeting of all ranks; one from an arena costs a
    few hundred bytes, and no communication.

    Parameters
    ----------
    nbytes : int
        For all arrays together: each takes its bytes, rounded up to 64.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.
    reserve : bool
        As of `nodeshare.empty`.

    Raises
    ------
    InvalidArgument, OutOfSharedMemory, Mismatch, PeerError
        As `nodeshare.empty`.

    Examples
    --------
    >>> import nodeshare as ns
    >>> a = ns.arena(1 << 20)
    >>> states = [a.zeros(7) for _ in range(1000)]
    >>> states[3].local += 1
    >>> a.sync()
    >>> states[3].array
    array([1., 1., 1., 1., 1., 1., 1.])
    >>> a
    <Arena of 1000 arrays, 63992 of 1048576 bytes used, on 1 node>
    """
    where = topology(comm)
    with collective(where, "arena") as call:
        if not hasattr(nbytes, "__index__") or not 0 <= operator.index(nbytes) < 2**62:
            raise InvalidArgument(f"nbytes is {nbytes!r}: an int is needed, not negative and below 2**62")
        call.arguments = f"nbytes={operator.index(nbytes)}" + ("" if reserve else ", reserve=False")
        return Arena(call.arena(operator.index(nbytes), bool(reserve)), where)


def handle_in_arena(view: Any, segment: _core.Segment) -> SharedArray:
    """Local. The handle of the array of an arena that a view was made from, by what it is a view of."""
    found: Any = view
    while found is not None:
        source = found.obj if isinstance(found, memoryview) else getattr(found, "base", None)
        if source is segment:
            return ArenaArray(segment, found)
        found = source
    raise InvalidArgument(
        f"this {type(view).__name__} lies in {segment.description}, but does not say of which array there it is "
        "a part: pass an array's .array, or a view made of it by NumPy"
    )
