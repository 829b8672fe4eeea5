# SPDX-License-Identifier: BSD-3-Clause
"""A number that all ranks of a node count on."""

from __future__ import annotations

from . import _core
from .words import Words

__all__ = ["Counter"]


class Counter(Words, _core.Counter):
    """A number, 0 at first, to which the ranks of a node add, and their threads and forked children.

    Making one is collective over the communicator, whose ranks must be on one node; ``add(k=1, /)`` and ``value`` are
    local. ``add`` gives the value before, so no two ranks get the same, and nothing is lost when one is killed. It has
    64 bits and a sign, and wraps beyond, as integers of NumPy do.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a counter for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes.

    Examples
    --------
    >>> import nodeshare as ns
    >>> done = ns.Counter()
    >>> done.add(), done.add(10)
    (0, 1)
    >>> done.value
    11
    """

    __slots__ = ("__weakref__",)

    _name = "Counter"
    _make = staticmethod(_core.make_counter)
