# SPDX-License-Identifier: BSD-3-Clause
"""Adding to elements that other ranks of the node add to at the same time."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .error import InvalidArgument
from .reduce import element_of, numbers_for
from .rows import offsets_of_index


def add_at(array: np.ndarray, index: Any, values: Any) -> None:
    """Local. As np.add.at, by atomic operations: a number is added as often as its element is selected."""
    chosen = array[index]
    if isinstance(chosen, np.generic):
        chosen = array[(*(index if isinstance(index, tuple) else (index,)), ...)]
    element = element_of(chosen.dtype)
    numbers = numbers_for(chosen.dtype, values, "what is to be added")
    if np.may_share_memory(numbers, array):
        numbers = numbers.copy()
    try:
        numbers = np.broadcast_to(numbers.astype(chosen.dtype, copy=False), chosen.shape)
    except ValueError:
        raise InvalidArgument(
            f"what is to be added has shape {numbers.shape}: the index selects elements of shape {chosen.shape}"
        ) from None
    if not np.may_share_memory(chosen, array):
        _core.add(element, offsets_of_index(array, index), numbers, array.__array_interface__["data"][0])
        return
    if not chosen.flags.aligned:
        raise InvalidArgument(
            f"the elements of {chosen.dtype} lie at addresses that are no multiples of {chosen.dtype.alignment}, where "
            "no processor adds in one step: align the record, np.dtype(…, align=True)"
        )
    _core.add(element, chosen, numbers, 0)
