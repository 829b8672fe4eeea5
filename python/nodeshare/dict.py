# SPDX-License-Identifier: BSD-3-Clause
"""A dict that the ranks of a node share."""

from __future__ import annotations

import io
import numbers
import pickle
from collections.abc import ItemsView, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .container import CAPACITY, Container, packed, unpacked
from .error import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .topology import CommLike

__all__ = ["Dict"]

_NO_DEFAULT = object()


class Dict(Container, MutableMapping):  # type: ignore[type-arg]
    """A dict that the ranks of a node share, with their threads and forked children; as `dict`.

    Making one is collective over the communicator, whose ranks must be on one node; the rest is local, and each call is
    one step for all others: nothing is lost or doubled, and nobody sees half a value. Iterating and comparing give what
    was there at one moment, in the order of insertion.

    Values are what pickle can carry. Each read gives an object of its own, so ``shared["a"].append(1)`` changes nothing
    in the dict; arrays in it (and what else hands out its buffers) are read-only views of the shared memory, which stay
    as they are when the entry is replaced or deleted, and when the dict is gone. A forked child reads its own: what it
    has of its parent's views stays as long as the parent keeps them.

    Keys are strings, bytes, numbers, None, tuples of these, and other hashable objects whose pickles are always the
    same. Integers and floats that are equal are one key, which is read back as the int if it is one; a named tuple is
    read back as a plain one.

    When a rank ends within a call (killed, say), those that come later raise PeerError. `update` is a step for each
    entry.

    Parameters
    ----------
    mapping : mapping or iterable of pairs, optional
        The entries at first; those of rank 0 count.
    capacity : int, optional
        Bytes that entries take at most, with about 250 for each; only what is used takes memory. Beyond it
        OutOfSharedMemory is raised, and nothing changes.
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a dict for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes, or for a capacity that is none.

    Examples
    --------
    >>> import numpy as np
    >>> import nodeshare as ns
    >>> shared = ns.Dict({"a": 1})
    >>> shared[2, "b"] = np.arange(3)
    >>> list(shared.items())
    [('a', 1), ((2, 'b'), array([0, 1, 2]))]
    >>> shared.setdefault("a", 5)
    1
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _name = "Dict"
    _core_type = _core.Dict

    def __init__(self, mapping: Any = (), *, capacity: int = CAPACITY, comm: CommLike = None) -> None:
        self._make(comm, capacity, lambda: self.update(mapping))

    def __len__(self) -> int:
        return len(self._core)

    def __contains__(self, key: Any) -> bool:
        return _packed_key(key) in self._core

    def __getitem__(self, key: Any) -> Any:
        kept = self._core.get(_packed_key(key))
        if kept is None:
            raise KeyError(key)
        return unpacked(kept)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._core.set(_packed_key(key), packed(value))

    def __delitem__(self, key: Any) -> None:
        if self._core.pop(_packed_key(key)) is None:
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return map(_unpacked_key, self._core.keys())

    def __reversed__(self) -> Iterator[Any]:
        return map(_unpacked_key, reversed(self._core.keys()))

    def values(self) -> ValuesView[Any]:
        """Local. A view of the values, as of `dict`; each iteration over it gives those of one moment."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Local. A view of the entries, as of `dict`; each iteration over it gives those of one moment."""
        return _Items(self)

    def pop(self, key: Any, default: Any = _NO_DEFAULT) -> Any:
        """Local. Takes an entry out and gives its value, to one rank only. Raises KeyError if there is none."""
        kept = self._core.pop(_packed_key(key))
        if kept is None and default is _NO_DEFAULT:
            raise KeyError(key)
        return default if kept is None else unpacked(kept)

    def popitem(self) -> tuple[Any, Any]:
        """Local. Takes the last entry out. No two ranks get the same. Raises KeyError if there is none."""
        last = self._core.popitem()
        if last is None:
            raise KeyError("popitem(): dictionary is empty")
        return _unpacked_key(last[0]), unpacked(last[1])

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Local. The value of a key, which is `default` from now on if it had none: the same for all that ask."""
        kept = self._core.setdefault(_packed_key(key), packed(default))
        return default if kept is None else unpacked(kept)

    def clear(self) -> None:
        """Local. Takes all entries out."""
        self._core.clear()

    def copy(self) -> dict[Any, Any]:
        """Local. A dict of what is there now, of this rank alone."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dict):
            other = other.copy()
        return self.copy() == other if isinstance(other, dict) else NotImplemented

    def __or__(self, other: Any) -> dict[Any, Any]:
        return {**self.copy(), **other} if isinstance(other, (dict, Dict)) else NotImplemented

    def __ior__(self, other: Any) -> Dict:
        self.update(other)
        return self


class _Values(ValuesView):  # type: ignore[type-arg]
    _mapping: Dict

    def __iter__(self) -> Iterator[Any]:
        return (unpacked(kept) for _, kept in self._mapping._core.items())

    def __contains__(self, value: object) -> bool:
        return any(one is value or one == value for one in self)


class _Items(ItemsView):  # type: ignore[type-arg]
    _mapping: Dict

    def __iter__(self) -> Iterator[Any]:
        return ((_unpacked_key(key), unpacked(kept)) for key, kept in self._mapping._core.items())


def _packed_key(key: Any) -> bytes:
    """Local. Bytes that are the same for equal keys, in every process: `hash` is not."""
    if type(key) is str:
        return b"s" + key.encode("utf-8", "surrogatepass")
    if type(key) is int:
        return b"i%x" % key
    hash(key)  # TypeError where a dict would raise it
    plain = _plain_key(key)
    if type(plain) in (str, int):
        return _packed_key(plain)
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 5)
    pickler.fast = True  # without a memo, which tells equal objects from the same
    pickler.dump(plain)
    return b"p" + stream.getvalue()


def _unpacked_key(packed_key: bytes) -> Any:
    kind, content = packed_key[:1], packed_key[1:]
    if kind == b"s":
        return content.decode("utf-8", "surrogatepass")
    return int(content, 16) if kind == b"i" else pickle.loads(content)


def _plain_key(key: Any) -> Any:
    if isinstance(key, (frozenset, memoryview)):
        raise InvalidArgument(
            f"the key {key!r} can't be told from others by its pickle; allowed are strings, bytes, numbers, None, "
            "tuples of these, and objects that pickle always in the same way: make it a sorted tuple, or bytes"
        )
    if isinstance(key, np.generic) and not isinstance(key, (np.void, np.datetime64, np.timedelta64)):
        key = key.item()
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, tuple):
        return tuple(map(_plain_key, key))
    if isinstance(key, numbers.Number) and not isinstance(key, np.timedelta64):
        return _plain_number(key)
    return key


def _plain_number(key: Any) -> Any:
    """Local. The int or float that equals it, if there is one."""
    if isinstance(key, numbers.Integral):
        return int(key)
    try:
        simple = float(key.real if isinstance(key, complex) else key)
    except (TypeError, ValueError, OverflowError):
        return key
    if simple != key:
        return key
    return int(simple) if simple.is_integer() else simple
