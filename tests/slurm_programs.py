# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the programs in slurm/ have in common."""

from __future__ import annotations

import re
from pathlib import Path

from launch import Ended, Jobs

folder = Path(__file__).resolve().parents[1] / "slurm"


def run(job: Jobs, name: str, ranks: int, *options: object, first: str = "", **settings: object) -> Ended:
    """Run slurm/`name`.py on so many ranks (0: without a launcher); `first` is code that runs before it."""
    lines = [
        "import sys",
        f"sys.path.insert(0, {str(folder)!r})",
        f"sys.argv = ['{name}.py', *{list(map(str, options))!r}]",
        *first.splitlines(),
        f"import {name}",
        f"sys.exit({name}.main())",
    ]
    return job(ranks, "\n".join(lines), **settings)  # type: ignore[arg-type]


def sentence(ended: Ended, code: int) -> str:
    """Return the only sentence of a job that ended with `code`; launchers add their own remarks."""
    assert ended.code == code, ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err
    said = [line for line in (ended.out + ended.err).splitlines() if re.match(r"\w+\.py: ", line)]
    assert len(said) == 1, ended.out + ended.err
    return said[0]
