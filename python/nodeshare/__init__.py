# SPDX-License-Identifier: BSD-3-Clause
"""One copy of a large array per node, a view of it for every MPI rank.

>>> import nodeshare as ns
>>> y = ns.zeros(8)
>>> y.local += 1
>>> y.sync()
>>> y.array
array([1., 1., 1., 1., 1., 1., 1., 1.])
"""

from . import _core as _core
from .arena import Arena, arena
from .array import array
from .barrier import Barrier
from .counter import Counter
from .creating import empty, empty_like, full, full_like, ones, ones_like, zeros, zeros_like
from .dict import Dict
from .error import Error, InvalidArgument, Mismatch, MPIError, OutOfSharedMemory, PeerError
from .from_function import from_function
from .from_parts import from_parts
from .from_source import from_source
from .handle import handle, is_shared
from .io import load, save
from .list import List
from .locks import Lock, RWLock
from .map import map
from .map_blocks import map_blocks
from .memory import memory, trim
from .pipe import Connection, Pipe
from .queue import Queue
from .share import share
from .shared_array import SharedArray
from .topology import Topology, local_range, topology
from .work import Work, work
from .writing import together

__version__ = "0.1.0"

__all__ = [
    "Arena",
    "Barrier",
    "Connection",
    "Counter",
    "Dict",
    "Error",
    "InvalidArgument",
    "List",
    "Lock",
    "MPIError",
    "Mismatch",
    "OutOfSharedMemory",
    "PeerError",
    "Pipe",
    "Queue",
    "RWLock",
    "SharedArray",
    "Topology",
    "Work",
    "arena",
    "array",
    "empty",
    "empty_like",
    "from_function",
    "from_parts",
    "from_source",
    "full",
    "full_like",
    "handle",
    "is_shared",
    "load",
    "local_range",
    "map",
    "map_blocks",
    "memory",
    "ones",
    "ones_like",
    "save",
    "share",
    "together",
    "topology",
    "trim",
    "work",
    "zeros",
    "zeros_like",
]
