# SPDX-License-Identifier: BSD-3-Clause
"""What an object is as an array of plain bytes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from .error import InvalidArgument
from .shared_array import SharedArray

__all__ = ["plain_array"]

_PLAIN = (np.ndarray, np.memmap, np.recarray)


def plain_array(obj: Any, dtype: Any = None) -> np.ndarray:
    """Local. `obj` as an ndarray, unless that would rob it of its meaning."""
    if isinstance(obj, SharedArray):
        return obj.array
    name = f"{type(obj).__module__}.{type(obj).__qualname__}"
    if isinstance(obj, np.ndarray):
        if type(obj) not in _PLAIN:
            raise _more_than_numbers(obj)
        value = obj.view(np.ndarray) if type(obj) is np.memmap else np.asarray(obj)
    elif hasattr(obj, "__array__") and not isinstance(obj, np.generic) or not _is_array_like(obj):
        raise _more_than_numbers(obj)
    else:
        _refuse_rich_items(obj)
        try:
            value = np.asarray(obj) if dtype is None else np.asarray(obj, dtype)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"this {name} makes no array: {error}") from None
    if value.dtype.hasobject:
        raise InvalidArgument(
            f"this {name} makes an array of Python objects ({value.dtype}), which no other process can reach; "
            "give a dtype of plain bytes, for strings 'U10' or 'S10'"
        )
    return value


def _more_than_numbers(obj: Any) -> InvalidArgument:
    name = f"{type(obj).__module__}.{type(obj).__qualname__}"
    return InvalidArgument(f"a {name} is more than its numbers: pass np.asarray(obj) if they are all that is meant")


def _refuse_rich_items(obj: Any) -> None:
    """Local. What is refused by itself (a masked array) is refused in a list too."""
    if isinstance(obj, (list, tuple)):
        for item in obj:
            if isinstance(item, (list, tuple)):
                _refuse_rich_items(item)
            elif isinstance(item, np.ndarray) and type(item) not in _PLAIN:
                raise _more_than_numbers(item)


def _is_array_like(obj: Any) -> bool:
    if isinstance(obj, (bool, int, float, complex, str, bytes, np.generic, list, tuple, range)):
        return True
    try:
        memoryview(obj)
    except TypeError:
        return type(obj).__module__ == "datetime"
    return True
