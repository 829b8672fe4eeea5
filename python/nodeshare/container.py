# SPDX-License-Identifier: BSD-3-Clause
"""What List, Dict, Queue and Pipe are built on: values in memory that the ranks of a node share."""

from __future__ import annotations

import operator
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .collective import collective
from .error import Error, InvalidArgument
from .out_of_band import pickled
from .pickling import reduce_words
from .topology import topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from . import _core
    from .topology import CommLike

CAPACITY = 2**30
_PLAIN = frozenset({int, float, str, bool, type(None), bytes})  # have no buffers


class Container:
    """Local by itself. Pickle hands on which container it is, not what is in it."""

    __slots__ = ("__weakref__", "_core")

    _name: ClassVar[str]
    _core_type: Any  # of the memory, the core's part
    _core: Any

    def _make(
        self, comm: CommLike, capacity: int, begin: Callable[[], None], arguments: str = "", on_all: bool = False
    ) -> None:
        """Collective over the communicator. `begin`, called by its rank 0, or by all, fills it."""
        where = topology(comm)
        with collective(where, self._name, f"{arguments}capacity={capacity!r}") as call:
            self._core = self._core_type(call.heap(as_capacity(capacity)))
            if on_all or where.rank == 0:
                begin()
            call.agree()

    @classmethod
    def _at(cls, segment: _core.Segment) -> Self:
        made = cls.__new__(cls)
        made._core = cls._core_type(segment)
        return made

    def usage(self) -> dict[str, int]:
        """Local. What its memory holds now: bytes, but for the last two.

        ``capacity``; ``used`` of it; ``present``: taken from the system, and kept for what is to come;
        ``largest_free``; ``blocks``: how many pieces are in use; ``views``: how many somebody has read and still keeps.
        """
        now: dict[str, int] = self._core.usage()
        return now

    def __reduce__(self) -> Any:
        return reduce_words(self._at, self._core.memory)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise Error(f"a {self._name} is not copied: what copy() or a loop gives is this rank's own")

    def __repr__(self) -> str:
        return f"<{self._core.memory.description}>"


def as_capacity(capacity: Any) -> int:
    """Local. A number of bytes."""
    try:
        nbytes = operator.index(capacity)
    except TypeError:
        nbytes = 0
    if not 0 < nbytes < 2**62:
        raise InvalidArgument(f"capacity is {capacity!r}: a number of bytes is needed, above 0 and below 2**62")
    return nbytes


def packed(value: Any) -> Any:
    """Local. As the core takes a value: bytes, or a sequence of a pickle and the buffers that are not in it."""
    kind = type(value)
    if kind in _PLAIN or (kind in (tuple, list) and _PLAIN.issuperset(map(type, value))):
        return pickle.dumps(value, 5)  # in a quarter of the time that a pickler of ours takes
    stream, buffers = pickled(value)
    return [stream, *buffers] if buffers else stream


def unpacked(kept: Any) -> Any:
    """Local. The value again. What was in buffers reads the shared memory, and keeps it."""
    if type(kept) is bytes:
        return pickle.loads(kept)
    return pickle.loads(kept[0], buffers=kept[1:])
