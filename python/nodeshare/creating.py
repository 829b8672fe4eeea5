# SPDX-License-Identifier: BSD-3-Clause
"""Making arrays: empty ones, filled ones, and those that one rank has."""

from __future__ import annotations

import operator
import pickle
import zlib
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from .collective import collective
from .error import InvalidArgument
from .layout import Layout, as_dtype, as_shape, describe_dtype, make_layout
from .rows import whole_run
from .shared_array import SharedArray
from .topology import Topology, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["array", "empty", "empty_like", "full", "full_like", "ones", "ones_like", "zeros", "zeros_like"]


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


_PLAIN = (np.ndarray, np.memmap, np.recarray)


def plain_array(obj: Any, dtype: Any = None) -> np.ndarray:
    """Local. `obj` as an ndarray, unless that would rob it of its meaning."""
    if isinstance(obj, SharedArray):
        return obj.array
    name = f"{type(obj).__module__}.{type(obj).__qualname__}"
    if isinstance(obj, np.ndarray):
        if type(obj) not in _PLAIN:
            raise _more_than_numbers(obj)
        value = obj.view(np.ndarray) if type(obj) is np.memmap else np.asarray(obj)
    elif hasattr(obj, "__array__") and not isinstance(obj, np.generic) or not _is_array_like(obj):
        raise _more_than_numbers(obj)
    else:
        _refuse_rich_items(obj)
        try:
            value = np.asarray(obj) if dtype is None else np.asarray(obj, dtype)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"this {name} makes no array: {error}") from None
    if value.dtype.hasobject:
        raise InvalidArgument(
            f"this {name} makes an array of Python objects ({value.dtype}), which no other process can reach; "
            "give a dtype of plain bytes, for strings 'U10' or 'S10'"
        )
    return value


def _more_than_numbers(obj: Any) -> InvalidArgument:
    name = f"{type(obj).__module__}.{type(obj).__qualname__}"
    return InvalidArgument(f"a {name} is more than its numbers: pass np.asarray(obj) if they are all that is meant")


def _refuse_rich_items(obj: Any) -> None:
    """Local. What is refused by itself (a masked array) is refused in a list too."""
    if isinstance(obj, (list, tuple)):
        for item in obj:
            if isinstance(item, (list, tuple)):
                _refuse_rich_items(item)
            elif isinstance(item, np.ndarray) and type(item) not in _PLAIN:
                raise _more_than_numbers(item)


def _is_array_like(obj: Any) -> bool:
    if isinstance(obj, (bool, int, float, complex, str, bytes, np.generic, list, tuple, range)):
        return True
    try:
        memoryview(obj)
    except TypeError:
        return type(obj).__module__ == "datetime"
    return True


NOTHING = object()  # no value to fill with


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


class Asked:
    """Local. What a creator was asked for: its layout, the value that fills it, and both in words."""

    __slots__ = ("fill", "layout", "words")

    def __init__(self, name: str, shape: Any, dtype: Any, order: str, where: Topology | None, fill: Any) -> None:
        if fill is not NOTHING:
            fill = np.asarray(fill)
            dtype = fill.dtype if dtype is None else dtype
        layout = make_layout(shape, dtype, order, where, name)
        self.words = f"shape={layout.shape}, dtype={describe_dtype(layout.dtype)}, order={order!r}"
        if fill is not NOTHING:
            try:  # in full on every rank, also on those that will have no rows to fill
                fill = np.asarray(fill.astype(layout.dtype), order="C")
                np.broadcast_to(fill, layout.shape)
            except (TypeError, ValueError) as error:
                raise InvalidArgument(f"fill_value does not fit shape {layout.shape} of {dtype}: {error}") from None
            self.words += f", fill_value={_describe(fill)}"
        self.layout, self.fill = layout, fill

    def put(self, made: SharedArray) -> None:
        """Local. The value into this rank's rows."""
        start, stop = made._share()
        whole = np.broadcast_to(self.fill, made.shape)
        made._view_of_rows(start, stop)[...] = whole[start:stop] if self.fill.ndim else self.fill


def _describe(fill: np.ndarray) -> str:
    """Local. A value in short, and a number that differs where values differ."""
    short = " ".join(str(fill).split())
    return f"{short:.60}{'…' * (len(short) > 60)} ({describe_dtype(fill.dtype)}, {_checksum(fill):08x})"


def _checksum(values: np.ndarray) -> int:
    """Local. Of what elements mean, not of the random bytes between a record's fields or behind a long double."""
    if values.dtype.names is not None:
        return zlib.crc32(repr([_checksum(values[name]) for name in values.dtype.names]).encode())
    if values.dtype.char in "gG":
        values = values.astype(values.dtype.char.translate({ord("g"): "d", ord("G"): "D"}))
    return zlib.crc32(values.tobytes())


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
