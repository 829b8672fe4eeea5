# SPDX-License-Identifier: BSD-3-Clause
"""What the ranks of a node share in a few words of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .collective import collective
from .error import Error
from .pickling import reduce_words
from .topology import topology

if TYPE_CHECKING:
    from typing_extensions import Self

    from . import _core
    from .topology import CommLike

__all__ = ["Words"]


class Words:
    """A lock or counter: made by the ranks together, handed on to other processes by its memory."""

    __slots__ = ()

    _name: ClassVar[str]
    _make: ClassVar[Any]  # of the core, which makes its memory
    _memory: _core.Segment

    def __new__(cls, comm: CommLike = None) -> Self:
        with collective(topology(comm), cls._name) as call:
            return cls._at(call.make_words(cls._make))

    @classmethod
    def _at(cls, segment: _core.Segment) -> Self:
        """Local. The one that lies in this memory."""
        return super().__new__(cls, segment)  # type: ignore[call-arg]  # of the core's type that comes next

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise Error(f"a {self._name} is not copied: it is of use as one for all")

    def __reduce__(self) -> Any:
        return reduce_words(self._at, self._memory)
