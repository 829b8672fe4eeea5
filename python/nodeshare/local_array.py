# SPDX-License-Identifier: BSD-3-Clause
"""An array of a node as one rank sees it."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from . import _core
from .add import add_at
from .error import Error, InvalidArgument
from .layout import Layout, describe_dtype
from .numpy_words import NumpyWords

if TYPE_CHECKING:
    from .topology import Topology

__all__ = ["LocalArray"]

Self = TypeVar("Self", bound="LocalArray")


class LocalArray(NumpyWords):
    """Local in all its parts. What one rank does by itself with an array: look at it, slice it, let go of it."""

    __slots__ = ("__weakref__", "_segment", "_whole", "array")
    __hash__ = None  # type: ignore[assignment]

    array: np.ndarray
    _segment: _core.Segment | None
    _whole: Layout  # of all the memory: the array's own, but in an arena
    _offset: int | None = None  # where in an arena it begins

    def __init__(self, segment: _core.Segment, layout: Layout, writable: bool) -> None:
        object.__setattr__(self, "_segment", segment)
        object.__setattr__(self, "_whole", layout)
        segment.layout = layout
        self._make_array(writable)

    def _make_array(self, writable: bool) -> None:
        layout = self._layout
        self._memory.writable = writable  # what `handle` finds again
        array = self._memory.ndarray(layout.dtype, layout.shape, layout.strides, writable)
        object.__setattr__(self, "array", array)

    @property
    def _layout(self) -> Layout:
        return self._whole

    @property
    def _memory(self) -> _core.Segment:
        if self._segment is None:
            raise Error(f"this array has been closed: {self!r}")
        return self._segment

    # --- what it is ----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Local."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype:
        """Local."""
        return self._layout.dtype

    @property
    def ndim(self) -> int:
        """Local."""
        return len(self._layout.shape)

    @property
    def size(self) -> int:
        """Local. Number of elements."""
        return self._layout.size

    @property
    def nbytes(self) -> int:
        """Local. Bytes of the elements, once per node."""
        return self._layout.nbytes

    @property
    def order(self) -> str:
        """Local. "C" or "F"."""
        return self._layout.order

    @property
    def topology(self) -> Topology:
        """Local. Whose ranks share it."""
        if self._whole.topology is None:
            raise Error("this array was attached from another process: it has no ranks to work with")
        return self._whole.topology

    def __repr__(self) -> str:
        where = self._whole.topology
        nodes, unit = (1, "node") if where is None else (where.nodes, where.unit)
        state = "closed" if self._segment is None else f"on {nodes} {unit}{'s' if nodes > 1 else ''}"
        kind = self.dtype.name if self.dtype.names is None else describe_dtype(self.dtype)
        each = f"{self.nbytes / 1e6:.1f} MB each" if self.nbytes >= 1e5 else f"{self.nbytes} bytes each"
        return f"<SharedArray {self.shape} {kind} {state}, {each}, {self.order} order>"

    # --- NumPy's protocols ---------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name == "array":
            raise Error(f"this array has been closed: {self!r}")
        raise AttributeError(
            f"a SharedArray has no {name!r}" + (f": use .array.{name}" if hasattr(np.ndarray, name) else "")
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "array":  # a.array += 1 gives back what it got
            _require_same(self.array, value, "array")
        elif name == "local":
            _require_same(self.local, value, "local")
        else:
            raise AttributeError(f"a SharedArray's {name!r} can't be set")

    def copy(self, order: Any = "C") -> np.ndarray:
        """Local. A private copy, as an ndarray."""
        return self.array.copy(order)

    def __copy__(self: Self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise Error("a SharedArray is not copied: .copy() gives a private ndarray, ns.array() another shared one")

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *ignored: Any) -> None:
        self.close()

    def __reduce__(self) -> Any:
        from .pickling import reduce

        return reduce(self._memory, self._layout, self.array.flags.writeable, self._offset)

    # --- whose rows ----------------------------------------------------------------------------------------------

    def rows(self, rank: int | None = None) -> tuple[int, int]:
        """Local. Rows [start, stop) of the first axis for a rank (default: this one).

        Counted among the ranks of that rank's own node, so that the parts of a node's ranks make up its whole array:
        ``r * n // size``, ``(r + 1) * n // size``. A 0-d array is one row, of node rank 0. Where ranks brought rows of
        their own (``rows=``), it is these, counted over the communicator: `allgather` has those of other nodes.
        """
        edges = self._layout.edges
        if edges is None:
            return self._share(rank)
        number = self.topology.rank if rank is None else operator.index(rank)
        self.topology.node_of(number)  # raises for a rank that is not there
        return edges[number], edges[number + 1]

    def _share(self, rank: int | None = None) -> tuple[int, int]:
        """Local. Rows of a rank, if the node's array is dealt evenly among its ranks."""
        topology = self.topology
        if rank is None:
            number, of = topology.node_rank, topology.node_size
        else:
            ranks = topology.ranks_on(topology.node_of(rank))
            number, of = ranks.index(rank), len(ranks)
        if not self.shape:
            return (0, 1) if number == 0 else (0, 0)
        n = self.shape[0]
        return number * n // of, (number + 1) * n // of

    def part(self, rank: int) -> np.ndarray:
        """Local. The view of a rank's rows."""
        return self._view_of_rows(*self.rows(rank))

    @property
    def local(self) -> np.ndarray:
        """Local. The view of this rank's rows; ``a.local += 1`` works. Of a 0-d array: one row or none."""
        return self._view_of_rows(*self.rows())

    def _view_of_rows(self, start: int, stop: int) -> np.ndarray:
        array = self.array if self.shape else self.array.reshape(1)
        return array[start:stop]

    def add(self, index: Any, values: Any) -> None:
        """Local. As ``np.add.at(a.array, index, values)``, while other ranks of the node may do so, too.

        Nothing is lost, and nobody waits: each element is added to by an atomic operation of the processor (the parts
        of a complex number one after the other). In what order ranks add is left open, and with it the last bits of
        sums of floating-point numbers. What other ranks have added is seen in full after the next `sync`, and on other
        nodes after an `allreduce_copies`.

        Parameters
        ----------
        index : index
            Whatever NumPy takes; an element that is selected several times is added to as often.
        values : array_like
            Broadcast to what `index` selects; of a dtype that NumPy casts to the array's as "same_kind".

        Raises
        ------
        InvalidArgument
            For a read-only array, values that do not fit, and elements that are no numbers of this machine, bool or
            long doubles (which no processor adds to in one step).
        IndexError
            For an index that NumPy refuses.

        Examples
        --------
        >>> import nodeshare as ns
        >>> bins = ns.zeros(4, int)
        >>> bins.add([0, 2, 2], 1)
        >>> bins.array.tolist()
        [1, 0, 2, 0]
        """
        self._require_writable()
        add_at(self.array, index, values)

    # --- its memory ----------------------------------------------------------------------------------------------

    def freeze(self, protect: bool = False) -> None:
        """Local. From now on `array` is read-only on this rank; views taken before stay as they are.

        Parameters
        ----------
        protect : bool
            Forbid writing to the pages too, for all views of this rank (mprotect(2)): a stray write is SIGSEGV.
            Collective calls that write, `bcast` and `allgather` among them, then raise InvalidArgument.
        """
        if protect:
            self._memory.protect(True)
        self._make_array(False)

    def thaw(self) -> None:
        """Local. From now on `array` may be written on this rank."""
        self._memory.protect(False)
        self._make_array(True)

    def mlock(self) -> None:
        """Local. Keeps the pages in memory (mlock(2)). Raises Error with the system's reason."""
        self._memory.mlock()

    def munlock(self) -> None:
        """Local. Ends `mlock`."""
        self._memory.munlock()

    def msync(self) -> None:
        """Local. msync(2): for interfaces that expect it; this memory has no file to write to."""
        self._memory.msync()

    def close(self) -> None:
        """Local. Lets go of the handle's share of the memory, any number of times; views still alive stay valid."""
        if self._segment is not None:
            object.__setattr__(self, "_segment", None)
            object.__delattr__(self, "array")

    def _name(self) -> str:
        place = "" if self._offset is None else f" at byte {self._offset}"
        return f"array {self._memory.id} of {self._layout.made}{place}"

    def _require_writable(self) -> None:
        self._require_unprotected()
        if not self.array.flags.writeable:
            raise InvalidArgument(f"{self!r} is read-only on this rank: thaw() it first, if writing is meant")

    def _require_unprotected(self) -> None:
        if self._memory.protected:  # MPI, too, would end there
            raise InvalidArgument(f"the pages of {self!r} are protected on this rank: thaw() it first")


def _require_same(mine: np.ndarray, value: Any, name: str) -> None:
    same = (
        isinstance(value, np.ndarray)
        and value.__array_interface__["data"][0] == mine.__array_interface__["data"][0]
        and (value.shape, value.strides, value.dtype) == (mine.shape, mine.strides, mine.dtype)
    )
    if not same:
        raise AttributeError(f"assigning to .{name} would only rebind a name: write `a.{name}[...] = value`")
