# SPDX-License-Identifier: BSD-3-Clause
"""What nodeshare raises. A collective call raises on every rank of its scope, or on none."""

from __future__ import annotations

from typing import Any

__all__ = ["Error", "InvalidArgument", "MPIError", "Mismatch", "OutOfSharedMemory", "PeerError"]


class Error(Exception):
    """Base of everything that nodeshare raises by itself."""


class InvalidArgument(Error, ValueError):
    """An argument that cannot be meant; the text names what was given and what is allowed."""


class Mismatch(Error):
    """The ranks of a collective called different things; the text names the ranks, the calls and their places."""


class OutOfSharedMemory(Error, MemoryError):
    """The memory does not suffice; the text says what was asked, what is free where, and what to change."""


class MPIError(Error):
    """An MPI routine failed.

    Attributes
    ----------
    routine : str
        Its name, as in ``"MPI_Comm_split"``.
    code : int
        The error code that it returned (MPI-3.1, 8.4).
    """

    def __init__(self, routine: str, code: int, text: str) -> None:
        super().__init__(text)
        self.routine = routine
        self.code = code

    def __reduce__(self) -> Any:
        return type(self), (self.routine, self.code, str(self))


class PeerError(Error):
    """Another rank failed or ended; the text names it, its node and what it said."""
