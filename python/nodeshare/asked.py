# SPDX-License-Identifier: BSD-3-Clause
"""What a creator was asked for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .error import InvalidArgument
from .layout import describe_dtype, make_layout

if TYPE_CHECKING:
    from .shared_array import SharedArray
    from .topology import Topology

__all__ = ["NOTHING", "Asked"]

NOTHING = object()  # no value to fill with


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
