# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``python -m nodeshare``, alone or under mpirun and srun."""

from __future__ import annotations

import argparse
import io
import json
import sys

from . import info


def main() -> int:
    """Collective over COMM_WORLD. The exit code is the same on every rank; rank 0 alone prints."""
    from mpi4py import MPI

    parser = argparse.ArgumentParser(prog="python -m nodeshare", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    about = "nodes, ranks, the memory that arrays go into, limits, versions"
    command = commands.add_parser("info", help=about, description=f"Print what nodeshare finds here: {about}.")
    command.add_argument("--json", action="store_true", help="as one JSON document, bytes as integers")

    def parse() -> argparse.Namespace | int:
        try:
            return parser.parse_args()
        except SystemExit as end:  # it has said what is wrong, or helped
            return int(end.code or 0)

    options = MPI.COMM_WORLD.bcast(parse() if MPI.COMM_WORLD.rank == 0 else None)
    if isinstance(options, int):
        return options
    report = info.gather()
    if report is not None and options.json:
        print(json.dumps(report, indent=2))
    elif report is not None:
        from rich.console import Console

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # that of a batch job may be ASCII
        Console(markup=False, highlight=False, emoji=False).print(info.table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
