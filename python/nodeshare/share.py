# SPDX-License-Identifier: BSD-3-Clause
"""Any object of one rank on all ranks, its arrays once per node."""

from __future__ import annotations

import io
import pickle
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from .collective import collective
from .layout import Layout
from .out_of_band import Pickler, pickled_by
from .pickling import attach
from .rows import block_runs, whole_run
from .shared_array import SharedArray
from .topology import Topology, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["share"]

_ALIGNMENT = 64  # bytes: a cache line, and the widest vectors


def share(obj: Any, *, root: int = 0, comm: CommLike = None) -> Any:
    """Collective over the communicator. `root`'s object on all ranks; its arrays are one read-only copy per node.

    What pickle can carry: dicts of arrays, nested containers, records, masked arrays, pandas' DataFrames, sparse
    matrices of SciPy, instances of classes. Every rank gets an object of its own, with the same arrays below: pickle
    hands out their buffers (protocol 5), and these go into pages that the node shares, each at a multiple of 64 bytes.
    All else (strings, numbers, arrays of Python objects, arrays of subclasses that pickle themselves) is a private copy
    on each rank. The pages are free when the last of the arrays is gone on every rank of the node.

    Parameters
    ----------
    obj : object
        What `root` has; only that of `root` counts, others may pass None. Sparse matrices come with sorted indices, and
        without duplicates: SciPy would sort them in place, when it first needs to, which read-only arrays forbid.
        Memory-mapped arrays come as ordinary ones, and shared arrays of the same communicator as what each rank has.
    root : int
        Rank whose object it is.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Returns
    -------
    object
        Equal to `obj`; also on `root` a new one.

    Raises
    ------
    Exception
        What pickling raised on `root`, or unpickling on a rank; the others raise `PeerError` with its text.
    InvalidArgument
        For a root that does not exist.
    OutOfSharedMemory
        When a node has not that much; see `empty`.

    Source: PEP 574, "Pickle protocol 5 with out-of-band data".

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> table = ns.share({"hour": np.arange(3), "place": ["roof", "field"]})
    >>> table["hour"], table["hour"].flags.writeable, table["place"]
    (array([0, 1, 2]), False, ['roof', 'field'])
    """
    where = topology(comm)
    with collective(where, "share", f"root={root}") as call:
        node = where.node_of(root)
        stream, buffers = _pickled(obj, where) if where.rank == root else (b"", [])
        call.agree(more=True)
        sizes = pickle.loads(call.exchange(pickle.dumps([len(buffer) for buffer in buffers]), root))
        stream = call.exchange(stream, root)
        starts, total = _places(sizes)
        call.arguments += f", {len(sizes)} buffers of {total} bytes"
        pieces = [
            (start, len(buffer), np.asarray(buffer).__array_interface__["data"][0])
            for start, buffer in zip(starts, buffers)
        ]
        layout = Layout((total,), np.dtype(np.uint8), "C", where, "share")
        segment = call.create_from(total, root, pieces)
        memory = SharedArray(segment, layout, False).array
        call.replicate(segment, whole_run(layout, node))
        shared = _unpickled(stream, [memory[start : start + size].data for start, size in zip(starts, sizes)], where)
        call.agree()
        return shared


def allgather_objects(call: collective, where: Topology, mine: Any) -> list[Any]:
    """Collective over the communicator, as the end of a call. Every rank's object, in rank order; arrays as in `share`.

    A rank's part of the pages begins with a table: how many pieces there are, and how long each; the first is the table
    itself, the second the stream.
    """
    stream, buffers = _pickled(mine, where)
    pieces = [memoryview(stream), *buffers]
    sizes = [8 * (len(pieces) + 2), *map(len, pieces)]
    pieces.insert(0, np.array([len(sizes), *sizes]).data.cast("B"))
    starts, total = _places(sizes)
    call.agree(more=True)
    edges = [*accumulate(call.gather(-(-total // _ALIGNMENT) * _ALIGNMENT), initial=0)]
    layout = Layout((edges[-1],), np.dtype(np.uint8), "C", where, call.name)
    segment = call.create(layout.nbytes, True, zeros=False, more=True)
    memory = segment.ndarray(layout.dtype, layout.shape, layout.strides, True)
    for start, piece in zip(starts, pieces):
        memory[edges[where.rank] + start :][: len(piece)] = piece
    call.replicate(segment, block_runs(layout, edges))
    memory = SharedArray(segment, layout, False).array
    everyone_s = [_object_of(part, where) for part in np.split(memory, edges[1:-1])]
    call.agree()
    return everyone_s


def _object_of(part: np.ndarray, where: Topology) -> Any:
    """Local. What a rank put into its part of the pages."""
    numbers = part.view(np.int64)
    sizes = numbers[1 : 1 + numbers[0]].tolist()
    _, stream, *buffers = (part[start : start + size].data for start, size in zip(_places(sizes)[0], sizes))
    return _unpickled(stream, buffers, where)


def _places(sizes: list[int]) -> tuple[list[int], int]:
    """Local. Where each buffer begins, and the bytes of all."""
    starts, end = [], 0
    for size in sizes:
        starts.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
        end = starts[-1] + size
    return starts, end


def _pickled(obj: Any, where: Topology) -> tuple[bytes, list[memoryview]]:
    """Local. The stream, and the buffers that are not in it, as bytes."""
    return pickled_by(_Pickler, obj, where)


def _unpickled(stream: Any, buffers: list[memoryview], where: Topology) -> Any:
    unpickler = _Unpickler(io.BytesIO(stream), buffers=buffers)
    unpickler.where = where
    return unpickler.load()


class _Pickler(Pickler):
    def __init__(self, stream: io.BytesIO, buffers: list[pickle.PickleBuffer], where: Topology) -> None:
        super().__init__(stream, buffers)
        self._where = where

    def persistent_id(self, obj: Any) -> Any:
        """Local. A shared array by what all ranks know of it: on another node it is another memory."""
        if isinstance(obj, SharedArray) and obj.topology == self._where:
            return obj._memory.id, obj._layout._replace(topology=None), obj.array.flags.writeable, obj._offset
        return None


class _Unpickler(pickle.Unpickler):
    where: Topology

    def persistent_load(self, known: Any) -> SharedArray:
        number, layout, writable, offset = known
        why = "share() hands on which array it was, not its bytes"
        return attach((self.where._core.token, number, 0), None, why, layout, writable, offset)
