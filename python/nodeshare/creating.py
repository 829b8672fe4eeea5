# SPDX-License-Identifier: BSD-3-Clause
"""Making arrays, empty ones and filled ones."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from .asked import NOTHING, Asked
from .collective import collective
from .error import InvalidArgument
from .layout import as_shape
from .plain_array import plain_array
from .shared_array import SharedArray
from .topology import Topology, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["empty", "empty_like", "full", "full_like", "ones", "ones_like", "zeros", "zeros_like"]


def empty(
    shape: Any,
    dtype: Any = float,
    *,
    order: str = "C",
    comm: CommLike = None,
    reserve: bool = True,
    rows: int | None = None,
) -> SharedArray:
    """Collective over the communicator. One array per node, page aligned, its contents unspecified.

    Parameters
    ----------
    shape : int or sequence of int
    dtype : data-type
        Whatever NumPy holds as plain bytes; Python objects are refused, also within records.
    order : {"C", "F"}
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.
    reserve : bool
        Make every page present now, by all ranks in parallel. Without it nothing is taken until a page is touched
        (read or written), so a sparse array may be larger than the node's memory; and a full system is a SIGBUS, or the
        end of a process, then. An MPI window (``NODESHARE_MEMORY=window``) needs the room for all of it nevertheless.
    rows : int, optional
        Where ranks bring rows of their own: how many this one has, also 0; the first extent of `shape` is None then,
        and becomes the sum over the ranks, whose rows follow each other. ``rows()``, ``local``, ``part`` and the
        default of ``allgather`` go by them.

    Raises
    ------
    InvalidArgument
        For a shape, dtype or order that no shared array can have.
    OutOfSharedMemory
        When a node has not that much; nothing is kept, and the job stays usable.
    Mismatch, PeerError
        When ranks call different things; when one failed or ended.

    Examples
    --------
    >>> import nodeshare as ns
    >>> ns.empty((8760, 16))
    <SharedArray (8760, 16) float64 on 1 node, 1.1 MB each, C order>
    >>> ns.empty((None, 3), rows=7).rows()  # on one rank
    (0, 7)
    """
    return _create("empty", shape, dtype, order, topology(comm), reserve, rows)


def zeros(
    shape: Any,
    dtype: Any = float,
    *,
    order: str = "C",
    comm: CommLike = None,
    reserve: bool = True,
    rows: int | None = None,
) -> SharedArray:
    """Collective over the communicator. One array of zeros per node. Parameters and errors: see `empty`."""
    return _create("zeros", shape, dtype, order, topology(comm), reserve, rows)


def ones(
    shape: Any,
    dtype: Any = float,
    *,
    order: str = "C",
    comm: CommLike = None,
    reserve: bool = True,
    rows: int | None = None,
) -> SharedArray:
    """Collective over the communicator. One array of ones per node. Parameters and errors: see `empty`."""
    return _create("ones", shape, dtype, order, topology(comm), reserve, rows, fill=1)


def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    *,
    order: str = "C",
    comm: CommLike = None,
    reserve: bool = True,
    rows: int | None = None,
) -> SharedArray:
    """Collective over the communicator. One array per node, filled by all ranks in parallel.

    Parameters
    ----------
    fill_value : scalar or array_like
        The same on every rank; broadcast to `shape`.
    dtype : data-type, optional
        Default: that of ``np.asarray(fill_value)``.

    The others, and errors: see `empty`.
    """
    return _create("full", shape, dtype, order, topology(comm), reserve, rows, fill=fill_value)


def empty_like(
    prototype: Any,
    dtype: Any = None,
    *,
    order: str | None = None,
    shape: Any = None,
    comm: CommLike = None,
    reserve: bool = True,
) -> SharedArray:
    """Collective over the communicator. As `empty`, with shape, dtype and order of `prototype` unless given.

    Parameters
    ----------
    prototype : SharedArray or array_like
        The communicator of a SharedArray is the default of `comm`.
    """
    return _create_like("empty_like", prototype, dtype, order, shape, comm, reserve)


def zeros_like(
    prototype: Any,
    dtype: Any = None,
    *,
    order: str | None = None,
    shape: Any = None,
    comm: CommLike = None,
    reserve: bool = True,
) -> SharedArray:
    """Collective over the communicator. As `zeros`, with shape, dtype and order of `prototype` unless given."""
    return _create_like("zeros_like", prototype, dtype, order, shape, comm, reserve)


def ones_like(
    prototype: Any,
    dtype: Any = None,
    *,
    order: str | None = None,
    shape: Any = None,
    comm: CommLike = None,
    reserve: bool = True,
) -> SharedArray:
    """Collective over the communicator. As `ones`, with shape, dtype and order of `prototype` unless given."""
    return _create_like("ones_like", prototype, dtype, order, shape, comm, reserve, fill=1)


def full_like(
    prototype: Any,
    fill_value: Any,
    dtype: Any = None,
    *,
    order: str | None = None,
    shape: Any = None,
    comm: CommLike = None,
    reserve: bool = True,
) -> SharedArray:
    """Collective over the communicator. As `full`, with shape, dtype and order of `prototype` unless given."""
    return _create_like("full_like", prototype, dtype, order, shape, comm, reserve, fill=fill_value)


def _create(
    name: str,
    shape: Any,
    dtype: Any,
    order: str,
    where: Topology,
    reserve: bool,
    rows: int | None,
    fill: Any = NOTHING,
) -> SharedArray:
    with collective(where, name) as call:
        edges = None
        if rows is not None:
            shape, edges = _gather_rows(call, shape, rows)
        elif isinstance(shape, (tuple, list)) and None in shape[:1]:
            raise InvalidArgument(f"shape is {shape!r}: None stands for what ranks bring, rows=")
        asked = Asked(name, shape, dtype, order, where, fill)
        call.arguments = asked.words + ("" if reserve else ", reserve=False")
        filled = asked.fill is not NOTHING
        segment = call.create(asked.layout.nbytes, bool(reserve), zeros=name.startswith("zeros"), more=filled)
        made = SharedArray(segment, asked.layout._replace(edges=edges), True)
        if filled:
            asked.put(made)
            call.agree()
        return made


def _gather_rows(call: collective, shape: Any, rows: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Collective over the communicator. The shape with the rows of all ranks, and where those of each begin and end."""
    extents = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if extents[:1] != (None,):
        raise InvalidArgument(f"shape is {shape!r}: where ranks bring rows, its first extent is None, as in (None, 3)")
    if not hasattr(rows, "__index__") or not 0 <= operator.index(rows) < 2**62:
        raise InvalidArgument(f"rows is {rows!r}: how many this rank brings is an int, not negative, and below 2**62")
    others = as_shape(extents[1:])
    call.arguments = f"shape={(None, *others)}, rows=…"
    call.agree(more=True)
    edges = (*accumulate(call.gather(operator.index(rows)), initial=0),)
    return (edges[-1], *others), edges


def _create_like(
    name: str,
    prototype: Any,
    dtype: Any,
    order: str | None,
    shape: Any,
    comm: CommLike,
    reserve: bool,
    fill: Any = NOTHING,
) -> SharedArray:
    shared = isinstance(prototype, SharedArray)
    where = topology(prototype.topology if comm is None and shared else comm)
    with collective(where, name):
        if not shared:
            prototype = plain_array(prototype)
    if order is None:
        fortran = prototype.order == "F" if shared else prototype.flags.fnc
        order = "F" if fortran else "C"
    kind = prototype.dtype if dtype is None else dtype
    return _create(name, prototype.shape if shape is None else shape, kind, order, where, reserve, None, fill)
