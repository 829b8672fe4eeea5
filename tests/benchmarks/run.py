# SPDX-License-Identifier: BSD-3-Clause
"""Measures what nodeshare promises to reach, and prints a table.

Each figure compares the medians of two things that were timed in one run, in turn and in random order; the time of a
collective is that of its slowest rank. A figure that is missed is reported, and is no error: other programs on the
machine disturb, and the columns of minima and quartiles tell how much. Exit code 1: a benchmark could not run.

Needs the environment (`. slurm/environment.sh`) and a node with two cores, 4 GB of memory and 2 GB free in /dev/shm.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from figures import Figure
from jobs import CouldNotRun, Jobs, mpiexec, without_settings
from measures import MEASURES
from rich.console import Console
from rich.table import Table

WIDTH = 160  # where the output is no terminal


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", action="append", choices=list(MEASURES), metavar="NAME", help="only this one (may be repeated)")
    add("--list", action="store_true", help="say what there is, and do nothing")
    add("--quick", action="store_true", help="few samples: shows that all works, the figures are rough")
    add("--json", type=Path, metavar="FILE", help="write the table there, too")
    add("--build", type=Path, default=Path(sys.prefix) / "build", metavar="FOLDER", help="of CMake (the environment's)")
    return parser.parse_args()


def machine() -> dict[str, object]:
    """Return what the figures depend on beside nodeshare."""
    words = [*mpiexec(1)[:-2], "--version"]
    try:
        launcher = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout.strip().partition("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        launcher = "unknown"
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "launcher": launcher,
        "processor": model.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
    }


def row(figure: Figure) -> list[str]:
    """Write a figure as a row of the table."""

    def number(value: float) -> str:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"

    low_high = "" if figure.quartiles is None else " … ".join(map(number, figure.quartiles))
    verdict = {None: "", True: "[green]yes", False: "[bold red]NO"}[figure.met]
    return [
        figure.measure,
        figure.against,
        figure.medians,
        f"{number(figure.value)} {figure.unit}",
        "" if figure.of_minima is None else number(figure.of_minima),
        low_high,
        figure.required,
        verdict,
    ]


def main() -> int:
    options = parse()
    if options.list:
        for name, measure in MEASURES.items():
            print(f"{name:<8} {measure.__doc__}")
        return 0
    without_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends us, the running job ends first
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    progress = Console(stderr=True)
    jobs = Jobs(options.build, options.quick)
    about, figures, failures = machine(), [], {}
    loads = [os.getloadavg()[0]]
    for name in options.only or MEASURES:
        with progress.status(f"measuring: {name}"):
            try:
                figures += MEASURES[name](jobs)
            except CouldNotRun as why:
                failures[name] = str(why)
        loads.append(os.getloadavg()[0])
    about["load"] = loads

    table = Table(title=", ".join(f"{key} {value}" for key, value in about.items() if key != "load"))
    for heading in ("measure", "compared with", "medians", "figure", "of minima", "quartiles", "required", "met"):
        table.add_column(heading, justify="right" if heading in ("figure", "of minima") else "left")
    for figure in figures:
        table.add_row(*row(figure))
    if figures:
        missed = sum(figure.met is False for figure in figures)
        asked = sum(figure.met is not None for figure in figures)
        console.print(table)
        console.print(
            f"{asked - missed} of {asked} requirements met; load average {min(loads):.1f} to {max(loads):.1f}"
        )
    for name, reason in failures.items():
        console.print(f"could not run {name}: {reason}", style="red", markup=False, highlight=False)
    if options.json:
        rows = [{**asdict(figure), "required": figure.required, "met": figure.met} for figure in figures]
        options.json.write_text(json.dumps({"machine": about, "figures": rows, "could_not_run": failures}, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
