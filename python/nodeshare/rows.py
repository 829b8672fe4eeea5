# SPDX-License-Identifier: BSD-3-Clause
"""Which bytes of an array are right on which node, as runs: rows of (offset, bytes, node, stride, count)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .error import InvalidArgument
from .layout import Layout

if TYPE_CHECKING:
    from .work import Work

    Owner = Union[Work, Sequence[int], np.ndarray, None]


def whole_run(layout: Layout, node: int) -> np.ndarray:
    """Local. All bytes, from one node."""
    return np.array([[0, layout.nbytes, node, 0, 1]], np.int64)


def byte_runs(nbytes: int, topology: Any) -> np.ndarray:
    """Local. Bytes dealt to the ranks in equal blocks, each from its rank's node."""
    size = topology.size
    edges = [nbytes * rank // size for rank in range(size + 1)]
    return np.array([[edges[r], edges[r + 1] - edges[r], topology.node_of(r), 0, 1] for r in range(size)], np.int64)


def owner_runs(layout: Layout, owner: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Local. Each row from the node of its owner: a rank for each row; None: who brought it, or `local_range`."""
    topology = layout.topology
    assert topology is not None
    n, size = layout.rows, topology.size
    if owner is None:
        return block_runs(layout, layout.edges or [n * rank // size for rank in range(size + 1)])
    ranks = np.asarray(owner)
    if ranks.shape != (n,) or (n and ranks.dtype.kind not in "iu"):
        raise InvalidArgument(
            f"owner has shape {ranks.shape} and dtype {ranks.dtype}: a rank (an int) for each of the {n} rows is needed"
        )
    bad = np.flatnonzero((ranks < 0) | (ranks >= size))
    if bad.size:
        raise InvalidArgument(f"owner of row {bad[0]} is {ranks[bad[0]]}: ranks are 0 to {size - 1}")
    node_of = np.array([topology.node_of(rank) for rank in range(size)], np.int64)
    nodes = node_of[ranks.astype(np.int64)] if n else np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, nodes[1:] != nodes[:-1]]) if n else np.empty(0, np.int64)
    return _to_runs(layout, 0, starts, np.r_[starts[1:], n] if n else starts, nodes[starts])


def block_runs(layout: Layout, edges: Sequence[int], axis: int = 0) -> np.ndarray:
    """Local. Of an axis, the indices from ``edges[rank]`` to ``edges[rank + 1]`` from each rank's node."""
    topology = layout.topology
    assert topology is not None
    node_of = np.array([topology.node_of(rank) for rank in range(topology.size)], np.int64)
    all_edges = np.array(edges, np.int64)
    return _to_runs(layout, axis, all_edges[:-1], all_edges[1:], node_of)


def _to_runs(layout: Layout, axis: int, starts: np.ndarray, stops: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    extent, piece, pieces = layout.along(axis)
    runs = np.empty((len(starts), 5), np.int64)
    runs[:, 0] = starts * piece
    runs[:, 1] = (stops - starts) * piece
    runs[:, 2] = nodes
    runs[:, 3] = extent * piece
    runs[:, 4] = pieces
    return runs[(runs[:, 1] > 0) & (pieces > 0)]


def describe_numbers(numbers: np.ndarray) -> str:
    """Local. A short text that differs where the numbers of ranks differ (Python's own hash of bytes is salted)."""
    return f"{numbers.shape}, {zlib.crc32(numbers.astype(np.int64).tobytes()):08x}"


def runs_of_index(array: np.ndarray, index: Any, node: int) -> np.ndarray:
    """Local. The bytes that ``array[index]`` selects, from one node."""
    if isinstance(index, list) and index and all(isinstance(name, str) for name in index):
        return np.concatenate([runs_of_index(array, name, node) for name in index])
    chosen = array[index]
    if isinstance(chosen, np.generic):
        chosen = array[(*(index if isinstance(index, tuple) else (index,)), ...)]
    if chosen.size == 0 or chosen.dtype.itemsize == 0:
        return np.empty((0, 5), np.int64)
    start = array.__array_interface__["data"][0]
    if np.may_share_memory(chosen, array):
        return _runs_of_view(chosen, start, node)
    offsets = np.unique(offsets_of_index(array, index))
    item = array.dtype.itemsize
    starts = np.r_[0, np.flatnonzero(np.diff(offsets) != item) + 1]
    lengths = np.diff(np.r_[starts, offsets.size])
    return np.stack([offsets[starts], lengths * item, *_rest(len(starts), node, 0, 1)], axis=1).astype(np.int64)


def offsets_of_index(array: np.ndarray, index: Any) -> np.ndarray:
    """Local. Where the elements that a fancy index selects begin, in bytes, in the shape of ``array[index]``.

    NumPy itself finds them in an array of the coordinates that occur in the index: it may be a few of very many.
    """
    items = [_index_item(item) for item in (index if isinstance(index, tuple) else (index,))]
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    taken = sum(_axes_taken(item) for item in items)
    coordinates: list[np.ndarray] = []  # along each axis, those that occur
    among: list[Any] = []  # the index in terms of these
    for item in items:
        if _axes_taken(item) == 0:  # a new axis, dots (which part fancy indices even if they stand for none), True
            among.append(item)
        if item is Ellipsis:
            first = len(coordinates)
            coordinates += map(np.arange, array.shape[first : first + array.ndim - taken])
        elif isinstance(item, slice):
            coordinates.append(np.arange(*item.indices(array.shape[len(coordinates)])))
            among.append(slice(None))
        elif isinstance(item, np.ndarray):
            for part in [item] if item.dtype != bool else item.nonzero() if item.ndim else []:
                extent = array.shape[len(coordinates)]
                found, places = np.unique(np.where(part < 0, part + extent, part), return_inverse=True)
                coordinates.append(found)
                among.append(places.reshape(part.shape) if part.ndim else 0)
    shape = tuple(map(len, coordinates))
    out = np.zeros((), np.int64)
    for axis, (found, stride) in enumerate(zip(coordinates, array.strides)):
        along = (found * stride).reshape([-1 if other == axis else 1 for other in range(array.ndim)])
        out = out + np.broadcast_to(along, shape)[tuple(among)]  # of no size before it is indexed
    return out if array.ndim else np.broadcast_to(out, shape)[tuple(among)]


def _index_item(item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    array = np.asarray(item)
    return array if array.size else array.astype(bool if array.dtype == bool else np.intp)


def _axes_taken(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == bool else 1


def _rest(rows: int, *values: int) -> list[np.ndarray]:
    return [np.full(rows, value, np.int64) for value in values]


def _runs_of_view(view: np.ndarray, start: int, node: int) -> np.ndarray:
    offset = view.__array_interface__["data"][0] - start
    axes = []
    for extent, stride in zip(view.shape, view.strides):
        if stride < 0:
            offset += stride * (extent - 1)
        if extent > 1:
            axes.append((abs(stride), extent))
    axes.sort()
    block = view.dtype.itemsize
    while axes and axes[0][0] == block:
        block *= axes.pop(0)[1]
    longest = max(range(len(axes)), key=lambda i: axes[i][1], default=0)
    stride, count = axes.pop(longest) if axes else (0, 1)  # all others are written out
    offsets = np.full(1, offset, np.int64)
    for outer_stride, extent in axes:
        offsets = np.add.outer(np.arange(extent, dtype=np.int64) * outer_stride, offsets).reshape(-1)
    assert len(offsets) * block * count == math.prod(view.shape) * view.dtype.itemsize
    return np.stack([offsets, *_rest(len(offsets), block, node, stride, count)], axis=1)
