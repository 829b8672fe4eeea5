# SPDX-License-Identifier: BSD-3-Clause
"""Back from what lies in shared memory to its handle."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .arena import handle_in_arena
from .error import InvalidArgument
from .shared_array import SharedArray

__all__ = ["handle", "is_shared"]


def handle(view: Any) -> SharedArray:
    """Local. The handle of the whole array behind a view, a slice, or anything that shares its memory.

    Raises
    ------
    InvalidArgument
        When it is no array of nodeshare's.

    Examples
    --------
    >>> import nodeshare as ns
    >>> part = ns.zeros((6, 2)).array[2:4]
    >>> ns.handle(part).shape
    (6, 2)
    """
    if isinstance(view, SharedArray):
        return view
    segment = _segment_of(view)
    if segment is None or not hasattr(segment, "layout"):
        raise InvalidArgument(f"this {type(view).__name__} does not lie in memory of nodeshare")
    if hasattr(segment, "arena"):
        return handle_in_arena(view, segment)
    return SharedArray(segment, segment.layout, segment.writable)


def is_shared(x: Any) -> bool:
    """Local. Whether `x` is a SharedArray, or an array that lies in one."""
    return isinstance(x, SharedArray) or _segment_of(x) is not None


def _segment_of(x: Any) -> _core.Segment | None:
    try:
        array = x if isinstance(x, np.ndarray) else np.asarray(memoryview(x))
    except (TypeError, ValueError, BufferError):
        return None
    return _core.find_segment(array.__array_interface__["data"][0])
