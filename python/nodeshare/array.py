# SPDX-License-Identifier: BSD-3-Clause
"""Arrays that one rank has."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from .collective import collective
from .error import InvalidArgument
from .layout import Layout, as_dtype, describe_dtype, make_layout
from .plain_array import plain_array
from .rows import whole_run
from .shared_array import SharedArray
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["array"]


def array(obj: Any, dtype: Any = None, *, root: int = 0, writable: bool = False, comm: CommLike = None) -> SharedArray:
    """Collective over the communicator. `root`'s array, one copy per node on all nodes; read-only unless `writable`.

    Parameters
    ----------
    obj : array_like
        What `root` has: an ndarray, memmap, list, scalar, fixed-width strings. Only that of `root` counts; others may
        pass None. What ``np.asarray`` would rob of its meaning (objects, masks, units, tables, sparse matrices) is
        refused.
    dtype : data-type, optional
        Converted to it on the way into place.
    root : int
        Rank that has the array.
    writable : bool
        By default the array is read-only: a stray write by one rank would change everyone's data.

    Raises
    ------
    InvalidArgument
        For what is refused, and a root that does not exist.

    Others: see `empty`.

    Examples
    --------
    >>> import nodeshare as ns
    >>> x = ns.array([[1.0, 2.0], [3.0, 4.0]])
    >>> x.array.flags.writeable
    False
    """
    where = topology(comm)
    with collective(where, "array", f"root={root}, writable={writable}") as call:
        node = where.node_of(root)
        is_root = where.rank == root
        header = b""
        wanted = None
        if dtype is not None:
            call.arguments += f", dtype={describe_dtype(as_dtype(dtype)[0])}"
            wanted = np.dtype(dtype)
        if is_root:
            if obj is None:
                raise InvalidArgument("obj is None on the root: the root passes the array, the others None")
            value = plain_array(obj, dtype)
            if (
                wanted is not None and np.empty(0, wanted).dtype != wanted
            ):  # 'S', 'M8': the values say how long, which unit
                value = value.astype(wanted)
            order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
            kind = value.dtype if wanted is None or wanted.itemsize == 0 else wanted
            layout = make_layout(value.shape, kind, order, where)
            if layout.shape != value.shape:
                raise InvalidArgument(f"dtype is {dtype!r}: array() does not take subarray types")
            as_it_is = value.dtype == layout.dtype and (order == "F" or value.flags.c_contiguous)
            header = pickle.dumps((layout.shape, layout.dtype, layout.order, as_it_is))
        call.agree(more=True)
        shape, kind, order, as_it_is = pickle.loads(call.exchange(header, root))
        layout = Layout(shape, kind, order, where, "array")
        call.arguments += f", shape={shape}, dtype={describe_dtype(kind)}"
        if as_it_is:
            segment = call.create_from(layout.nbytes, root, [(0, layout.nbytes, value.ctypes.data)] if is_root else [])
        else:
            segment = call.create(layout.nbytes, True, zeros=False, more=True)
        made = SharedArray(segment, layout, writable)
        if is_root and not as_it_is:
            segment.ndarray(kind, shape, layout.strides, True)[...] = value
        call.replicate(segment, whole_run(layout, node))
        return made
