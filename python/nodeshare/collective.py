# SPDX-License-Identifier: BSD-3-Clause
"""Python's part of a collective call: what it raises becomes this rank's status, and the other ranks hear of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import _core
from .error import Error
from .topology import Topology, describe_error, plain_text

if TYPE_CHECKING:
    from .reduce import Contribution


class collective:
    """Local by itself. The frame around a call over the communicator.

    Between entering and leaving, the call makes the same agreements on every rank, through this object's methods. Where
    one rank's Python raises on the way, the rank stands its exception for the next agreement: the others raise
    `PeerError` there, and all leave.
    """

    __slots__ = ("_node", "arguments", "name")

    def __init__(self, topology: Topology, name: str, arguments: str = "") -> None:
        self._node = topology._core
        self.name = name
        self.arguments = arguments

    def __enter__(self) -> collective:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and not self.agreed(error):
            try:
                self._node.fail(self.name, plain_text(self.arguments), describe_error(error), False)
            finally:
                _mark(error, self._node)

    def agreed(self, error: BaseException) -> bool:
        """Local. Whether all ranks of the communicator know of an exception, as it came out of their last agreement."""
        return getattr(error, "_nodeshare_agreed", None) == (self._node.token, self._node.agreements)

    def agree(self, more: bool = False) -> None:
        """Collective over the communicator. `more`: this call agrees again later."""
        self._in_step(self._node.agree, more)

    def create(self, nbytes: int, reserve: bool, zeros: bool, more: bool = False) -> _core.Segment:
        """Collective over the communicator. Bytes on each node; without `zeros` they are whatever is there."""
        made: _core.Segment = self._in_step(self._node.create, nbytes, reserve, zeros, more)
        return made

    def create_from(self, nbytes: int, source: int, pieces: list[tuple[int, int, int]]) -> _core.Segment:
        """Collective over the communicator. Bytes on each node; on that of `source` its (offset, nbytes, address)."""
        made: _core.Segment = self._in_step(self._node.create_from, nbytes, source, pieces, True)
        return made

    def trim(self) -> None:
        """Collective over the communicator. Gives idle memory back to the system."""
        self._in_step(self._node.trim)

    def exchange(self, content: bytes, root: int) -> bytes:
        """Collective over the communicator, between agreements. Root's bytes for everybody."""
        received: bytes = self._in_step(self._node.exchange, content, root)
        return received

    def gather(self, number: int) -> list[int]:
        """Collective over the communicator, between agreements. Every rank's number, in rank order."""
        numbers: list[int] = self._in_step(self._node.gather, number)
        return numbers

    def replicate(self, segment: _core.Segment, runs: Any) -> None:
        """Collective over the communicator. Runs of bytes to all nodes."""
        self._in_step(segment.replicate, runs)

    def allgather_work(self, segment: _core.Segment, layout: tuple[int, int, int, int], work: _core.Work) -> None:
        """Collective over the communicator. Rows from the nodes that did them."""
        self._in_step(segment.allgather_work, layout, work)

    def allreduce(
        self, segment: _core.Segment, offset: int, count: int, element: _core.Element, op: Any, mine: Contribution
    ) -> None:
        """Collective over the communicator. Elements of all ranks, combined, into every node's array."""
        try:
            self._in_step(partial(_core.allreduce, segment), offset, count, element, op, mine.source)
        except Error:
            if mine.error is None:
                raise
            _mark(mine.error, self._node)
            raise mine.error from None

    def allreduce_copies(
        self, segment: _core.Segment, offset: int, count: int, element: _core.Element, op: Any
    ) -> None:
        """Collective over the communicator. The copies of all nodes, combined."""
        self._in_step(partial(_core.allreduce_copies, segment), offset, count, element, op)

    def checksum(self, segment: _core.Segment, offset: int, nbytes: int) -> int:
        """Collective over the communicator. A digest of bytes that all nodes agree on."""
        digest: int = self._in_step(segment.checksum, offset, nbytes)
        return digest

    def read_file(self, segment: _core.Segment, file: int, modified: int, path: bytes, offset: int) -> None:
        """Collective over the communicator. An open file's bytes from `offset` on, on every node."""
        self._in_step(segment.read_file, file, modified, path, offset)

    def write_file(self, segment: _core.Segment, offset: int, nbytes: int, path: bytes, header: bytes) -> None:
        """Collective over the communicator. Node 0's bytes, behind a header, as the file at `path`."""
        self._in_step(segment.write_file, offset, nbytes, path, header)

    def deal(self, count: int, chunk: int, dynamic: bool, more: bool = False) -> _core.Work:
        """Collective over the communicator. Work of `count` indices."""
        made: _core.Work = self._in_step(partial(_core.Work, self._node), count, chunk, dynamic, more)
        return made

    def arena(self, nbytes: int, reserve: bool) -> _core.Arena:
        """Collective over the communicator. Zeroed bytes on each node, to take arrays from."""
        made: _core.Arena = self._in_step(partial(_core.Arena, self._node), nbytes, reserve)
        return made

    def make_words(self, make: Any) -> _core.Segment:
        """Collective over the communicator, on one node. Memory of a lock or counter, by `make` of the core."""
        made: _core.Segment = self._in_step(partial(make, self._node))
        return made

    def heap(self, capacity: int) -> _core.Segment:
        """Collective over the communicator, on one node. Memory of a container."""
        made: _core.Segment = self._in_step(partial(_core.make_heap, self._node), capacity)
        return made

    def barrier(self) -> _core.Barrier:
        """Collective over the communicator, on one node. A barrier of its ranks."""
        made: _core.Barrier = self._in_step(partial(_core.Barrier, self._node))
        return made

    def _in_step(self, call: Any, *rest: Any) -> Any:
        try:
            return call(self.name, plain_text(self.arguments), *rest)
        except (TypeError, OverflowError, UnicodeError):  # of an argument's conversion: nobody has agreed yet
            raise
        except BaseException as error:
            _mark(error, self._node)
            raise


def _mark(error: BaseException, node: _core.Node) -> None:
    error._nodeshare_agreed = (node.token, node.agreements)  # type: ignore[attr-defined]
