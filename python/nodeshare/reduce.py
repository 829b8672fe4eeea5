# SPDX-License-Identifier: BSD-3-Clause
"""What combining needs to know: the kind of elements, the operation, and what a rank brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

import numpy as np

from . import _core
from .error import InvalidArgument
from .layout import describe_dtype
from .topology import describe_error

if TYPE_CHECKING:
    from mpi4py import MPI

    Op = Union[str, MPI.Op]


def element_of(dtype: np.dtype) -> _core.Element:
    """Local. The core's word for a dtype. Raises InvalidArgument where elements are no numbers of this machine."""
    name = dtype.name
    if dtype.kind in "fc" and dtype.char in "gG" and name not in ("float64", "complex128"):
        name = "longdouble" if dtype.kind == "f" else "clongdouble"
    if name not in _core.Element.__members__:
        raise InvalidArgument(
            f"elements are {describe_dtype(dtype)}: what can be combined is integers, floating-point and complex "
            "numbers, and bool (of records: an array of its own for each such field)"
        )
    if not dtype.isnative:
        raise InvalidArgument(
            f"elements are {describe_dtype(dtype)}, in another byte order than this machine's: what can be combined is "
            f"{dtype.newbyteorder('=').str}"
        )
    return _core.Element.__members__[name]


def operation_of(op: Op) -> tuple[_core.Operation | int, str]:
    """Local. An operation as the core takes it (a made one as a Fortran handle), and its name."""
    from mpi4py import MPI

    if isinstance(op, MPI.Op):
        return op.py2f(), next((name for name in _core.Operation.__members__ if op == _predefined(name)), "an MPI.Op")
    if not isinstance(op, str) or op not in _core.Operation.__members__:
        raise InvalidArgument(f"op is {op!r}: allowed are {' '.join(_core.Operation.__members__)}, or an mpi4py.MPI.Op")
    return _core.Operation.__members__[op], op


def _predefined(name: str) -> MPI.Op:
    from mpi4py import MPI

    op: MPI.Op = getattr(MPI, name.upper())
    return op


def numbers_for(dtype: np.dtype, values: Any, name: str) -> np.ndarray:
    """Local. Values as an ndarray that NumPy casts to `dtype` as "same_kind"; Python's numbers become such."""
    if isinstance(values, np.ma.MaskedArray):
        raise InvalidArgument(f"{name} is a masked array: fill what is masked, by filled(…)")
    if type(values) in (int, float, complex) and dtype.kind in "iufc" and np.result_type(dtype, values) == dtype:
        return np.asarray(values, dtype)
    out = np.asarray(values)
    if not np.can_cast(out.dtype, dtype, "same_kind"):
        raise InvalidArgument(
            f"{name} is of {describe_dtype(out.dtype)}, which is not of the same kind as the array's "
            f"{describe_dtype(dtype)}: convert it by astype() if that is meant"
        )
    return out


class Contribution:
    """Local. What this rank brings, in the order of the array's memory.

    `source` is its address if it lies so already, else a function that puts elements from `first` on into a buffer,
    converted, and returns why it could not (empty if it could); what it raised is `error` then.
    """

    def __init__(self, values: Any, array: np.ndarray, order: str) -> None:
        self.error: BaseException | None = None
        self._values = numbers_for(array.dtype, values, "the contribution")
        self._dtype = array.dtype
        if self._values.shape != array.shape:
            raise InvalidArgument(
                f"the contribution has shape {self._values.shape}: {array.shape} is needed, that of the array (nothing "
                "is broadcast)"
            )
        flags = self._values.flags
        in_place = flags.f_contiguous if order == "F" else flags.c_contiguous
        if in_place and flags.aligned and self._values.dtype == array.dtype:
            self.source: Any = self._values.__array_interface__["data"][0]
            return
        if np.may_share_memory(self._values, array):
            raise InvalidArgument("the contribution overlaps the array without being all of it: pass a copy")
        self._flat = (self._values.T if order == "F" else self._values).flat
        self.source = self._put

    def _put(self, first: int, room: memoryview) -> str:
        try:
            to = np.frombuffer(room, self._dtype)
            np.copyto(to, self._flat[first : first + to.size], casting="same_kind")
        except BaseException as error:
            self.error = error
            return describe_error(error)
        return ""
