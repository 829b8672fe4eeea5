# SPDX-License-Identifier: BSD-3-Clause
"""Handles in pickles: only names of the memory travel, never its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _core
from .arena import ArenaArray
from .error import Error
from .layout import Layout
from .shared_array import SharedArray

if TYPE_CHECKING:
    from collections.abc import Callable


def reduce(segment: _core.Segment, layout: Layout, writable: bool, offset: int | None) -> Any:
    """Local. What pickle stores: where these ranks know the memory, and where any process can find it, if it can."""
    token = None if layout.topology is None else layout.topology._core.token
    try:
        descriptor, why = segment.describe(), ""
    except Error as error:
        if token is None:
            raise
        descriptor, why = None, str(error)
    place = (token, segment.id, segment.address)
    return attach, (place, descriptor, why, layout._replace(topology=None), writable, offset)


def attach(place: Any, descriptor: Any, why: str, layout: Layout, writable: bool, offset: int | None) -> SharedArray:
    """Local. The handle again: of this rank's own mapping, or of a new one where any process may have it."""
    token, number, address = place
    if token is not None:
        found = _core.find_segment(address)  # in the process that pickled it, and its forked children
        for segment in [*([found] if found is not None else []), *_core.segments()]:
            if _is(segment, token, number):
                if offset is not None:
                    return ArenaArray.at(segment, offset, layout, writable)
                return SharedArray(segment, segment.layout, segment.writable)
    if descriptor is None:
        raise Error(f"this process is no rank of the node that shares the array, or has let go of it, and {why}")
    segment = _core.attach(descriptor)
    if offset is None:
        return SharedArray(segment, layout, writable)
    segment.layout, segment.arena = layout, None
    return ArenaArray.at(segment, offset, layout, writable)


def reduce_words(at: Callable[[_core.Segment], Any], segment: _core.Segment) -> Any:
    """Local. What pickle stores of a lock, counter or container, which `at` finds in its memory."""
    try:
        descriptor, why = segment.describe(), ""
    except Error as error:
        descriptor, why = None, str(error)
    return attach_words, (at, (segment.token, segment.id), descriptor, why)


def attach_words(at: Callable[[_core.Segment], Any], place: tuple[int, int], descriptor: Any, why: str) -> Any:
    """Local. The same again, in this rank's own memory, or where any process may have it."""
    segment = _core.segment_of(*place)
    if segment is None:
        if descriptor is None:
            raise Error(f"this process is no rank of the node that shares it, or has let go of it, and {why}")
        segment = _core.attach(descriptor)
    return at(segment)


def _is(segment: _core.Segment, token: int, number: int) -> bool:
    if segment.id != number:
        return False
    topology = getattr(getattr(segment, "layout", None), "topology", None)
    return topology is not None and topology._core.token == token
