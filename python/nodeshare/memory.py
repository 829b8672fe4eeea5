# SPDX-License-Identifier: BSD-3-Clause
"""What this rank's memory goes into."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from . import _core
from .collective import collective
from .topology import topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["ArrayMemory", "Memory", "memory", "trim"]


class ArrayMemory(NamedTuple):
    """One living array, or an arena with all its arrays.

    Bytes once per node, its kind of memory, ranks of the node that hold it, where it was made, and how many of its
    bytes are used: all of an array's, and of an arena's those taken.
    """

    nbytes: int
    kind: str
    holders: int
    made: str
    used: int


class Memory(NamedTuple):
    """What `memory` found, in bytes.

    `shared` and `private` are proportional set sizes (PSS): a page that n processes share counts as 1/n in each, so
    that the sum over a node's ranks is what the node has. `recycled` is memory of arrays that nobody holds any more,
    kept for the next ones: see `trim`.
    """

    limit: int
    shared: int
    private: int
    recycled: int
    arrays: tuple[ArrayMemory, ...]


def memory() -> Memory:
    """Local. Limit of the node, this rank's shared and private bytes (PSS), and the living arrays.

    Source: proc(5), /proc/self/smaps_rollup, /proc/meminfo.

    Examples
    --------
    >>> import nodeshare as ns
    >>> a = ns.zeros(1000)
    >>> ns.memory().arrays[-1].nbytes
    8000
    """
    found = _fields("/proc/self/smaps_rollup")
    shared = found.get("Pss_Shmem", 0)
    arrays = tuple(
        ArrayMemory(s.nbytes, s.kind, s.holders, s.description, arena.used if arena is not None else s.nbytes)
        for s in _core.segments()
        if s.nbytes
        for arena in [getattr(s, "arena", None)]
    )
    return Memory(
        _fields("/proc/meminfo").get("MemTotal", 0), shared, found.get("Pss", 0) - shared, _core.idle_bytes(), arrays
    )


def trim(comm: CommLike = None) -> None:
    """Collective over the communicator. Gives memory that is kept for the next arrays back to the system.

    The memory of an array that all ranks have let go of is kept, and the next array that fits is made in it: its pages
    need not be taken from the system once more, which costs ten times as much as writing them. At most an eighth of the
    memory that is free is kept so, and it gives way before `OutOfSharedMemory` is raised; so this is seldom needed.

    Examples
    --------
    >>> import nodeshare as ns
    >>> ns.trim()
    >>> ns.memory().recycled
    0
    """
    with collective(topology(comm), "trim") as call:
        call.trim()


def _fields(path: str) -> dict[str, int]:
    """Local. "Name: 12 kB" lines of a file of /proc, in bytes."""
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        rows = [line.split() for line in file]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
