# SPDX-License-Identifier: BSD-3-Clause
"""One array on each node, seen by all ranks of the node."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .add import add_at
from .collective import collective
from .error import Error, InvalidArgument
from .layout import Layout, describe_dtype
from .numpy_words import NumpyWords
from .reduce import Contribution, element_of, operation_of
from .rows import describe_numbers, owner_runs, runs_of_index, whole_run
from .topology import Topology
from .work import Work
from .writing import together

if TYPE_CHECKING:
    from .reduce import Op
    from .rows import Owner

__all__ = ["SharedArray", "handle", "is_shared"]


class SharedArray(NumpyWords):
    """A handle of one array per node; `array` is the ordinary ndarray, zero-copy.

    Made by `nodeshare.zeros` and the other creators. It has NumPy's words for what it is (shape, dtype, indexing,
    operators, ufuncs) and MPI's for what ranks do with it together. Dropping it, its views or slices is local, in any
    order; the memory is free when the last rank of the node has let go.

    Attributes
    ----------
    array : numpy.ndarray
        The whole array, the same object each time. It keeps the memory alive by itself.

    Examples
    --------
    >>> import nodeshare as ns
    >>> y = ns.zeros((4, 2))
    >>> y.local += 1  # each rank its own rows
    >>> y.sync()
    >>> float(y.array.sum())
    8.0
    """

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

    def __copy__(self) -> SharedArray:
        return self

    def __deepcopy__(self, memo: Any) -> SharedArray:
        raise Error("a SharedArray is not copied: .copy() gives a private ndarray, ns.array() another shared one")

    def __enter__(self) -> SharedArray:
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

    # --- together ------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Collective over the node. Every write before it, by any rank of the node, is seen after it.

        Raises
        ------
        Mismatch
            When ranks call different things.
        PeerError
            When a rank has ended.
        """
        try:
            self._memory.sync()
        except Error as error:
            self._tell_if_closed(error)
            raise

    def _tell_if_closed(self, error: Error) -> None:
        if self._segment is None:  # on this rank: the others must not wait for it
            self.topology._core.fail("sync", self._layout.made, str(error), True)

    def writing(self, root: int | None = None) -> together:
        """Collective over the communicator, at both ends of its block. The array for ranks that write, else None.

        ``with a.writing(root=0) as w:`` then ``if w is not None: w[...] = …``. See `nodeshare.together`.
        """
        return together(self, root=root, gives=self)

    def set(self, value: Any, index: Any = ..., root: int = 0) -> None:
        """Collective over the communicator. `root`'s value into place, on every node.

        Parameters
        ----------
        value : array_like
            What to write; only that of `root` counts, others may pass None.
        index : optional
            Where, as NumPy indexes; the same on every rank. Default: everywhere.
        root : int
            Rank whose value counts.

        Raises
        ------
        InvalidArgument
            For a root that does not exist, or a read-only array.
        """
        topology = self.topology
        with collective(topology, "set") as call:
            node = topology.node_of(root)
            self._require_writable()
            runs = runs_of_index(self.array, index, node)
            call.arguments = f"root={root}, {self._name()}, runs {describe_numbers(runs)}"
            call.agree(more=True)
            if topology.rank == root:
                self.array[index] = value
            self._replicate(call, runs)

    def bcast(self, root: int = 0) -> None:
        """Collective over the communicator. The bytes of `root`'s node, to all nodes.

        Raises InvalidArgument if there is no such rank.
        """
        topology = self.topology
        with collective(topology, "bcast", f"root={root}") as call:
            call.arguments += f", {self._name()}"
            self._replicate(call, whole_run(self._layout, topology.node_of(root)))

    def allgather(self, owner: Owner = None) -> None:
        """Collective over the communicator. Each row from the node of its owner, to all nodes. Idempotent.

        Parameters
        ----------
        owner : Work or sequence of int, optional
            Who has a row: whoever did that index of a finished `work`; or the rank in a sequence with one entry a row;
            by default the rank that brought it (``rows=``), or whose `nodeshare.local_range` holds the row.

        Raises
        ------
        InvalidArgument
            When `owner` does not fit: its length, a rank that does not exist, another communicator.
        Error
            When the work is not finished; the text names the indices.
        """
        topology = self.topology
        with collective(topology, "allgather") as call:
            call.arguments = self._name()
            if isinstance(owner, Work):
                layout = (*self._layout.row_layout, self._offset or 0)
                call.allgather_work(self._memory, layout, owner.core)
            else:
                runs = owner_runs(self._layout, owner)
                if owner is not None:
                    call.arguments += f", owner {describe_numbers(np.asarray(owner))}"
                self._replicate(call, runs)

    def allreduce(self, contribution: Any, op: Op = "sum") -> None:
        """Collective over the communicator. Every rank's private array, combined, into every node's copy.

        What was in the array is overwritten. Contributions are combined in the order of the ranks on each node, and
        what came of it in the order of the nodes: the same bits on every node, and in every run on as many ranks and
        nodes.

        Parameters
        ----------
        contribution : array_like
            Of the array's shape (nothing is broadcast), of a dtype that NumPy casts to the array's as "same_kind"; in
            any order of memory. It may be `array` itself, but not overlap it otherwise.
        op : str or mpi4py.MPI.Op
            "sum", "prod", "min", "max" of numbers (complex ones: "sum", "prod"); "band", "bor", "bxor" of integers;
            "land", "lor", "lxor" of integers and bool; or an operation made by ``MPI.Op.Create``, of all but float16.
            Integers wrap around, a NaN makes "min" and "max" NaN, as in NumPy.

        Raises
        ------
        InvalidArgument
            For another shape or dtype, elements that are no numbers of this machine's byte order, an operation that
            there is not for them, one that does not commute where nodes do not have consecutive ranks, or a read-only
            array.
        OutOfSharedMemory
            When a node has not the 1 MiB a rank through which ranks pass what they bring.

        Notes
        -----
        Which operations are for which elements: MPI-3.1, 5.9.2. ``MPI_Allreduce`` is only advised to give the same bits
        in each run (5.9.1), so it is not used.

        Examples
        --------
        >>> import numpy as np
        >>> import nodeshare as ns
        >>> hits = ns.zeros(3, int)
        >>> hits.allreduce(np.array([1, 0, 2]))  # of all ranks
        >>> hits.array.tolist() if ns.topology().size == 1 else [1, 0, 2]
        [1, 0, 2]
        """
        with collective(self.topology, "allreduce") as call:
            self._require_writable()
            how = self._reduction(call, op)
            mine = Contribution(contribution, self.array, self.order)
            call.allreduce(self._memory, *how, mine)

    def allreduce_copies(self, op: Op = "sum") -> None:
        """Collective over the communicator. Each element from the copies of all nodes, combined, on every node.

        In the order of the nodes, so with the same bits on every node and in every run. Within a node nothing is
        combined: on one node it changes nothing.

        Parameters
        ----------
        op : str or mpi4py.MPI.Op
            See `allreduce`.

        Raises
        ------
        InvalidArgument
            As `allreduce`.

        Examples
        --------
        >>> import nodeshare as ns
        >>> most = ns.ones(3)
        >>> most.allreduce_copies("max")
        >>> most.array.tolist()
        [1.0, 1.0, 1.0]
        """
        with collective(self.topology, "allreduce_copies") as call:
            self._require_writable()
            call.allreduce_copies(self._memory, *self._reduction(call, op))

    def checksum(self) -> int:
        """Collective over the communicator. A digest of the array's bytes that all nodes agree on.

        The same number on any number of ranks and nodes, for the same bytes in the same order of memory: also those
        between the fields of a record count. Every write before it is seen, as by `sync`.

        Returns
        -------
        int
            Of 64 bits; XXH64 of the XXH64 of each MiB. It tells accidents, not forgeries.

        Raises
        ------
        Mismatch
            When nodes differ; the text says which node has which digest.

        Examples
        --------
        >>> import nodeshare as ns
        >>> a, b = ns.ones(100), ns.ones(100)
        >>> a.checksum() == b.checksum()
        True
        """
        with collective(self.topology, "checksum") as call:
            call.arguments = self._name()
            return call.checksum(self._memory, self._offset or 0, self.nbytes)

    def _reduction(self, call: collective, op: Op) -> tuple[int, int, _core.Element, _core.Operation | int]:
        how, name = operation_of(op)
        call.arguments = f"op={name}, {self._name()}"
        return self._offset or 0, self.size, element_of(self.dtype), how

    def _replicate(self, call: collective, runs: np.ndarray) -> None:
        runs[:, 0] += self._offset or 0
        call.replicate(self._memory, runs)

    def _name(self) -> str:
        place = "" if self._offset is None else f" at byte {self._offset}"
        return f"array {self._memory.id} of {self._layout.made}{place}"

    def _require_writable(self) -> None:
        if not self.array.flags.writeable:
            raise InvalidArgument(f"{self!r} is read-only on this rank: thaw() it first, if writing is meant")

    # --- its memory ----------------------------------------------------------------------------------------------

    def freeze(self, protect: bool = False) -> None:
        """Local. From now on `array` is read-only on this rank; views taken before stay as they are.

        Parameters
        ----------
        protect : bool
            Forbid writing to the pages too, for all views of this rank (mprotect(2)): a stray write is SIGSEGV.
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


def _require_same(mine: np.ndarray, value: Any, name: str) -> None:
    same = (
        isinstance(value, np.ndarray)
        and value.__array_interface__["data"][0] == mine.__array_interface__["data"][0]
        and (value.shape, value.strides, value.dtype) == (mine.shape, mine.strides, mine.dtype)
    )
    if not same:
        raise AttributeError(f"assigning to .{name} would only rebind a name: write `a.{name}[...] = value`")


def handle(view: Any) -> SharedArray:
    """Local. The handle of the whole array behind a view, a slice, or anything that shares its memory.

    Raises
    ------
    InvalidArgument
        When it is no array of nodeshare's.

    Examples
    --------
    >>> import nodeshare as ns
    >>> part = ns.zeros((6, 2)).array[2:4]
    >>> ns.handle(part).shape
    (6, 2)
    """
    if isinstance(view, SharedArray):
        return view
    segment = _segment_of(view)
    if segment is None or not hasattr(segment, "layout"):
        raise InvalidArgument(f"this {type(view).__name__} does not lie in memory of nodeshare")
    if hasattr(segment, "arena"):
        from .arena import handle_in_arena

        return handle_in_arena(view, segment)
    return SharedArray(segment, segment.layout, segment.writable)


def is_shared(x: Any) -> bool:
    """Local. Whether `x` is a SharedArray, or an array that lies in one."""
    return isinstance(x, SharedArray) or _segment_of(x) is not None


def _segment_of(x: Any) -> _core.Segment | None:
    try:
        array = x if isinstance(x, np.ndarray) else np.asarray(memoryview(x))
    except (TypeError, ValueError, BufferError):
        return None
    return _core.find_segment(array.__array_interface__["data"][0])
