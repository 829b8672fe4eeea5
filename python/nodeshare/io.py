# SPDX-License-Identifier: BSD-3-Clause
"""Reading files into shared arrays, and writing them."""

from __future__ import annotations

import ast
import os
import re
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .collective import collective
from .error import InvalidArgument
from .handle import handle
from .layout import Layout, as_dtype, describe_dtype, make_layout
from .shared_array import SharedArray
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["load", "save"]


def load(path: str | os.PathLike[str], *, writable: bool = False, comm: CommLike = None) -> SharedArray:
    """Collective over the communicator. A ``.npy`` file as one array per node; read-only unless `writable`.

    Every rank reads its share, in parallel, straight into place; each byte is read once in the whole job and goes to
    the other nodes over the lanes. Nothing is unpickled.

    Parameters
    ----------
    path : path-like
        A file in NumPy's format 1.0 to 3.0 that all ranks can read; on disks of the nodes' own, the same on each.
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
    Error
        Where the file is written to while it is read, or replaced while ranks open it.
    Mismatch
        When ranks see different files.

    Source: numpy.lib.format, "NPY format".

    Examples
    --------
    See `save`.
    """
    where = topology(comm)
    with collective(where, "load") as call:
        name = os.fspath(path)
        call.arguments = repr(name)
        with open(name, "rb") as file:
            modified = os.fstat(file.fileno()).st_mtime_ns
            layout, start = _read_header(file, os.fsdecode(name), where)
            kind = describe_dtype(layout.dtype)
            call.arguments += f", shape={layout.shape}, dtype={kind}, order={layout.order!r}, writable={writable}"
            segment = call.create(layout.nbytes, True, zeros=False, more=True)
            made = SharedArray(segment, layout, writable)
            call.read_file(segment, file.fileno(), modified, os.fsencode(name), start)
        return made


def save(path: str | os.PathLike[str], a: SharedArray | np.ndarray) -> None:
    """Collective over the communicator of `a`. A shared array as a ``.npy`` file, which plain ``np.load`` reads.

    The ranks of node 0 write that node's array, in parallel. The file takes its name when it is whole and on the disk:
    until then it is beside it, as ``.<name>.nodeshare-<number>``. A file of that name is replaced, and passes on its
    mode; if anything fails it stays as it is, and nothing is left (but by a kill). No Python objects are pickled.

    Parameters
    ----------
    path : path-like
        As for ``np.save``, ``.npy`` is appended where the name does not end so.
    a : SharedArray or numpy.ndarray
        A shared array, or a view of one without gaps: whole rows, in Fortran order whole columns.

    Raises
    ------
    OSError
        On the ranks that cannot write the file; the others raise `PeerError` with its text.
    InvalidArgument
        For an array that is not shared, a view with gaps, or a path that leads to a device or a pipe.

    Source: numpy.lib.format, "NPY format"; rename(2), fsync(2).

    Examples
    --------
    >>> import os, tempfile
    >>> import nodeshare as ns
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> ns.save(path, ns.full((2, 3), 7.0))
    >>> ns.load(path).array
    array([[7., 7., 7.],
           [7., 7., 7.]])
    """
    whole = handle(a)
    with collective(whole.topology, "save") as call:
        memory = whole._memory
        array = a if isinstance(a, np.ndarray) else whole.array
        call.arguments = repr(os.fspath(path))
        name = os.fsencode(path)
        if not array.flags.forc:
            raise InvalidArgument(
                f"this view of shape {array.shape} and strides {array.strides} has gaps, so it is no piece of the "
                "array: save whole rows (in Fortran order whole columns), or a shared array of its own"
            )
        offset = array.__array_interface__["data"][0] - memory.address if array.nbytes else 0
        kind = describe_dtype(array.dtype)
        call.arguments += f", {whole._name()}: shape={array.shape}, dtype={kind} at byte {offset}"
        header = _make_header(array)
        call.write_file(memory, offset, array.nbytes, name if name.endswith(b".npy") else name + b".npy", header)


def _read_header(file: BinaryIO, path: str, where: Any) -> tuple[Layout, int]:
    """Local. The layout of a .npy file, and where its data begin."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise InvalidArgument(f"{path} is no .npy file of format 1.0 to 3.0")
    kind = "<H" if magic[6] == 1 else "<I"
    raw = file.read(struct.calcsize(kind))
    try:
        (length,) = struct.unpack(kind, raw)
        text = file.read(length).decode("utf-8" if magic[6] == 3 else "latin1")
        try:
            header = ast.literal_eval(text)
        except SyntaxError:  # Python 2 wrote its long integers as 3L
            header = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text))
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


def _make_header(array: np.ndarray) -> bytes:
    """Local. What stands before the data of a .npy file, in the oldest version that can say it, as NumPy writes it."""
    text = repr(np.lib.format.header_data_from_array_1_0(array))
    for version, kind, encoding in ((1, "<H", "latin1"), (2, "<I", "latin1"), (3, "<I", "utf-8")):
        try:
            raw = text.encode(encoding)
            raw += (
                b" " * (-(8 + struct.calcsize(kind) + len(raw) + 1) % 64) + b"\n"
            )  # the data begin at a multiple of 64
            return np.lib.format.magic(version, 0) + struct.pack(kind, len(raw)) + raw
        except (struct.error, UnicodeEncodeError):
            continue
    raise InvalidArgument(f"a header of {len(text)} characters is too long for a .npy file")
