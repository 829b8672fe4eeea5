# SPDX-License-Identifier: BSD-3-Clause
"""Pickles whose buffers lie beside them (protocol 5), also where NumPy and SciPy would put them into the stream.

Source: PEP 574, "Pickle protocol 5 with out-of-band data".
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import numpy as np


def pickled(obj: Any) -> tuple[bytes, list[memoryview]]:
    """Local. The stream, and the buffers that are not in it, as bytes."""
    return pickled_by(Pickler, obj)


def pickled_by(kind: Any, obj: Any, *rest: Any) -> tuple[bytes, list[memoryview]]:
    """Local. The same, by a pickler of another class."""
    stream, buffers = io.BytesIO(), []  # type: ignore[var-annotated]
    kind(stream, buffers, *rest).dump(obj)
    return stream.getvalue(), [buffer.raw() for buffer in buffers]


class Pickler(pickle.Pickler):
    """Hands out buffers also where NumPy and SciPy would not, or where what they hand out could not be used."""

    def __init__(self, stream: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(stream, 5, buffer_callback=buffers.append)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            return _reduce_array(obj)
        sparse = sys.modules.get("scipy.sparse")
        if sparse is not None and sparse.issparse(obj) and obj.format in ("csr", "csc", "bsr"):
            if not obj.has_canonical_format:
                obj = obj.copy()
                obj.sum_duplicates()
            return obj.__reduce_ex__(5)
        return NotImplemented


def _reduce_array(array: np.ndarray) -> Any:
    """Local. As NumPy would, which hands out no buffers of datetimes, arrays with gaps and subclasses."""
    if array.dtype.itemsize == 0:
        return NotImplemented
    plain = array.view(np.ndarray)
    if not plain.flags.forc:
        plain = plain.copy()
    if type(array) in (np.ndarray, np.memmap):
        order = "C" if plain.flags.c_contiguous else "F"
        raw = plain.reshape(-1, order=order).view(np.uint8)  # type: ignore[call-overload]
        return _array, (pickle.PickleBuffer(raw), plain.dtype, plain.shape, order)
    if type(array) in (np.recarray, np.matrix):
        return np.ndarray.view, (plain, type(array))
    if type(array) is np.ma.MaskedArray:
        return _masked, (plain, array.mask, array.fill_value, array.hardmask)
    return NotImplemented


def _array(buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape, order=order)


def _masked(data: np.ndarray, mask: Any, fill_value: Any, hard: bool) -> np.ma.MaskedArray:
    return np.ma.MaskedArray(data, mask, fill_value=fill_value, hard_mask=hard, copy=False)
