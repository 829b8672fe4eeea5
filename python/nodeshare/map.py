# SPDX-License-Identifier: BSD-3-Clause
"""A function of each item, computed by all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import put
from .collective import collective
from .error import InvalidArgument
from .share import allgather_objects
from .shared_array import SharedArray
from .topology import Topology, topology
from .work import deal

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["map"]


def map(
    f: Callable[[Any], Any],
    items: int | Sequence[Any],
    out: SharedArray | None = None,
    *,
    chunk: int | None = None,
    progress: bool = False,
    comm: CommLike = None,
) -> Any:
    """Collective over the communicator. ``f(item)`` of each item, each computed once in the whole job, for all ranks.

    Items are dealt to the ranks as by `work`.

    Parameters
    ----------
    f : callable
        Called with one item, at any time on any rank; it may not call what is collective over the communicator.
    items : sequence or int
        Of which each rank holds the same; a number stands for the indices below it.
    out : SharedArray, optional
        A writable one of ``len(items)`` rows. Row i becomes ``f(items[i])``, which has the shape of a row, and a dtype
        that NumPy casts to that of `out` as "same_kind"; at the end the array is whole on every node.
    chunk : int, optional
        How many items a rank takes at once. Default: many at first, then fewer.
    progress : bool
        One bar on rank 0, counted from its node; into a file a line each 10 %.
    comm : mpi4py.MPI.Comm, optional
        Default: that of `out`, else ``COMM_WORLD``.

    Returns
    -------
    SharedArray or list
        `out`; without it the list of all results, in the order of the items, on every rank. They have been pickled; as
        in `share` their arrays are one read-only copy per node.

    Raises
    ------
    InvalidArgument
        For an `f` that can't be called, and an `out` that does not fit; when f gives what does not fit into a row.
    Exception
        What `f` raised, on the rank where it did; the others raise `PeerError` with its text: those of its node after
        the item that they are at, those of other nodes when their items are done. Rows of `out` that were computed by
        then stay, on the nodes that did.

    Others: see `work`.

    Examples
    --------
    >>> import nodeshare as ns
    >>> ns.map(len, ["rain", "wind", "ice"])
    [4, 4, 3]
    >>> ns.map(lambda hour: [hour, hour / 2], 3, out=ns.zeros((3, 2))).array.tolist()
    [[0.0, 0.0], [1.0, 0.5], [2.0, 1.0]]
    """
    where = topology(out.topology if comm is None and isinstance(out, SharedArray) else comm)
    with collective(where, "map") as call:
        if not callable(f):
            raise InvalidArgument(f"f is a {type(f).__name__}: a function of an item is needed")
        if out is not None:
            require_out(call, where, out)
        dealt = deal(call, where, items, chunk, "dynamic", progress, more=True)
        if out is not None and out.shape[:1] != (len(dealt),):
            raise InvalidArgument(f"out has shape {out.shape}: a row for each of the {len(dealt)} items is needed")
        all_items = range(len(dealt)) if isinstance(items, (int, np.integer)) else items
        done: dict[int, Any] = {}

        def compute(i: int) -> None:
            result = f(all_items[i])
            if out is None:
                done[i] = result
            else:
                put(out.array[i, ...], result, f"f(items[{i}])")

        dealt.run(compute)
        if out is not None:
            call.allgather_work(out._memory, (*out._layout.row_layout, out._offset or 0), dealt.core)
            return out
        for part in allgather_objects(call, where, done):
            done.update(part)
        return [done[i] for i in range(len(dealt))]


def require_out(call: collective, where: Topology, out: Any) -> None:
    """Local. Raises InvalidArgument for what results can't be written into."""
    if not isinstance(out, SharedArray):
        raise InvalidArgument(f"out is a {type(out).__name__}: a SharedArray is needed, as every node is to have it")
    if out.topology != where:
        raise InvalidArgument("out belongs to another communicator than comm")
    out._require_writable()
    call.arguments += f"out={out._name()}, "
