# SPDX-License-Identifier: BSD-3-Clause
"""Arrays of which every rank brings a part."""

from __future__ import annotations

import operator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from .collective import collective
from .error import InvalidArgument
from .layout import describe_dtype, make_layout
from .plain_array import plain_array
from .rows import block_runs
from .shared_array import SharedArray
from .topology import topology

if TYPE_CHECKING:
    from . import _core
    from .topology import CommLike

__all__ = ["from_parts"]


def from_parts(
    part: Any, axis: int = 0, *, order: str = "C", writable: bool = False, comm: CommLike = None
) -> SharedArray:
    """Collective over the communicator. Every rank's part along `axis` in rank order, one copy of the whole per node.

    What an ``MPI_Allgatherv`` gives each rank in memory of its own: a rank copies its part into place on its node, and
    that goes to the other nodes over the lanes.

    Parameters
    ----------
    part : array_like
        This rank's rows: an ndarray, list or fixed-width strings, of one dtype on all ranks, and of one shape but for
        its extent along `axis`, which may be 0. What ``np.asarray`` would rob of its meaning is refused.
    axis : int
        Along which the parts are put one after another; negative: counted from the last.
    order : {"C", "F"}
        Of the whole; parts may lie as they like.
    writable : bool
        By default the array is read-only: a stray write by one rank would change everyone's data.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Raises
    ------
    InvalidArgument
        For a part that is refused or 0-d, and an axis that it does not have.
    Mismatch
        When parts differ in dtype, or in shape beside `axis`; the text names the ranks.

    Others: see `empty`. Source: MPI-3.1, 5.7 (Gather-to-all).

    Examples
    --------
    >>> import nodeshare as ns
    >>> x = ns.from_parts([[1.0, 2.0], [3.0, 4.0]])
    >>> x.shape  # on one rank
    (2, 2)
    """
    where = topology(comm)
    with collective(where, "from_parts") as call:
        mine = _as_part(part)
        along = _as_axis(axis, mine.ndim)
        kind = describe_dtype(mine.dtype)
        call.arguments = f"part of shape {_with(mine.shape, along, 'any')}, dtype={kind}, axis={along}, order={order!r}"
        call.arguments += f", writable={writable}"
        call.agree(more=True)
        edges = [*accumulate(call.gather(mine.shape[along]), initial=0)]
        layout = make_layout(_with(mine.shape, along, edges[-1]), mine.dtype, order, where, "from_parts")
        segment = call.create(layout.nbytes, True, zeros=False, more=True)
        made = SharedArray(segment, layout, writable)
        whole = segment.ndarray(layout.dtype, layout.shape, layout.strides, True)
        _put(segment, whole[_with((slice(None),) * mine.ndim, along, slice(*edges[where.rank :][:2]))], mine)
        call.replicate(segment, block_runs(layout, edges, along))
        return made


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _as_part(part: Any) -> np.ndarray:
    if part is None:
        raise InvalidArgument("part is None: a rank without rows passes an array with none, as np.empty((0, 3))")
    mine = plain_array(part)
    if mine.ndim == 0:
        raise InvalidArgument("part is 0-d, so there is no axis to put parts along: pass part.reshape(1)")
    return mine


def _as_axis(axis: Any, ndim: int) -> int:
    if not hasattr(axis, "__index__") or not -ndim <= operator.index(axis) < ndim:
        raise InvalidArgument(f"axis is {axis!r}: a part of {ndim} axes has axes {-ndim} to {ndim - 1}")
    return operator.index(axis) % ndim


def _put(segment: _core.Segment, place: np.ndarray, part: np.ndarray) -> None:
    """Local. A part into place; in one piece where both are, past the caches."""
    both = place.flags, part.flags
    if part.nbytes and (all(f.c_contiguous for f in both) or all(f.f_contiguous for f in both)):
        segment.write(place.ctypes.data - segment.address, part.ctypes.data, part.nbytes)
    else:
        place[...] = part
