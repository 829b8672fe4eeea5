# SPDX-License-Identifier: BSD-3-Clause
"""Tasks that ranks take from a queue, and what they make of them, which goes into another."""

import numpy as np

import nodeshare as ns

TASKS = 40
me = ns.topology()
tasks, results = ns.Queue(), ns.Queue()
if me.rank == 0:
    for number in range(TASKS):
        tasks.put((number, np.arange(number, number + 1000.0)))
    for _ in range(me.size):
        tasks.put(None)  # one for each rank: there is no more
for number, values in iter(tasks.get, None):
    results.put((number, values.mean()))
if me.rank == 0:
    means = dict(results.get() for _ in range(TASKS))
    np.save("result.npy", [means[number] for number in range(TASKS)])
