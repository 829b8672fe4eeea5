# SPDX-License-Identifier: BSD-3-Clause
"""What nodeshare finds on the nodes of a job: ``python -m nodeshare info``."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, _core
from .creating import zeros
from .error import Error
from .topology import _first_line, topology

if TYPE_CHECKING:
    from mpi4py import MPI
    from rich.table import Table

SMALL = 1 << 20  # no less than a node's control page, which decides whether windows are used at all
LIMITS = {  # name in the report: which one, and the option of ulimit
    "address_space": (resource.RLIMIT_AS, "-v"),
    "open_files": (resource.RLIMIT_NOFILE, "-n"),
    "locked_memory": (resource.RLIMIT_MEMLOCK, "-l"),
    "file_size": (resource.RLIMIT_FSIZE, "-f"),
    "core": (resource.RLIMIT_CORE, "-c"),
}


def gather(comm: MPI.Comm | None = None) -> dict[str, Any] | None:
    """Collective over the communicator (default COMM_WORLD). A report on rank 0, None elsewhere.

    Bytes are integers. None is a limit that is not set, or something that is not there. Where no memory can be shared
    the report's ``trouble`` says why.
    """
    import mpi4py
    from mpi4py import MPI

    ranks = (comm or MPI.COMM_WORLD).gather(_of_this_rank(comm or MPI.COMM_WORLD), root=0)
    if ranks is None:
        return None
    threads = {
        MPI.THREAD_SINGLE: "single",
        MPI.THREAD_FUNNELED: "funneled",
        MPI.THREAD_SERIALIZED: "serialized",
        MPI.THREAD_MULTIPLE: "multiple",
    }
    return {
        "nodeshare": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpi4py": mpi4py.__version__,
        "mpi": {
            "library": _first_line(MPI.Get_library_version().rstrip("\0")),
            "standard": "{}.{}".format(*MPI.Get_version()),
            "threads": threads[MPI.Query_thread()],
        },
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("NODESHARE_")},
        "trouble": ranks[0]["trouble"],
        "ranks": len(ranks),
        "nodes": [_of_node(node, ranks) for node in sorted({rank["node"] for rank in ranks})],
    }


def _of_this_rank(comm: MPI.Comm) -> dict[str, Any]:
    """Collective over the communicator. What this rank sees."""
    kind = where = trouble = None
    try:
        where = topology(comm)
        array = zeros(1, comm=where)
        kind = array._segment.kind if array._segment else None
        array.close()
    except Error as error:
        trouble = str(error)
    directory = where._core.window_directory if where else ""
    return {
        "rank": comm.rank,
        "node": where.node if where else _node_by_mpi(comm),
        "host": platform.node().partition(".")[0],
        "trouble": trouble,
        "kind": kind,
        "windows": directory or None,
        "window_trouble": _core.window_trouble(SMALL, directory or "/dev/shm"),
        "shared_memory": {folder: _space(folder) for folder in sorted({"/dev/shm", directory or "/dev/shm"})},
        "memory": {"total": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "free": _core.memory_available()},
        "cgroup": _core.cgroup_headroom(),
        "limits": {name: _limit(which) for name, (which, _) in LIMITS.items()},
        "huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "kernel": platform.release(),
        "processors": sorted(os.sched_getaffinity(0)),
        "processors_of_host": os.cpu_count(),
    }


def _node_by_mpi(comm: MPI.Comm) -> int:
    """Collective over the communicator. A number for this rank's node where nodeshare itself can't tell."""
    from mpi4py import MPI

    same = comm.Split_type(MPI.COMM_TYPE_SHARED)
    lowest: int = same.bcast(comm.rank)
    same.Free()
    return sorted(set(comm.allgather(lowest))).index(lowest)


def _of_node(node: int, ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """Local. What the ranks of a node said, as one."""
    mine = [rank for rank in ranks if rank["node"] == node]
    first = mine[0]
    on_host = [rank for rank in ranks if rank["host"] == first["host"]]  # pretend nodes share their processors
    everywhere = len(set().union(*(rank["processors"] for rank in on_host)))
    if len(on_host) == 1:
        everywhere = first["processors_of_host"]
    groups = [rank["cgroup"] for rank in mine if rank["cgroup"]]
    return {
        "node": node,
        "host": first["host"],
        "ranks": [rank["rank"] for rank in mine],
        "kind": first["kind"],
        "why": _why(mine),
        "windows": first["windows"],
        "shared_memory": first["shared_memory"],
        "memory": first["memory"],
        "cgroup": min(groups, key=lambda group: int(group["headroom"]), default=None),
        "limits": {
            name: min((r["limits"][name] for r in mine if r["limits"][name] is not None), default=None)
            for name in LIMITS
        },
        "huge_pages": first["huge_pages"],
        "kernel": first["kernel"],
        "processors": {str(rank["rank"]): rank["processors"] for rank in mine},
        "bound": all(len(rank["processors"]) < everywhere for rank in mine),
    }


def _why(ranks: list[dict[str, Any]]) -> str | None:
    """Local. Why the arrays of a node go into the kind of memory they go into; `ranks`: those of the node."""
    kind = ranks[0]["kind"]
    setting = os.environ.get("NODESHARE_MEMORY", "auto")
    if kind is None:
        return None
    if len(ranks) == 1:
        return "the node has one rank"
    if setting not in ("", "auto"):
        return f"NODESHARE_MEMORY={setting}"
    if kind == "window":
        return f"{ranks[0]['windows']} has room; an array that does not fit there goes into a memfd"
    told = [f"rank {rank['rank']}: {rank['window_trouble']}" for rank in ranks if rank["window_trouble"]]
    return f"no window: {told[0]}" if told else "this MPI's windows can't be used"


def _space(folder: str) -> dict[str, int | None] | None:
    """Local. Total and free bytes of a file system; None for each where it has no limit (tmpfs reports 0 blocks)."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    limited = found.f_blocks > 0
    return {
        "total": found.f_blocks * found.f_frsize if limited else None,
        "free": found.f_bavail * found.f_frsize if limited else None,
    }


def _limit(which: int) -> int | None:
    """Local. A soft limit of this process."""
    soft = resource.getrlimit(which)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _chosen(path: str) -> str | None:
    """Local. The word in brackets in a file of the kernel: "always [never]"."""
    try:
        with open(path) as file:
            found = re.search(r"\[(\w+)\]", file.read())
    except OSError:
        return None
    return found[1] if found else None


def table(report: dict[str, Any]) -> Table:
    """Local. A report of `gather` for people."""
    from rich.table import Table

    out = Table("nodeshare", report["nodeshare"], header_style="")  # an escape sequence would end in jobs' logs
    mpi = report["mpi"]
    out.add_row("MPI", f"{mpi['library']} (MPI {mpi['standard']}, threads: {mpi['threads']})")
    out.add_row("Python", f"{report['python']}, mpi4py {report['mpi4py']}, NumPy {report['numpy']}")
    out.add_row("settings", ", ".join(f"{name}={value}" for name, value in report["settings"].items()) or "none")
    if report["trouble"]:
        out.add_row("trouble", report["trouble"])
    for node in report["nodes"]:
        out.add_section()
        out.add_row(f"node {node['node']}", f"{node['host']}: rank{_s(node['ranks'])} {_ranges(node['ranks'])}")
        out.add_row("arrays", f"{node['kind']}: {node['why']}" if node["kind"] else "none can be made: see trouble")
        for folder, space in node["shared_memory"].items():
            windows = ", where this MPI keeps its windows" if folder == node["windows"] else ""
            out.add_row(folder, (_free(space) if space else "not there") + windows)
        out.add_row("memory", _free(node["memory"]))
        group = node["cgroup"]
        out.add_row(
            "control group",
            f"{_core.bytes_text(group['headroom'])} of {_core.bytes_text(group['limit'])} left in {group['group']}"
            if group
            else "no limit",
        )
        limits = (f"{option} {_amount(name, node['limits'][name])}" for name, (_, option) in LIMITS.items())
        out.add_row("ulimit", ", ".join(limits))
        out.add_row("huge pages", f"{node['huge_pages']} (transparent_hugepage/shmem_enabled)")
        out.add_row("kernel", node["kernel"])
        out.add_row("processors", _binding(node))
    return out


def _binding(node: dict[str, Any]) -> str:
    """Local. Which rank runs where."""
    ranks_of: dict[str, list[int]] = {}
    for rank, processors in node["processors"].items():
        ranks_of.setdefault(_ranges(processors), []).append(int(rank))
    text = ", ".join(f"rank{_s(ranks)} {_ranges(ranks)} on {where}" for where, ranks in ranks_of.items())
    return text if node["bound"] else f"not bound: {text}"


def _free(space: dict[str, int | None]) -> str:
    if space["free"] is None:
        return "no limit"
    return f"{_core.bytes_text(space['free'])} of {_core.bytes_text(space['total'] or 0)} free"


def _amount(name: str, value: int | None) -> str:
    if value is None:
        return "unlimited"
    return str(value) if name == "open_files" else _core.bytes_text(value)


def _ranges(numbers: Iterable[int]) -> str:
    """Local. "0-3, 8" of ascending numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _s(things: list[int]) -> str:
    return "s" if len(things) > 1 else ""
