# SPDX-License-Identifier: BSD-3-Clause
"""Arrays read from what other libraries have opened: HDF5, zarr, netCDF, memory-mapped files."""

from __future__ import annotations

import math
import mmap
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import BLOCK_BYTES, put
from .collective import collective
from .error import InvalidArgument
from .layout import as_dtype, describe_dtype, make_layout
from .rows import block_runs, whole_run
from .shared_array import SharedArray
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["from_source"]


def from_source(
    source: Any,
    select: Any = None,
    dtype: Any = None,
    *,
    order: str = "C",
    read: str = "once",
    writable: bool = False,
    comm: CommLike = None,
) -> SharedArray:
    """Collective over the communicator. What a source holds, one copy per node; read-only unless `writable`.

    Ranks read in parallel, each its share, straight into place; each element is read once in the whole job and goes to
    the other nodes over the lanes. Shares end where chunks of the source do, so that no chunk is decompressed twice;
    they are of the first axis with a chunk for every rank, else of that with most chunks.

    Parameters
    ----------
    source : object with shape, dtype and slicing
        Opened by every rank: an h5py dataset, a zarr array (2 or 3), a netCDF4 variable, a memmap or another ndarray.
        A rank holds privately at most 4 MiB of it at a time, or one chunk.
    select : int, slice, Ellipsis, or tuple of these; optional
        What to read of it, as h5py and NumPy index: ``np.s_[10:20, :, 3]``. Steps are positive. Default: all.
    dtype : data-type, optional
        Converted to it on the way into place, as by ``astype``. Default: what the source gives.
    order : {"C", "F"}
        Of the array, whatever that of the source is.
    read : {"once", "each-node"}
        Once in the job; or once on each node and nothing between them, for copies on the nodes' own disks.
    writable : bool
        By default the array is read-only: a stray write by one rank would change everyone's data.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Raises
    ------
    InvalidArgument
        For a source that is None, a path, or without shape; elements that are Python objects, as text of variable
        length is (one rank reads it, and passes ``text.astype("U10")`` to `array`); a `select` that does not fit;
        blocks that do not fit what the source said of itself.
    Mismatch
        When ranks have sources of different shape, dtype or chunks.

    What the source raises, it raises on the ranks that read there; the others raise `PeerError` with its text. Others:
    see `empty`.

    Notes
    -----
    A netCDF4 variable gives what its settings say: by default numbers with ``scale_factor`` and ``add_offset``, so
    float64, and missing values masked. A shared array has no mask: where values are masked, this raises
    InvalidArgument; ``source.set_auto_mask(False)`` gives the fill values as they are. Characters with an ``_Encoding``
    become texts there, and so are refused: ``source.set_auto_chartostring(False)`` gives characters. Chunks that a zarr
    array lacks are its fill value. A file that becomes shorter while it is read is an OSError; in a memmap where that
    is seen in time, else a SIGBUS.

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> table = np.arange(12.0).reshape(4, 3)  # or h5py.File("table.h5")["table"]
    >>> ns.from_source(table, np.s_[1:3], "f4").array.tolist()
    [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    """
    where = topology(comm)
    with collective(where, "from_source") as call:
        if read not in ("once", "each-node"):
            raise InvalidArgument(f"read is {read!r}: allowed are 'once' and 'each-node'")
        axes = _select(select, _shape_of(source), source)
        shape = tuple(axis.count for axis in axes if axis.kept)
        layout = make_layout(shape, _dtype_of(source, dtype), order, where, "from_source")
        call.arguments = f"source of shape {source.shape}, chunks={tuple(axis.chunk for axis in axes)}"
        call.arguments += f", select={tuple(axis.index(0, axis.count) for axis in axes)}, read={read!r}"
        call.arguments += f", dtype={describe_dtype(layout.dtype)}, order={order!r}, writable={writable}"
        segment = call.create(layout.nbytes, True, zeros=False, more=True)
        made = SharedArray(segment, layout, writable)
        whole = segment.ndarray(layout.dtype, layout.shape, layout.strides, True)
        rank, ranks = (where.rank, where.size) if read == "once" else (where.node_rank, where.node_size)
        dealt, edges = _deal([axis for axis in axes if axis.kept], ranks)
        reader = _Reader(source, axes, whole, "safe" if dtype is None else "unsafe")
        widest = max(layout.nbytes // max(1, math.prod(shape)), getattr(_given(source), "itemsize", 1), 1)
        for box in _boxes(reader.kept, dealt, edges[rank : rank + 2], BLOCK_BYTES // widest):
            reader.read(box)
        if read == "once":
            last = where.node_of(where.size - 1)
            call.replicate(segment, block_runs(layout, edges, dealt) if shape else whole_run(layout, last))
        else:
            call.agree()
        return made


@dataclass(frozen=True)
class _Axis:
    """What is selected of an axis of a source, and how long its chunks are."""

    start: int
    count: int
    step: int
    chunk: int
    kept: bool  # not by an int

    def index(self, first: int, last: int) -> Any:
        """Local. Of the selection, from `first` up to `last`, as the source counts."""
        if not self.kept:
            return self.start
        return slice(self.start + first * self.step, self.start + (last - 1) * self.step + 1, self.step)

    def border(self, i: int) -> int:
        """Local. The last index of the selection, up to `i`, with which a chunk or the selection begins or ends."""
        if i >= self.count:
            return self.count
        chunk = (self.start + i * self.step) // self.chunk * self.chunk
        return max(0, -((self.start - chunk) // self.step))

    @property
    def length(self) -> int:
        """Local. How many indices of the selection a chunk can hold."""
        return -(-self.chunk // self.step)

    def cut(self, first: int, last: int, length: int) -> list[tuple[int, int]]:
        """Local. Pieces of about `length`, which is no less than a chunk's, from `first` up to `last`."""
        out = []
        while first < last:
            end = min(self.border(first + length), last)
            out.append((first, end))
            first = end
        return out


def _select(select: Any, shape: tuple[int, ...], source: Any) -> list[_Axis]:
    asked = (...,) if select is None else select if isinstance(select, tuple) else (select,)
    dots = sum(one is ... for one in asked)
    if dots > 1 or len(asked) - dots > len(shape):
        raise InvalidArgument(f"select is {select!r}: the source has {len(shape)} axes, and `...` is allowed once")
    place = next((i for i, one in enumerate(asked) if one is ...), len(asked))
    full = (slice(None),) * (len(shape) - len(asked) + dots)
    asked = (*asked[:place], *full, *asked[place + 1 :])
    return [_axis(one, n, chunk) for one, n, chunk in zip(asked, shape, _chunks(source, len(shape)))]


def _axis(asked: Any, extent: int, chunk: int) -> _Axis:
    if isinstance(asked, slice):
        start, stop, step = asked.indices(extent)
        if step < 1:
            raise InvalidArgument(f"select has {asked}: steps are positive, as files are read forwards")
        return _Axis(start, len(range(start, stop, step)), step, chunk, True)
    if np.ndim(asked) or isinstance(asked, bool) or not hasattr(asked, "__index__"):
        raise InvalidArgument(f"select has {asked!r}: allowed are ints, slices and one `...`")
    index = operator.index(asked)
    if not -extent <= index < extent:
        raise InvalidArgument(f"select has {index}: that axis of the source has {extent} indices")
    return _Axis(index % extent, 1, 1, chunk, False)


def _chunks(source: Any, ndim: int) -> Sequence[int]:
    source = _underneath(source)
    chunks = source.chunking() if hasattr(source, "chunking") else getattr(source, "chunks", None)
    if isinstance(chunks, (tuple, list)) and len(chunks) == ndim and all(isinstance(n, int) for n in chunks):
        return [max(n, 1) for n in chunks]
    return [1] * ndim  # it may be cut anywhere


def _underneath(source: Any) -> Any:
    """Local. The dataset that a view of h5py's (``astype``, ``fields``) reads, else the source itself."""
    dataset = getattr(source, "_dset", None)
    return dataset if hasattr(dataset, "chunks") else source


def _shape_of(source: Any) -> tuple[int, ...]:
    name = type(source).__name__
    if source is None:
        raise InvalidArgument("source is None: every rank opens it, and reads its share")
    if not all(hasattr(source, word) for word in ("shape", "dtype", "__getitem__")):
        raise InvalidArgument(
            f"source is a {name}, without shape, dtype or slicing: open it and pass a dataset, as "
            "h5py.File(path)['name']; for .npy files there is load, for lists array"
        )
    if source.shape is None:
        raise InvalidArgument(f"source is a {name} without any elements: HDF5 calls its dataspace null")
    return tuple(source.shape)


def _dtype_of(source: Any, wanted: Any) -> np.dtype:
    if wanted is not None:
        kind, inner = as_dtype(wanted)
        if inner or np.dtype(wanted).itemsize == 0:
            raise InvalidArgument(f"dtype is {wanted!r}: from_source takes no subarray types and none without a length")
        return kind
    given: np.dtype = np.dtype(_given(source))
    return given


def _given(source: Any) -> Any:
    """Local. Of which type a source gives values."""
    if hasattr(source, "set_auto_maskandscale"):  # netCDF4: it may be another one than what is stored
        source = np.asarray(source[(slice(0, 0),) * len(source.shape)])
    return source.dtype


def _deal(axes: list[_Axis], ranks: int) -> tuple[int, list[int]]:
    """Local. Which axis is dealt to the ranks, and from where to where each has it; a single element is the last's."""
    if not axes:
        return 0, [rank // ranks for rank in range(ranks + 1)]
    counts = [-(-axis.count // axis.length) for axis in axes]
    dealt = next((i for i, n in enumerate(counts) if n >= ranks), counts.index(max(counts)))
    axis = axes[dealt]
    return dealt, [axis.border(axis.count * rank // ranks) for rank in range(ranks + 1)]


def _boxes(axes: list[_Axis], dealt: int, mine: Sequence[int], room: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Local. A rank's share, cut at borders of chunks into boxes of at most `room` elements, or of one chunk."""
    if not axes:
        return iter([()] * (mine[1] - mine[0]))
    bounds = [(mine[0], mine[1]) if i == dealt else (0, axis.count) for i, axis in enumerate(axes)]
    lengths = [max(1, min(axis.length, last - first)) for axis, (first, last) in zip(axes, bounds)]
    for i in reversed(range(len(axes))):  # the longest pieces in the array's memory
        fits = room * lengths[i] // math.prod(lengths)
        lengths[i] = min(max(lengths[i], fits), max(1, bounds[i][1] - bounds[i][0]))
    return product(*(axis.cut(*bound, length) for axis, bound, length in zip(axes, bounds, lengths)))


class _Reader:
    """Reads boxes of a source into their places."""

    def __init__(self, source: Any, axes: list[_Axis], whole: np.ndarray, casting: str) -> None:
        self.kept = [axis for axis in axes if axis.kept]
        self._source = source
        self._axes = axes
        self._whole = whole
        self._casting = casting
        self._file = _file_of(source)
        self._direct = hasattr(source, "read_direct") and source.dtype == whole.dtype  # h5py

    def read(self, box: tuple[tuple[int, int], ...]) -> None:
        """Local. A box is (first, last) for each axis of the array."""
        bounds = iter(box)
        index = tuple(axis.index(*(next(bounds) if axis.kept else (0, 1))) for axis in self._axes)
        inside: tuple[Any, ...] = (*(slice(*one) for one in box), ...)
        place = self._whole[inside]
        self._require_file()
        if self._direct and place.ndim and place.flags.c_contiguous:
            self._source.read_direct(place, index)
        else:
            self._put(place, index)
        self._require_file()

    def _put(self, place: np.ndarray, index: tuple[Any, ...]) -> None:
        block = self._source[index]
        if np.ndim(block) < place.ndim and hasattr(self._source, "set_auto_chartostring"):
            raise InvalidArgument(
                f"source has texts in {index}, where its shape counts their characters: "
                "source.set_auto_chartostring(False) makes netCDF4 give these"
            )
        if isinstance(block, np.ma.MaskedArray):
            if np.ma.is_masked(block):
                raise InvalidArgument(
                    f"source has masked values in {index}, and a shared array has no mask: "
                    "source.set_auto_mask(False) makes netCDF4 give fill values as they are"
                )
            block = block.data
        put(place, block, f"source[{index}]", self._casting)

    def _require_file(self) -> None:
        if self._file is not None:
            size, needed = self._file
            if size() < needed:
                raise OSError(f"the file of this {type(self._source).__name__} became shorter while it was read")


def _file_of(source: Any) -> tuple[Callable[[], int], int] | None:
    """Local. How long a source's file is, and has to be, where that is known.

    HDF5 reads zeros beyond the end of a file that it has open, and reading there in a memmap is a SIGBUS.
    """
    mapped = getattr(source, "_mmap", None)
    if isinstance(source, np.memmap) and isinstance(mapped, mmap.mmap):
        return mapped.size, source.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY + len(mapped)
    file: Any = getattr(_underneath(source), "file", None)
    if getattr(file, "driver", None) == "sec2" and file.mode == "r":  # h5py
        return lambda: os.fstat(file.id.get_vfd_handle()).st_size, file.id.get_filesize()
    if hasattr(source, "set_auto_maskandscale"):  # netCDF4
        parts = getattr(source, "_recVar", [source])  # an MFDataset has one in each of its files
        paths = [part.group().filepath() for part in parts]
        if all(map(os.path.exists, paths)):  # they may be in memory, or far away

            def size() -> int:
                return sum(os.stat(path).st_size for path in paths)

            return size, size()
    return None
