# SPDX-License-Identifier: BSD-3-Clause
"""What the jobs in this folder have in common: how they speak, write, count seconds and end."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

import nodeshare as ns


class Failure(Exception):
    """What the user is told, in one sentence."""


class Parser(argparse.ArgumentParser):
    """Of all ranks, which find the same, only rank 0 speaks."""

    def print_help(self, file=None) -> None:
        if MPI.COMM_WORLD.rank == 0:
            super().print_help(file)

    def error(self, message: str) -> None:
        say(message)
        sys.exit(2)

    def parse(self, output: str, check: str) -> argparse.Namespace:
        """Add the options that each job has; return all of them, or end the program if they are wrong.

        Parameters
        ----------
        output : str
            Where results go by default; with --check alone there are none (None).
        check : str
            What --check does.
        """
        add = self.add_argument
        add("--output", type=Path, metavar="FOLDER", help=f"where to write ({output}; with --check: nowhere)")
        add("--force", action="store_true", help="overwrite what is there")
        add("--check", action="store_true", help=check)
        options = self.parse_args()
        if options.output is None and not options.check:
            options.output = Path(output)
        return options


def say(message: object) -> None:
    """Say on rank 0 why the job ends."""
    if MPI.COMM_WORLD.rank == 0:
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make a Failure of what the system says to writing."""
    try:
        yield
    except OSError as error:
        raise Failure(f"cannot write to {folder}: {error.strerror or error}") from error


def prepare_output(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise Failure if files of these names could not be written later."""
    folder = options.output
    if folder is None:
        return
    there = [name for name in names if (folder / name).exists()]
    if there and not options.force:
        raise Failure(f"{folder / there[0]} exists: --force overwrites it, --output FOLDER writes elsewhere")
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write(folder: Path, arrays: Mapping[str, ns.SharedArray], picture: str, draw: Callable[[Path], None]) -> None:
    """Save arrays under their names, and on rank 0 the picture that `draw` makes; say where they are."""
    with writing_to(folder):
        for name, array in arrays.items():
            ns.save(folder / name, array)
    with ns.together(*arrays.values(), root=0) as mine:
        if mine:
            with writing_to(folder):
                draw(folder / picture)
            print("results:", ", ".join(str(folder / name) for name in (*arrays, picture)), flush=True)


class Stopwatch:
    """The seconds that each step of a job took, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = time.perf_counter()

    def done(self, what: str) -> None:
        """End the step `what`; the next one begins."""
        self.seconds[what], self._begin = time.perf_counter() - self._begin, time.perf_counter()


def report(watch: Stopwatch, data: str, nbytes: int, measured: int) -> None:
    """Print on rank 0 what the job took, and what its data (of `nbytes`) took of the nodes' memory."""
    here = ns.topology()
    if here.rank != 0:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
    table.add_row("ranks, nodes", f"{here.size}, {here.nodes}")
    for what, spent in watch.seconds.items():
        table.add_row(what, f"{spent:.1f} s")
    table.add_row(f"{data}, one copy per node", f"{nbytes * here.nodes / 1e6:.1f} MB")
    table.add_row(f"{data}, if each rank had its own", f"{nbytes * here.size / 1e6:.1f} MB")
    table.add_row("shared memory measured (PSS of all ranks)", f"{measured / 1e6:.1f} MB")
    Console().print(table)


def exit_code(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a job; return 0, or 1 when it has said why it could not go on."""
    try:
        run(options)
    except (ns.Error, Failure) as error:
        # A collective call ends alike on all ranks, so all are here, and rank 0 knows what was wrong with any of them.
        say(error)
        return 1
    return 0
