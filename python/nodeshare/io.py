# SPDX-License-Identifier: BSD-3-Clause
"""Reading files into shared arrays."""

from __future__ import annotations

import ast
import os
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .collective import collective
from .error import InvalidArgument
from .layout import Layout, as_dtype, describe_dtype, make_layout
from .rows import byte_runs
from .shared_array import SharedArray
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["load"]

_STEP = 64 << 20  # bytes a read


def load(path: str | os.PathLike[str], *, writable: bool = False, comm: CommLike = None) -> SharedArray:
    """Collective over the communicator. A ``.npy`` file as one array per node; read-only unless `writable`.

    Every rank reads its share, in parallel, straight into place; each byte is read once in the whole job and goes to
    the other nodes over the lanes. Nothing is unpickled.

    Parameters
    ----------
    path : path-like
        A file in NumPy's format 1.0 to 3.0 that all ranks can read.
    writable : bool
        By default the array is read-only: a stray write by one rank would change everyone's data.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``.

    Raises
    ------
    OSError
        On the ranks that cannot read the file; the others raise `PeerError` with its text.
    InvalidArgument
        For a file that is no ``.npy``, is shorter than its header says, or holds Python objects.
    Mismatch
        When ranks see different files.

    Source: numpy.lib.format, "NPY format".
    """
    where = topology(comm)
    with collective(where, "load", repr(path)) as call:
        with open(path, "rb") as file:
            layout, start = _read_header(file, os.fspath(path), where)
            kind = describe_dtype(layout.dtype)
            call.arguments += f", shape={layout.shape}, dtype={kind}, order={layout.order!r}, writable={writable}"
            segment = call.create(layout.nbytes, True, zeros=False, more=True)
            made = SharedArray(segment, layout, writable)
            runs = byte_runs(layout.nbytes, where)
            offset, nbytes = (int(n) for n in runs[where.rank, :2])
            view = segment.ndarray(np.dtype(np.uint8), (layout.nbytes,), (1,), True).data
            _read_into(file, view[offset : offset + nbytes], start + offset, os.fspath(path))
            call.replicate(segment, runs)
        return made


def _read_header(file: BinaryIO, path: str, where: Any) -> tuple[Layout, int]:
    """Local. The layout of a .npy file, and where its data begin."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise InvalidArgument(f"{path} is no .npy file of format 1.0 to 3.0")
    kind = "<H" if magic[6] == 1 else "<I"
    raw = file.read(struct.calcsize(kind))
    try:
        (length,) = struct.unpack(kind, raw)
        header = ast.literal_eval(file.read(length).decode("utf-8" if magic[6] == 3 else "latin1"))
        dtype, inner = as_dtype(np.lib.format.descr_to_dtype(header["descr"]))
        layout = make_layout((*header["shape"], *inner), dtype, "F" if header["fortran_order"] else "C", where, "load")
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error}") from None
    except Exception as error:
        raise InvalidArgument(f"{path} has a damaged header: {type(error).__name__}: {error}") from None
    start = file.tell()
    have = os.fstat(file.fileno()).st_size - start
    if have < layout.nbytes:
        raise InvalidArgument(f"{path} is truncated: {layout.nbytes} bytes of data are missing but for {have}")
    return layout, start


def _read_into(file: BinaryIO, view: memoryview, offset: int, path: str) -> None:
    """Local. Fills `view` from a place of the file on."""
    done = 0
    while done < len(view):
        got = os.preadv(file.fileno(), [view[done : done + _STEP]], offset + done)
        if got == 0:
            raise OSError(f"{path} became shorter while it was read")
        done += got
