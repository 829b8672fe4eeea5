# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what multiprocessing makes on one, on all of them, as if they were its children."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from multiprocessing import resource_sharer
from multiprocessing.context import set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from typing import TypeVar

from mpi4py import MPI

Made = TypeVar("Made")
spawn = multiprocessing.get_context("spawn")
multiprocessing.current_process().authkey = MPI.COMM_WORLD.bcast(bytes(multiprocessing.current_process().authkey))


class _Spawning:
    """Stands for the child that is being spawned: what goes to it may be pickled."""

    DupFd = resource_sharer.DupFd

    def duplicate_for_child(self, descriptor: int) -> int:
        return descriptor


def on_all_ranks(make: Callable[[], Made]) -> Made:
    """Collective over COMM_WORLD. Give all what rank 0 makes, as a child that was spawned would get it.

    What has file descriptors (queues and pipes) goes to one other rank only.
    """
    world = MPI.COMM_WORLD
    pickled = None
    if world.rank == 0:
        made = make()
        set_spawning_popen(_Spawning())
        try:
            pickled = bytes(ForkingPickler.dumps(made))
        finally:
            set_spawning_popen(None)
    pickled = world.bcast(pickled)
    if world.rank != 0:
        made = pickle.loads(pickled)
    world.Barrier()
    return made
