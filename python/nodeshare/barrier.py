# SPDX-License-Identifier: BSD-3-Clause
"""Where the ranks of a node wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .collective import collective
from .error import Error, InvalidArgument
from .topology import describe_error, topology

if TYPE_CHECKING:
    from .topology import CommLike

__all__ = ["Barrier"]


class Barrier:
    """A place where all ranks of a node wait for each other, without an array to synchronise.

    Making one is collective over the communicator, whose ranks must be on one node. It keeps nothing: it may be used in
    turn with all other collective calls, and as often as needed.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. On several nodes ``topology().node_comm`` makes a barrier for each.

    Raises
    ------
    InvalidArgument
        When the communicator's ranks are on several nodes.

    Examples
    --------
    >>> import nodeshare as ns
    >>> here = ns.Barrier()
    >>> here.wait()
    """

    __slots__ = ("__weakref__", "_core", "_node")

    def __init__(self, comm: CommLike = None) -> None:
        where = topology(comm)
        with collective(where, "Barrier") as call:
            self._core = call.barrier()
        self._node = where._core

    def wait(self, timeout: float | None = None) -> None:
        """Collective over the node. Every write before it, into any shared memory, is seen by all after it.

        Parameters
        ----------
        timeout : float, optional
            Seconds that this rank waits at most; when they are over it raises Error, and the others PeerError. Then all
            may wait again. Default: for ever.

        Raises
        ------
        InvalidArgument
            For a timeout that is no number, or negative; then the others raise PeerError.
        Mismatch
            When a rank calls something else.
        PeerError
            When one has ended, was interrupted, or ran out of time.
        """
        try:
            seconds = _seconds(timeout)
        except InvalidArgument as error:
            self._node.fail("barrier.wait", self._core.description, describe_error(error), True)
            raise
        self._core.wait(seconds)

    def __repr__(self) -> str:
        return f"<{self._core.description}>"

    def __reduce__(self) -> Any:
        raise Error("a Barrier is of the ranks that made it together, and can't be handed to other processes")


def _seconds(timeout: float | None) -> float:
    """Return it as the core takes it: -1 for ever."""
    if timeout is None:
        return -1
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = -1
    if not seconds >= 0:
        raise InvalidArgument(f"timeout is {timeout!r}: seconds are needed, or None to wait for ever")
    return seconds
