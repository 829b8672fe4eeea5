# SPDX-License-Identifier: BSD-3-Clause
"""What becomes of samples: the figures of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Samples = Sequence[float]  # seconds, of the same thing, in the order of measuring


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    `value` is what the requirement is about, made from medians; `of_minima` the same from the fastest samples, which
    other programs on the machine disturb least; `quartiles` those of the pairs. Where these three are far apart, the
    machine was not quiet.
    """

    measure: str
    against: str
    medians: str  # ours and theirs, in words
    value: float
    unit: str
    of_minima: float | None = None
    quartiles: tuple[float, float] | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is what is required; None where nothing is."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def required(self) -> str:
        """What is required, in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}"
        return "" if self.at_least is None else f">= {self.at_least:g} {self.unit}"


def times_as_long(measure: str, ours: Samples, against: str, theirs: Samples, at_most: float | None = None) -> Figure:
    """Compare: what ours takes, in multiples of what theirs takes."""
    return Figure(measure, against, *_of_pairs(ours, theirs, lambda a, b: a / b, "x"), at_most=at_most)


def times_faster(measure: str, ours: Samples, against: str, theirs: Samples, at_least: float | None = None) -> Figure:
    """Compare: how many times faster ours is."""
    return Figure(measure, against, *_of_pairs(ours, theirs, lambda a, b: b / a, "x faster"), at_least=at_least)


def time_above(measure: str, ours: Samples, against: str, theirs: Samples, at_most: float | None = None) -> Figure:
    """Compare: what ours takes beyond what theirs takes."""
    return Figure(measure, against, *_of_pairs(ours, theirs, lambda a, b: (a - b) * 1e6, "us more"), at_most=at_most)


def time_of(measure: str, ours: Samples, at_most: float | None = None) -> Figure:
    """State what ours takes."""
    _, *figures = _of_pairs(ours, ours, lambda a, _: a * 1e6, "us")
    return Figure(measure, "", time(statistics.median(ours)), *figures, at_most=at_most)  # type: ignore[arg-type]


def _of_pairs(
    ours: Samples, theirs: Samples, of: Callable[[float, float], float], unit: str
) -> tuple[str, float, str, float, tuple[float, float] | None]:
    middle = statistics.median(ours), statistics.median(theirs)
    pairs = list(map(of, ours, theirs))
    quartiles = None
    if len(pairs) > 3:
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
        quartiles = low, high
    return f"{time(middle[0])} : {time(middle[1])}", of(*middle), unit, of(min(ours), min(theirs)), quartiles


def time(seconds: float) -> str:
    """Write a time with three digits: "71.2 us"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
