# SPDX-License-Identifier: BSD-3-Clause
"""A function of each block of an array, computed by all ranks."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import BLOCK_BYTES, put
from .collective import collective
from .error import InvalidArgument
from .layout import as_dtype, describe_dtype, make_layout
from .map import require_out
from .plain_array import plain_array
from .rows import describe_numbers, runs_of_index
from .shared_array import SharedArray
from .topology import topology
from .work import deal

if TYPE_CHECKING:
    from . import _core
    from .topology import CommLike

__all__ = ["map_blocks"]

_BLOCKS_PER_RANK = 4  # by default, where rows suffice: so that a slow block does not hold up the others


def map_blocks(
    f: Callable[..., Any],
    a: Any,
    /,
    *,
    chunks: Any = None,
    dtype: Any = None,
    out: SharedArray | None = None,
    comm: CommLike = None,
    **kwargs: Any,
) -> SharedArray:
    """Collective over the communicator. ``f(block, **kwargs)`` of each block of `a`, each computed once in the job.

    What ``dask.array.from_array(a, chunks).map_blocks(f, dtype=dtype, **kwargs).compute()`` gives, as one copy per node
    and whole on all nodes. Blocks are dealt to the ranks as by `work`.

    Parameters
    ----------
    f : callable
        Called with a read-only view of a block, at any time on any rank; it may not call what is collective over the
        communicator. It gives an array_like of the block's shape. If it has arguments named `block_id` or `block_info`,
        these are dask's: a block's number along each axis; for input (0) and output (None) a dict with "shape",
        "num-chunks", "array-location", "chunk-location", and for the output "chunk-shape" and "dtype".
    a : SharedArray or array_like
        The same on every rank.
    chunks : int, or tuple of (int or tuple of int) for each axis; optional
        Lengths of the blocks: a number for all along all axes or along one (the last may be shorter), all of them along
        an axis, or -1 for a whole axis. Default: rows of at most 4 MiB, at least a row, and four blocks for each rank
        or more where there are so many rows; so give them where `f` looks beyond single elements.
    dtype : data-type, optional
        Of the result; what `f` gives is cast to it if it is of the same kind (``numpy.can_cast``). Default: that of
        `out`; else what `f` gives for a block of zeros of shape ``(1,) * a.ndim``, for which every rank calls it first.
    out : SharedArray, optional
        A writable one of the shape of `a`, for the result; it may be `a` itself.
    comm : mpi4py.MPI.Comm, optional
        Default: that of `a` if it is shared, else that of `out`, else ``COMM_WORLD``.
    **kwargs
        For `f`.

    Returns
    -------
    SharedArray
        `out`, or a new, writable one in the order of `a`.

    Raises
    ------
    InvalidArgument
        For an `f` that can't be called, or of which no dtype can be inferred; chunks that do not add up to the shape;
        an `out` that does not fit; when f gives another shape, or what does not fit into the dtype.
    Exception
        What `f` raised, on the rank where it did; the others raise `PeerError` with its text: those of its node after
        the block that they are at, those of other nodes when theirs are done. Blocks of `out` that were computed by
        then stay, on the nodes that did.

    Others: see `work`, `empty`.

    Notes
    -----
    Left out of dask's: several arrays, and results of other shapes (`chunks` there, `drop_axis`, `new_axis`).

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> x = ns.array(np.arange(12.0).reshape(3, 4))
    >>> ns.map_blocks(lambda block, by: block - block.mean() * by, x, chunks=(-1, 2), by=2).array.tolist()
    [[-9.0, -8.0, -11.0, -10.0], [-5.0, -4.0, -7.0, -6.0], [-1.0, 0.0, -3.0, -2.0]]
    """
    shared = next((one for one in (a, out) if isinstance(one, SharedArray)), None)
    where = topology(shared.topology if comm is None and shared is not None else comm)
    with collective(where, "map_blocks") as call:
        if not callable(f):
            raise InvalidArgument(f"f is a {type(f).__name__}: a function of a block is needed")
        blocks = _Blocks(f, kwargs, plain_array(a), chunks, where.size)
        call.arguments = f"a of shape {blocks.a.shape}, {describe_dtype(blocks.a.dtype)}, order {blocks.order}, "
        call.arguments += f"chunks {blocks.counts} {describe_numbers(np.concatenate([[0], *blocks.edges]))}, "
        if out is None:
            kind, casting = (blocks.inferred_dtype(), "safe") if dtype is None else (_as_dtype(dtype), "same_kind")
            call.arguments += f"dtype={describe_dtype(kind)}, "
            layout = make_layout(blocks.a.shape, kind, blocks.order, where, "map_blocks")
            made = SharedArray(call.create(layout.nbytes, True, zeros=False, more=True), layout, True)
        else:
            require_out(call, where, out)
            blocks.require_fits(out, dtype)
            made, casting = out, "same_kind"
        dealt = deal(call, where, math.prod(blocks.counts), None, "dynamic", False, more=True)
        dealt.run(lambda number: blocks.compute(number, made, casting))
        made._replicate(call, blocks.runs(made, dealt.core))
        return made


class _Blocks:
    """How an array is cut, and what is computed of its blocks; they are numbered in the order of its memory."""

    def __init__(self, f: Callable[..., Any], options: dict[str, Any], a: np.ndarray, chunks: Any, ranks: int) -> None:
        self.a = a.view()
        self.a.flags.writeable = False
        self.order = "F" if a.flags.fnc else "C"
        self.edges = _default_edges(a, ranks) if chunks is None else _edges(chunks, a.shape)
        self.counts = tuple(len(edges) - 1 for edges in self.edges)
        self._f = f
        self._options = options
        self._tells = _words_of(f) & {"block_id", "block_info"} - options.keys()

    def inferred_dtype(self) -> np.dtype:
        """Local. The dtype of what `f` gives for a small block, as dask infers it."""
        sample = np.zeros((1,) * self.a.ndim, self.a.dtype)
        try:
            with np.errstate(all="ignore"):
                given = self._f(sample, **self._options, **self._told((0,) * self.a.ndim, None))
            return plain_array(given).dtype
        except Exception as error:
            text = f"what f gives for a block of zeros, of shape {sample.shape}, tells no dtype, so pass dtype="
            raise InvalidArgument(f"{text} ({type(error).__name__}: {error})") from error

    def require_fits(self, out: SharedArray, dtype: Any) -> None:
        """Local. Raises InvalidArgument for an array that can't take the result."""
        if out.shape != self.a.shape:
            raise InvalidArgument(f"out has shape {out.shape}, but a has {self.a.shape}")
        if dtype is not None and _as_dtype(dtype) != out.dtype:
            raise InvalidArgument(f"dtype is {dtype!r}, but out has {out.dtype}: leave dtype away")
        places = [(one.__array_interface__["data"][0], one.strides) for one in (self.a, out.array)]
        if np.may_share_memory(self.a, out.array) and places[0] != places[1]:
            raise InvalidArgument("out overlaps a, which other ranks still read: pass a itself, or another array")

    def compute(self, number: int, made: SharedArray, casting: str) -> None:
        """Local. One block, into place."""
        turn = _turn(made)
        block_id = tuple(int(i) for i in np.unravel_index(number, self.counts[turn])[turn]) if self.counts else ()
        index = self._index([(i, i + 1) for i in block_id])
        place: np.ndarray = made.array[index]
        result = self._f(self.a[index], **self._options, **self._told(block_id, made.dtype))
        name = ", ".join(f"{one.start}:{one.stop}" for one in index[:-1])
        put(place, result, f"f(block {block_id}, a[{name or '...'}])", casting)

    def runs(self, made: SharedArray, dealt: _core.Work) -> np.ndarray:
        """Local. The bytes of all blocks, from the nodes that computed them."""
        turn = _turn(made)
        runs = [np.empty((0, 5), np.int64)]
        for first, last, node in dealt.owners():
            for box in _boxes(first, last, self.counts[turn]):
                runs.append(runs_of_index(made.array, self._index(box[turn]), node))
        return np.concatenate(runs)

    def _index(self, box: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
        return (*(slice(edges[first], edges[last]) for edges, (first, last) in zip(self.edges, box)), ...)

    def _told(self, block_id: tuple[int, ...], dtype: np.dtype | None) -> dict[str, Any]:
        """Local. What `f` wants to know of a block."""
        told: dict[str, Any] = {}
        if "block_id" in self._tells:
            told["block_id"] = block_id
        if "block_info" in self._tells:
            place = [(edges[i], edges[min(i + 1, len(edges) - 1)]) for edges, i in zip(self.edges, block_id)]
            words = ("shape", "num-chunks", "array-location", "chunk-location")
            one = dict(zip(words, (self.a.shape, self.counts, place, block_id)))
            chunk_shape = tuple(last - first for first, last in place)
            told["block_info"] = {0: one, None: {**one, "chunk-shape": chunk_shape, "dtype": dtype}}
        return told


def _turn(made: SharedArray) -> slice:
    """Local. Applied to what there is for each axis: in the order in which blocks are numbered, and back."""
    return slice(None, None, -1 if made.order == "F" else 1)


def _words_of(f: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(f).parameters)
    except (TypeError, ValueError):  # of what is written in C
        return set()


def _default_edges(a: np.ndarray, ranks: int) -> list[list[int]]:
    if not a.ndim:
        return []
    rows = a.shape[0]
    length = max(1, min(BLOCK_BYTES * rows // max(a.nbytes, 1), -(-rows // (_BLOCKS_PER_RANK * ranks))))
    return _edges((length, *[-1] * (a.ndim - 1)), a.shape)


def _edges(chunks: Any, shape: Sequence[int]) -> list[list[int]]:
    """Local. Where blocks begin and end along each axis."""
    each = chunks if isinstance(chunks, (tuple, list)) else (chunks,) * len(shape)
    if len(each) != len(shape):
        raise InvalidArgument(f"chunks is {chunks!r}: an int, or an entry for each axis of shape {shape}, is needed")
    return [_edges_along(one, extent, chunks) for one, extent in zip(each, shape)]


def _edges_along(lengths: Any, extent: int, chunks: Any) -> list[int]:
    try:
        each = [operator.index(n) for n in (lengths if isinstance(lengths, (tuple, list)) else (lengths,))]
    except TypeError:
        raise InvalidArgument(f"chunks is {chunks!r}: allowed are ints, and tuples of ints for an axis") from None
    if not isinstance(lengths, (tuple, list)):
        step = extent if each[0] == -1 else each[0]
        if step < 1 <= extent:
            raise InvalidArgument(f"chunks is {chunks!r}: along an axis a block has an index or more, or -1: all")
        return [*range(0, extent, max(step, 1)), extent] if extent else [0]
    if sum(each) != extent or min(each, default=1) < 1:
        raise InvalidArgument(f"chunks is {chunks!r}: {lengths} are not lengths that add up to {extent}")
    return [*accumulate(each, initial=0)]


def _as_dtype(dtype: Any) -> np.dtype:
    kind, inner = as_dtype(dtype)
    if inner or np.dtype(dtype).itemsize == 0:
        raise InvalidArgument(f"dtype is {dtype!r}: map_blocks takes no subarray types and none without a length")
    return kind


def _boxes(first: int, last: int, counts: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Local. Boxes, as (first, last) for each axis, of the blocks number `first` up to `last`, counted in C order."""
    if not counts:
        yield from [()] * (last - first)
        return
    inner = math.prod(counts[1:])
    while first < last:
        i = first // inner
        if first % inner or last - first < inner:  # within one index of the first axis
            end = min(last, (i + 1) * inner)
            inside = _boxes(first - i * inner, end - i * inner, counts[1:])
            yield from (((i, i + 1), *box) for box in inside)
        else:
            end = last // inner * inner
            yield ((i, end // inner), *((0, n) for n in counts[1:]))
        first = end
