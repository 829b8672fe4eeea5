# SPDX-License-Identifier: BSD-3-Clause
"""A list and a dict that one rank fills and another reads; both are in shared memory, and no process keeps them."""

import numpy as np

import nodeshare as ns

DAYS = 30
me = ns.topology()
days, means, filled = ns.List(), ns.Dict(), ns.Barrier()
if me.rank == 0:
    for day in range(DAYS):
        hours = np.sin(np.arange(24) + day)
        days.append(hours)
        means[f"day {day}"] = float(hours.mean())
filled.wait()
if me.rank == me.size - 1:
    print(f"{len(days)} days; the last: {days[-1]}")
    np.save("result.npy", [day.sum() * means[f"day {number}"] for number, day in enumerate(days)])
