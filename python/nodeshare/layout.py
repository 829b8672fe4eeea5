# SPDX-License-Identifier: BSD-3-Clause
"""Shape, element type and order of an array, checked and in one form."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .error import InvalidArgument

if TYPE_CHECKING:
    from .topology import Topology

_MOST = 2**62  # bytes: what an address space could hold


class Layout(NamedTuple):
    """How an array lies in its segment, and whose it is."""

    shape: tuple[int, ...]
    dtype: np.dtype
    order: str
    topology: Topology | None
    made: str  # the call that made it
    edges: tuple[int, ...] | None = None  # where ranks brought rows of their own: those of rank r begin at edges[r]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        steps = []
        step = self.dtype.itemsize
        for extent in self.shape if self.order == "F" else reversed(self.shape):
            steps.append(step)
            step *= max(extent, 1)
        return tuple(steps if self.order == "F" else reversed(steps))

    @property
    def rows(self) -> int:
        """Extent of the first axis; a 0-d array is one row."""
        return self.shape[0] if self.shape else 1

    @property
    def row_layout(self) -> tuple[int, int, int]:
        """Rows, bytes of a row's contiguous piece, and how many such pieces (columns in Fortran order) a row has."""
        return self.along(0)

    def along(self, axis: int) -> tuple[int, int, int]:
        """Extent of an axis, bytes of the contiguous piece that one index of it selects, and how many such pieces."""
        if not self.shape:
            return 1, self.dtype.itemsize, 1
        before, after = math.prod(self.shape[:axis]), math.prod(self.shape[axis + 1 :])
        inner, outer = (before, after) if self.order == "F" else (after, before)
        return self.shape[axis], inner * self.dtype.itemsize, outer


def make_layout(shape: Any, dtype: Any, order: str, topology: Topology | None, made: str = "") -> Layout:
    """Local. Raises InvalidArgument for what no shared array can be: negative or huge extents, Python objects."""
    extents = as_shape(shape)
    dtype, inner = as_dtype(dtype)
    if order not in ("C", "F"):
        raise InvalidArgument(f"order is {order!r}: allowed are 'C' and 'F'")
    layout = Layout(extents + inner, dtype, order, topology, made)
    # an empty array's other extents count too, as NumPy's own limit counts them
    if math.prod(n for n in layout.shape if n) * max(dtype.itemsize, 1) > _MOST:
        raise InvalidArgument(f"shape {layout.shape} of {dtype} is too large: no address space holds that")
    return layout


def as_shape(shape: Any) -> tuple[int, ...]:
    """Local. An int or a sequence of ints, none negative."""
    try:
        extents = tuple(operator.index(n) for n in (shape if isinstance(shape, Iterable) else (shape,)))
    except TypeError:
        raise InvalidArgument(f"shape is {shape!r}: an int, or a sequence of ints, is needed") from None
    if any(n < 0 for n in extents):
        raise InvalidArgument(f"shape is {extents}: an extent is not negative")
    return extents


def as_dtype(dtype: Any) -> tuple[np.dtype, tuple[int, ...]]:
    """Local. The element type as NumPy creates it, and the extents that a subarray type adds to the shape."""
    try:
        sample = np.empty((0,), np.dtype(dtype))  # 'S' becomes 'S1', (float, 3) a float and an axis more
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"dtype is {dtype!r}: NumPy knows no such type ({error})") from None
    if sample.dtype.hasobject:
        raise InvalidArgument(
            f"dtype is {dtype!r}: its elements are Python objects, which no other process can reach; "
            "allowed is whatever is plain bytes: numbers, bool, datetime64, 'S10', 'U10', records of these"
        )
    return sample.dtype, sample.shape[1:]


def describe_dtype(dtype: np.dtype) -> str:
    """Local. A text that is the same exactly for equal types: with the names, offsets and padding of records."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return f"({describe_dtype(base)}, {shape})"
    if dtype.names is None:
        return dtype.str if dtype.kind != "V" else f"V{dtype.itemsize}"
    fields = []
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]  # type: ignore[index]
        fields.append(f"{name}: {describe_dtype(kind)} @{offset}")
    return "{" + ", ".join(fields) + f"; {dtype.itemsize} bytes}}"
