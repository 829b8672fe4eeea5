# SPDX-License-Identifier: BSD-3-Clause
"""Arrays whose rows a function computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .blocks import BLOCK_BYTES, put
from .collective import collective
from .error import InvalidArgument
from .layout import describe_dtype, make_layout
from .rows import owner_runs
from .shared_array import SharedArray
from .topology import local_range, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["from_function"]


def from_function(
    f: Callable[[int, int], Any], shape: Any, dtype: Any = float, *, order: str = "C", comm: CommLike = None
) -> SharedArray:
    """Collective over the communicator. Rows that `f` computes, each once in the whole job; one writable copy per node.

    Each rank computes the rows of its `local_range`, into place; they go to the other nodes over the lanes. So also
    what is random, or depends on the machine, is the same on all nodes.

    Parameters
    ----------
    f : callable
        ``f(start, stop)`` gives the rows from `start` up to `stop`: an array_like of shape ``(stop - start,
        *shape[1:])``. A rank calls it with ascending blocks of at most 4 MiB of the array, but at least a row; and not
        at all where it has no rows. Of a 0-d array ``f(0, 1)`` gives one row.
    shape : int or sequence of int
    dtype : data-type
        What `f` gives is cast to it if it is of the same kind (``numpy.can_cast``), so not complex numbers to real
        ones, or these to integers.
    order : {"C", "F"}
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Raises
    ------
    InvalidArgument
        For an `f` that can't be called, or that gives another shape or kind of numbers: on the ranks where it does, and
        `PeerError` on the others. So with whatever `f` raises itself.

    Others: see `empty`.

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> def rows(start, stop):  # random numbers that do not depend on the number of ranks
    ...     return [np.random.default_rng(row).random(3) for row in range(start, stop)]
    >>> ns.from_function(rows, (5, 3))
    <SharedArray (5, 3) float64 on 1 node, 120 bytes each, C order>
    """
    where = topology(comm)
    with collective(where, "from_function") as call:
        if not callable(f):
            raise InvalidArgument(f"f is a {type(f).__name__}: a function of (start, stop) is needed")
        layout = make_layout(shape, dtype, order, where, "from_function")
        call.arguments = f"shape={layout.shape}, dtype={describe_dtype(layout.dtype)}, order={order!r}"
        segment = call.create(layout.nbytes, True, zeros=False, more=True)
        made = SharedArray(segment, layout, True)
        whole = made.array if layout.shape else made.array.reshape(1)
        start, end = local_range(layout.rows, where)
        step = max(1, BLOCK_BYTES * layout.rows // max(layout.nbytes, 1))
        for first in range(start, end, step):
            stop = min(first + step, end)
            put(whole[first:stop], f(first, stop), f"f({first}, {stop})")
        call.replicate(segment, owner_runs(layout, None))
        return made
