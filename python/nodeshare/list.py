# SPDX-License-Identifier: BSD-3-Clause
"""A list that the ranks of a node share."""

from __future__ import annotations

import operator
import sys
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

from . import _core
from .container import CAPACITY, Container, packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .topology import CommLike

__all__ = ["List"]

_ALL = slice(None)


class List(Container, MutableSequence):  # type: ignore[type-arg]
    """A list that the ranks of a node share, with their threads and forked children; as `list`.

    Making one is collective over the communicator, whose ranks must be on one node; the rest is local, and each call is
    one step for all others: nothing is lost or doubled, and nobody sees half a value. Iterating, comparing and slicing
    give what was there at one moment.

    Values are what pickle can carry. Each read gives an object of its own, so ``shared[0].append(1)`` changes nothing
    in the list; arrays in it (and what else hands out its buffers) are read-only views of the shared memory, which stay
    as they are when the entry is replaced or deleted, and when the list is gone. A forked child reads its own: what it
    has of its parent's views stays as long as the parent keeps them.

    When a rank ends within a call (killed, say), those that come later raise PeerError.

    Parameters
    ----------
    iterable : iterable, optional
        The values at first; that of rank 0 counts.
    capacity : int, optional
        Bytes that values take at most, with about 200 for each; only what is used takes memory. Beyond it
        OutOfSharedMemory is raised, and nothing changes.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a list for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes, or for a capacity that is none.

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> shared = ns.List(["a", {"b": np.arange(3)}])
    >>> shared.append(3.5)
    >>> shared[1:]
    [{'b': array([0, 1, 2])}, 3.5]
    >>> shared.pop(), len(shared)
    (3.5, 2)
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _name = "List"
    _core_type = _core.List

    def __init__(self, iterable: Iterable[Any] = (), *, capacity: int = CAPACITY, comm: CommLike = None) -> None:
        self._make(comm, capacity, lambda: self.extend(iterable))

    def __len__(self) -> int:
        return len(self._core)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [unpacked(kept) for kept in self._core.some(index)[1]]
        return unpacked(self._core.get(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._core.replace(index, [packed(one) for one in value])
        else:
            self._core.set(index, packed(value))

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            self._core.remove(index)
        else:
            self._core.pop(index)

    def __iter__(self) -> Iterator[Any]:
        return map(unpacked, self._core.some(_ALL)[1])

    def __reversed__(self) -> Iterator[Any]:
        return map(unpacked, reversed(self._core.some(_ALL)[1]))

    def append(self, value: Any) -> None:
        """Local. One more value, at the end."""
        self._core.insert(sys.maxsize, [packed(value)])

    def extend(self, values: Iterable[Any]) -> None:
        """Local. More values, at the end: next to each other, whatever others append meanwhile."""
        self._core.insert(sys.maxsize, [packed(value) for value in values])

    def insert(self, index: int, value: Any) -> None:
        """Local. A value before the one at `index`."""
        self._core.insert(max(-sys.maxsize, min(operator.index(index), sys.maxsize)), [packed(value)])

    def pop(self, index: int = -1) -> Any:
        """Local. Takes a value out. No two ranks get the same. Raises IndexError if there is none."""
        return unpacked(self._core.pop(index))

    def remove(self, value: Any) -> None:
        """Local. Takes the first one out that equals `value`. Raises ValueError if there is none."""
        while True:
            changes, kept = self._core.some(_ALL)
            order = [*range(len(kept))]
            del order[_first(kept, value)]
            if self._core.rearrange(changes, order):
                return

    def clear(self) -> None:
        """Local. Takes all values out."""
        self._core.remove(_ALL)

    def reverse(self) -> None:
        """Local. The last one first."""
        self._core.reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Local. In order, as `list.sort`. Raises ValueError, as that, if somebody changes the list meanwhile."""
        changes, kept = self._core.some(_ALL)
        values = [*map(unpacked, kept)]
        keys = values if key is None else [*map(key, values)]
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
        if not self._core.rearrange(changes, order):
            raise ValueError("list modified during sort")

    def copy(self) -> list[Any]:
        """Local. A list of what is there now, of this rank alone."""
        return [*self]

    def index(self, value: Any, *within: int) -> int:
        """Local. Where the first one is that equals `value`, as `list.index`. Raises ValueError if there is none."""
        return self.copy().index(value, *within)

    def __add__(self, other: Any) -> list[Any]:
        return self.copy() + [*other] if isinstance(other, (list, List)) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return self.copy() == [*other] if isinstance(other, (list, List)) else NotImplemented


def _first(kept: list[Any], value: Any) -> int:
    for i, one in enumerate(map(unpacked, kept)):
        if one is value or one == value:
            return i
    raise ValueError("list.remove(x): x not in list")
