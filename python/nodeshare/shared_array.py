# SPDX-License-Identifier: BSD-3-Clause
"""One array on each node, seen by all ranks of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .collective import collective
from .error import Error
from .local_array import LocalArray
from .reduce import Contribution, element_of, operation_of
from .rows import describe_numbers, owner_runs, runs_of_index, whole_run
from .work import Work
from .writing import together

if TYPE_CHECKING:
    from .reduce import Op
    from .rows import Owner

__all__ = ["SharedArray"]


class SharedArray(LocalArray):
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

    __slots__ = ()

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

        Raises InvalidArgument if there is no such rank, or the array is frozen with ``protect=True``.
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
            When `owner` does not fit: its length, a rank that does not exist, another communicator. Or for an array
            that is frozen with ``protect=True``.
        Error
            When the work is not finished; the text names the indices.
        """
        topology = self.topology
        with collective(topology, "allgather") as call:
            call.arguments = self._name()
            self._require_unprotected()
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
        between the fields of a record count, and those that pad a long double (NumPy leaves there what was in memory,
        an `allreduce` of several ranks zeros). Every write before it is seen, as by `sync`.

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
        self._require_unprotected()
        runs[:, 0] += self._offset or 0
        call.replicate(self._memory, runs)
