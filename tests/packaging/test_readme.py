# SPDX-License-Identifier: BSD-3-Clause
"""The README's examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch import mpiexec

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize(("ranks", "placement"), [(0, None), (4, None), (3, "2")])
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_a_python_example_runs(tmp_path, number, ranks, placement):
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[number])
    env = {**os.environ, **({"NODESHARE_RANKS_PER_NODE": placement} if placement else {})}
    argv = [*(mpiexec(ranks) if ranks else []), sys.executable, str(script)]
    ended = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
