# SPDX-License-Identifier: BSD-3-Clause
"""Code between collectives: who writes, and what the others learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .collective import collective
from .error import InvalidArgument
from .rows import whole_run

if TYPE_CHECKING:
    from .shared_array import SharedArray

__all__ = ["together"]


class together:
    """Collective over the communicator, at both ends of its block. Ranks write arrays, then all see them, or all raise.

    ``with ns.together(a, b, root=0) as mine:`` gives True on the ranks that write: all of them, or `root` alone. When a
    block raises on a rank, that rank raises its own exception at the end, and all others `PeerError` with its text.
    Else all arrays are in sync on every node; with `root`, every node has the bytes of root's node.

    Parameters
    ----------
    *arrays : SharedArray
        Of one communicator.
    root : int, optional
        The only rank that writes.

    Raises
    ------
    InvalidArgument
        For something that is no SharedArray, arrays of different communicators, a root that does not exist, or an array
        that is read-only on a rank that writes, or, with `root`, frozen with ``protect=True`` on any.

    Examples
    --------
    >>> import nodeshare as ns
    >>> a, b = ns.zeros(3), ns.zeros(3)
    >>> with ns.together(a, b, root=0) as mine:
    ...     if mine:
    ...         a.array[:], b.array[:] = 1, 2
    >>> b.array.tolist()
    [2.0, 2.0, 2.0]
    """

    def __init__(self, *arrays: SharedArray, root: int | None = None, gives: Any = None) -> None:
        self._arrays = arrays
        self._root = root
        self._gives = gives

    def __enter__(self) -> Any:
        from .shared_array import SharedArray

        known = [a for a in self._arrays if isinstance(a, SharedArray)]
        if not known:
            raise InvalidArgument("together() needs at least one SharedArray")
        topology = known[0].topology
        self._call = collective(topology, "together" if self._gives is None else "writing", f"root={self._root}")
        mine = self._root is None or topology.rank == self._root
        with self._call as call:
            for array in self._arrays:
                if not isinstance(array, SharedArray):
                    raise InvalidArgument(f"together() takes SharedArrays, not a {type(array).__name__}")
                if array.topology != topology:
                    raise InvalidArgument("the arrays of together() belong to different communicators")
                call.arguments += f", {array._name()}"
                if mine:
                    array._require_writable()
                elif self._root is not None:  # root's bytes come here
                    array._require_unprotected()
            self._node = None if self._root is None else topology.node_of(self._root)
            call.agree(more=True)
        if self._gives is None:
            return mine
        return self._gives if mine else None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        call = self._call
        if error is not None:
            call.__exit__(kind, error, traceback)
        elif self._node is None:
            call.agree()
        else:
            with call:
                for array in self._arrays:
                    array._replicate(call, whole_run(array._layout, self._node))
