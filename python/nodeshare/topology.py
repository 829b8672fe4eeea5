# SPDX-License-Identifier: BSD-3-Clause
"""Which ranks share memory with which."""

from __future__ import annotations

import atexit
import operator
import sys
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _core
from .error import Error, InvalidArgument

if TYPE_CHECKING:
    from mpi4py import MPI

    CommLike = Optional[Union[MPI.Comm, "Topology"]]

__all__ = ["Topology", "local_range", "topology"]


class Topology:
    """The nodes and lanes of a communicator; made by `topology`.

    A *node* is a set of ranks that share memory; nodes are numbered by their lowest rank. A *lane* holds one rank of
    every node; lanes carry transfers between nodes in parallel.

    Attributes
    ----------
    rank, size : int
        This rank in the communicator, and the number of its ranks.
    node, nodes : int
        Index of this rank's node, and the number of nodes.
    node_rank, node_size : int
        This rank's place among the ranks of its node, and their number.
    host : str
        Host name of the node.
    per : {"node", "numa"}
        With "numa", the NUMA domains of the machines are the nodes.
    lane, lanes : int or None, int
        This rank's lane (None if it has none), and the number of lanes: the fewest ranks on any node, at most 8.
    """

    __slots__ = (
        "_comm",
        "_core",
        "host",
        "lane",
        "lanes",
        "node",
        "node_rank",
        "node_size",
        "nodes",
        "per",
        "rank",
        "size",
    )

    def __init__(self, core: _core.Node, comm: MPI.Comm, per: str = "node") -> None:
        self.per: str = per
        self._core = core
        self._comm = comm
        self.rank: int = core.rank
        self.size: int = core.size
        self.node: int = core.node
        self.nodes: int = core.nodes
        self.node_rank: int = core.node_rank
        self.node_size: int = core.node_size
        self.host: str = core.host
        self.lane: int | None = core.lane if core.lane >= 0 else None
        self.lanes: int = core.lanes

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, name):
            raise AttributeError(f"{name} of a Topology can't be set: it says how the ranks were placed")
        object.__setattr__(self, name, value)

    @property
    def comm(self) -> MPI.Comm:
        """Local. The user's communicator (mpi4py)."""
        return self._comm

    @property
    def unit(self) -> str:
        """Local. What has a copy of an array each, in words."""
        return "node" if self.per == "node" else "NUMA domain"

    @property
    def is_leader(self) -> bool:
        """Local. Whether this is the first rank of its node."""
        return self.node_rank == 0

    @property
    def node_comm(self) -> MPI.Comm:
        """Collective over the node on first use. A communicator of the node's ranks, a duplicate for the user."""
        from mpi4py import MPI

        return MPI.Intracomm.f2py(self._core.node_comm())

    @property
    def lane_comm(self) -> MPI.Comm:
        """Collective over the lane on first use. A communicator of the lane's ranks; COMM_NULL without a lane."""
        from mpi4py import MPI

        return MPI.Intracomm.f2py(self._core.lane_comm())

    def node_of(self, rank: int) -> int:
        """Local. Node of a rank. Raises InvalidArgument if there is no such rank."""
        return self._core.node_of(_number(rank, "rank", self.size))

    def ranks_on(self, node: int) -> list[int]:
        """Local. Ranks of a node in ascending order. Raises InvalidArgument if there is no such node."""
        return self._core.ranks_on(_number(node, "node", self.nodes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._core.token == other._core.token

    def __hash__(self) -> int:
        return hash(self._core.token)

    def __repr__(self) -> str:
        return (
            f"<Topology: rank {self.rank} of {self.size}, number {self.node_rank} of {self.node_size} "
            f"on {self.unit} {self.node} of {self.nodes} ({self.host})>"
        )


def _number(value: Any, what: str, count: int) -> int:
    """Local. A rank's or a node's number, if there is one of that number."""
    if not hasattr(value, "__index__") or not 0 <= operator.index(value) < count:
        raise InvalidArgument(f"there is no {what} {value!r}: the communicator has {what}s 0 to {count - 1}")
    return operator.index(value)


def topology(comm: CommLike = None, per: str = "node") -> Topology:
    """Collective over the communicator on its first call there, then local. Its nodes and lanes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: ``COMM_WORLD``. A topology is given back as it is.
    per : {"node", "numa"}
        With "numa", the NUMA domains of the machines take the place of nodes: arrays made with this topology as `comm`
        have a copy in each domain, near to the processors that read it, and between domains goes what else goes between
        nodes. Each rank has to be bound within a domain (``mpirun --bind-to core``, ``srun --cpu-bind=cores``).

    Raises
    ------
    InvalidArgument
        For a null communicator, an inter-communicator, a bad setting, or a launcher of another MPI than mpi4py's; for
        "numa" when a rank may run in several domains.
    Mismatch
        When ranks come to the first topology of a communicator with different `per`.
    Error
        When mpi4py and nodeshare were built for different MPI libraries, and after MPI has been finalised.
    """
    if per not in ("node", "numa"):
        raise InvalidArgument(f"per is {per!r}: allowed are 'node' and 'numa'")
    if isinstance(comm, Topology):
        if per not in ("node", comm.per):
            raise InvalidArgument("comm is a topology per node: pass its communicator to have one per NUMA domain")
        return comm
    MPI = _start()
    if comm is None:
        comm = MPI.COMM_WORLD
    if not isinstance(comm, MPI.Comm):
        raise InvalidArgument(f"comm is a {type(comm).__name__}: pass an mpi4py communicator, or None for COMM_WORLD")
    if MPI.Is_finalized():  # then even the handle of a communicator is out of reach
        raise Error("MPI has been finalised: views stay valid, but ranks no longer meet")
    return Topology(_core.Node(comm.py2f(), per == "numa"), comm, per)


def local_range(n: int, comm: CommLike = None) -> tuple[int, int]:
    """Local (after the first call on the communicator). This rank's block of `n` rows.

    Returns
    -------
    start, stop : int
        ``n * rank // size`` and ``n * (rank + 1) // size`` over the ranks of the communicator.

    Examples
    --------
    >>> import nodeshare as ns
    >>> ns.local_range(10)  # on one rank
    (0, 10)
    """
    if not hasattr(n, "__index__") or not 0 <= operator.index(n) < 2**63:
        raise InvalidArgument(f"n is {n!r}: a number of rows is an int, not negative, and below 2**63")
    return topology(comm)._core.local_range(n)


_started: Any = None


def _start() -> Any:
    """Local. mpi4py's MPI, once it is known to be the library of the extension."""
    global _started
    if _started is None:
        from mpi4py import MPI

        theirs, ours = MPI.Get_library_version().rstrip("\x00\n "), _core.library_version().rstrip()
        if theirs.rstrip("\x00") != ours:
            raise Error(
                f"mpi4py uses {_first_line(theirs)}, nodeshare was built for {_first_line(ours)}: "
                "build both with the same mpicc (MPICC=… pip install --no-binary :all: mpi4py nodeshare)"
            )
        _core.set_place(_place)
        _started = MPI
    return _started


def _first_line(version: str) -> str:
    return " ".join(version.split("\n")[0].split(",")[0].split())


def _place() -> str:
    """Local. The line of the user's program that called nodeshare, as "script.py:7"."""
    frame = sys._getframe(1)
    package = __name__.partition(".")[0]
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _end() -> None:
    """Local. At exit, before MPI_Finalize: ranks that wait for this one learn that it does not come."""
    MPI = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if MPI is None or not MPI.Is_initialized() or MPI.Is_finalized():
        return
    error = getattr(sys, "last_value", None)
    _core.end("the program's end" if error is None else describe_error(error), error is not None)


atexit.register(_end)


def describe_error(error: BaseException) -> str:
    """Local. "ValueError: text at script.py:7", the last place in it outside of this package."""
    try:
        said = str(error)
    except Exception as trouble:
        said = f"(its text can't be had: {type(trouble).__name__})"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame
        if code.f_globals.get("__name__", "").partition(".")[0] != __name__.partition(".")[0]:
            places.append(f"{code.f_code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    text = f"{text} at {places[-1]}" if places else text
    return plain_text(text)


def plain_text(text: str) -> str:
    """Local. A text that travels: no zero bytes, and UTF-8 whatever a file system or a user put into it."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
