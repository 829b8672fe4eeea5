# SPDX-License-Identifier: BSD-3-Clause
"""Programs as they are written today, beside what nodeshare makes of them: both leave the same in result.npy.

`NAME_today.py` runs in plain Python, as its author would start it; `NAME.py` on ranks.
"""

from pathlib import Path

import numpy as np
import pytest

here = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in here.glob("*.py") if (here / f"{path.stem}_today.py").exists())
PLACEMENT = {3: "2"}  # on two nodes
ON_ONE_NODE = ("manager", "pipe", "task_queue")  # where containers are


def result_of(job, tmp_path, ranks, name, env=None):
    ended = job(ranks, (here / f"{name}.py").read_text(), env=env)
    assert ended.code == 0, ended.out + ended.err
    result = np.load(tmp_path / "result.npy")
    (tmp_path / "result.npy").unlink()
    return result


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_both_programs_come_to_the_same(job, tmp_path, name, ranks):
    if "dask" in (here / f"{name}_today.py").read_text():
        pytest.importorskip("dask.array")
    today = result_of(job, tmp_path, 0, f"{name}_today")
    placed = ranks in PLACEMENT and name not in ON_ONE_NODE
    env = {"NODESHARE_RANKS_PER_NODE": PLACEMENT[ranks]} if placed else None
    ours = result_of(job, tmp_path, ranks, name, env)
    assert today.size and (ours.dtype, ours.shape) == (today.dtype, today.shape)
    assert np.array_equal(ours, today)


def test_there_are_programs():
    names = ["manager", "map_blocks", "pipe", "several_arrays", "task_queue", "weather", "worker", "writer_reader"]
    assert NAMES == names
