# SPDX-License-Identifier: BSD-3-Clause
"""Random creation, dropping, views, forks: no array ever changes under whoever still sees it."""

import pytest

SCRIPT = """
import os, random
import numpy as np
import nodeshare as ns
from mpi4py import MPI

comm = MPI.COMM_WORLD
together, alone = random.Random(5), random.Random(comm.rank)  # the same on all ranks; this rank's own
arrays, views, children = {{}}, [], []

def right(number, values):
    assert (values == number).all(), (number, values)

for step in range({steps}):
    size = together.choice([1, 100, 5000, 5000, 70000])
    made = together.choice([ns.zeros, ns.empty, ns.full])
    if made is ns.full:
        arrays[step] = ns.full(size, step)
    else:
        a = arrays[step] = made(size, "i8", reserve=together.random() < 0.8)
        if made is ns.zeros:
            right(0, a.array)
            a.sync()  # before others write
        a.local[...] = step
        a.sync()
    if alone.random() < 0.2:  # outlives the array, on this rank only
        number = alone.choice(list(arrays))
        views.append((number, arrays[number].array[alone.randrange(arrays[number].size):]))
    if alone.random() < 0.1 and views:
        right(*views.pop(alone.randrange(len(views))))
    if len(arrays) > 6:
        for _ in range(together.randrange(1, 6)):
            number = together.choice(list(arrays))
            right(number, arrays[number].array)
            del arrays[number]
    if alone.random() < {forks} and len(children) < 3:
        number = alone.choice(list(arrays))
        values, (read, write) = arrays[number].array, os.pipe()
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            os._exit(0 if (values == number).all() else 1)
        os.close(read)
        children.append((child, write))
        del values
    if children and alone.random() < 0.05:
        child, write = children.pop(0)
        os.write(write, b"x")
        assert os.waitpid(child, 0)[1] == 0, "a child saw its array change"
        os.close(write)
for child, write in children:
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0, "a child saw its array change"
for number, values in views:
    right(number, values)
print("well\\n", end="", flush=True)
"""


@pytest.mark.parametrize("memory", ["auto", "memfd"])
@pytest.mark.parametrize(("ranks", "steps"), [(1, 2000), (2, 2000), (3, 1000), (4, 600)])
def test_random_lives_of_arrays(job, ranks, steps, memory):
    ended = job(ranks, SCRIPT.format(steps=steps, forks=0.01), env={"NODESHARE_MEMORY": memory}, timeout=200)
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_many_random_lives_of_arrays(job, ranks):
    ended = job(ranks, SCRIPT.format(steps=20_000, forks=0.001), timeout=400)
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err
