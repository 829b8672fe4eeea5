# SPDX-License-Identifier: BSD-3-Clause
"""Starts what is measured: the C++ program and the Python programs beside this file, on ranks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

here = Path(__file__).resolve().parent
root = here.parent.parent
sys.path.append(str(here.parent))

from launch import Job, mpiexec  # noqa: E402 (measures.py and run.py take it from here)

SECONDS_PER_JOB = 600


class CouldNotRun(Exception):
    """Why a benchmark has no figures, in a sentence."""


@dataclass(frozen=True)
class Jobs:
    """How jobs are started: which build holds the C++ programs, and whether few samples will do."""

    build: Path
    quick: bool

    def few(self, many: int, few: int) -> int:
        """Choose a number of samples."""
        return few if self.quick else many

    def cpp(self, ranks: int, *words: object, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run the C++ program (see benchmarks.cpp); return the samples by name."""
        return read_samples(run([*mpiexec(ranks), str(self.built("nodeshare_benchmarks")), *map(str, words)], env))

    def python(
        self,
        ranks: int,
        script: str,
        *words: object,
        env: Mapping[str, str] | None = None,
        launch: Callable[[int], list[str]] = mpiexec,
    ) -> dict[str, Any]:
        """Run a Python program that lies beside this file; return the samples by name."""
        return read_samples(run([*launch(ranks), sys.executable, str(here / script), *map(str, words)], env))

    def built(self, name: str) -> Path:
        """Return where a built program is."""
        path = self.build / "tests" / "benchmarks" / name
        if not path.exists():
            raise CouldNotRun(f"{path} is not built: source slurm/environment.sh, or name a build folder with --build")
        return path


def run(words: list[str], env: Mapping[str, str] | None = None) -> str:
    """Run a job to its end; return what it printed."""
    try:
        ended = Job(words, env, str(root)).wait(SECONDS_PER_JOB)
    except OSError as error:
        raise CouldNotRun(f"{words[0]} cannot be started: {error.strerror}") from None
    if ended.timed_out:
        raise CouldNotRun(f"it took more than {SECONDS_PER_JOB} s and was ended: {' '.join(words)}")
    if ended.code != 0:
        said = dict.fromkeys(line.strip() for line in (ended.err or ended.out).splitlines() if line.strip())
        raise CouldNotRun(f"exit code {ended.code} of {' '.join(words)}: " + " | ".join(list(said)[:4]))
    return ended.out


def read_samples(output: str) -> dict[str, Any]:
    """Read lines of JSON: {"name": …, and one more field, which is taken}. Lists of the same name are joined."""
    found: dict[str, Any] = {}
    for line in output.splitlines():
        if line.startswith('{"name"'):
            name, value = json.loads(line).values()
            found[name] = found.get(name, []) + value if isinstance(value, list) else value
    return found


def without_settings() -> None:
    """Take nodeshare's settings out of the environment: each measure sets what it needs."""
    for name in [name for name in os.environ if name.startswith("NODESHARE_")]:
        del os.environ[name]
