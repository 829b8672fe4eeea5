# SPDX-License-Identifier: BSD-3-Clause
"""Blocks of rows that a function or a source gives, on their way into place."""

from __future__ import annotations

from typing import Any

import numpy as np

from .error import InvalidArgument
from .plain_array import plain_array

BLOCK_BYTES = 4 << 20  # of what a rank holds privately at a time, where blocks can be so small


def put(place: np.ndarray, given: Any, what: str, casting: Any = "same_kind") -> None:
    """Local. A block into place. Raises InvalidArgument for another shape, and for a type that is not cast so."""
    if given is None:
        raise InvalidArgument(f"{what} gave None: an array of shape {place.shape} is needed")
    try:
        block = plain_array(given)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from None
    if block.shape != place.shape:
        raise InvalidArgument(f"{what} gave shape {block.shape}: {place.shape} is needed")
    if not np.can_cast(block.dtype, place.dtype, casting):
        raise InvalidArgument(f"{what} gave {block.dtype}: {place.dtype} can't hold that, so ask for another dtype")
    np.copyto(place, block, casting=casting)
