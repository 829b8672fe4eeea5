# SPDX-License-Identifier: BSD-3-Clause
"""Clear-sky irradiance over the globe, for every hour of a year.

The maps (Linke turbidity by months and altitude, 2160 x 4320 places) and the model (Ineichen and Perez) are pvlib's.
Every rank needs all of the maps, so each node holds one copy; the hours are dealt out to the ranks of the job, and the
table of the year ends whole on every node. Runs on one rank (python slurm/weather.py) or on many (mpirun -n 4 python
slurm/weather.py); slurm/weather.sh chooses by itself.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import pvlib
from mpi4py import MPI
from pvlib import atmosphere, clearsky, irradiance, solarposition

import nodeshare as ns
from job import Failure, Parser, Stopwatch, exit_code, prepare_output, report, write

HOURS = 8760
YEAR = 2023  # any that is no leap year: the model knows days of a year only
SHAPE = (2160, 4320)  # of the maps: the whole globe, north to south, west to east
PER_DEGREE = 12
LATITUDE = 90 - (np.arange(SHAPE[0]) + 0.5) / PER_DEGREE  # degrees, as LONGITUDE
LONGITUDE = (np.arange(SHAPE[1]) + 0.5) / PER_DEGREE - 180
TURBIDITY = "LinkeTurbidities.h5", "LinkeTurbidity", (*SHAPE, 12)  # file, dataset, shape; bytes of 1/20
ALTITUDE = "Altitude.h5", "Altitude", SHAPE  # bytes of 28 m above -450 m; 255 where there is no land
METRES = np.append(28.0 * np.arange(255) - 450, 0)
PASCAL = atmosphere.alt2pres(METRES)

# A row of the result: the middle of the hour (UTC), mean over the globe and maximum (W/m2), where it is (degrees).
RESULT = np.dtype([("time", "M8[s]"), ("mean", "f8"), ("max", "f8"), ("latitude", "f8"), ("longitude", "f8")])
TABLE, PICTURE = "irradiance.npy", "irradiance.png"


# ------------------------------------------------------------------------------------------------------------ the model
class Sun(NamedTuple):
    """Sun and season in the middle of one hour."""

    time: np.datetime64
    declination: float  # radians
    hour_angle: float  # at longitude 0, degrees
    extra: float  # irradiance outside the atmosphere, W/m2
    months: tuple[int, int]  # the two whose middles are nearest
    share: float  # of the second one


def sun_in(hours: range) -> list[Sun]:
    """Return the Sun for these hours of the year."""
    times = pd.date_range(f"{YEAR}-01-01 00:30", periods=HOURS, freq="h", tz="UTC")[hours.start : hours.stop]
    day = times.day_of_year.to_numpy()
    hour_angle = solarposition.hour_angle(times, 0, solarposition.equation_of_time_spencer71(day))
    # A month's map holds in its middle; between two middles we go from one map to the other, day by day, as pvlib's
    # lookup_linke_turbidity does for one place.
    days = pd.date_range(f"{YEAR - 1}-12-01", periods=14, freq="MS").days_in_month.to_numpy()
    middles = np.cumsum(days) - days / 2 - days[0]
    month, share = np.divmod(np.interp(day, middles, np.arange(14)), 1)
    months = [((int(m) - 1) % 12, int(m) % 12) for m in month]
    declination = solarposition.declination_spencer71(day)
    extra = irradiance.get_extra_radiation(day)
    moments = times.tz_localize(None).to_numpy()
    return [Sun(*fields) for fields in zip(moments, declination, hour_angle, extra, months, share)]


def clear_sky(sun: Sun, turbidity: np.ndarray, altitude: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return the global horizontal irradiance in some places.

    Parameters
    ----------
    sun : Sun
    turbidity : (2160, 4320, 12) uint8 array
    altitude : (2160, 4320) uint8 array
    rows, columns : slice
        Which places of the maps.

    Returns
    -------
    2-d float array
        W/m2, at least 0. The zenith is taken without refraction (0.6 degrees at the horizon, nothing above). On the
        highest mountains, beyond what it was fitted to, the model gives up to 6 % more than arrives outside the
        atmosphere.
    """
    latitude, longitude = np.radians(LATITUDE[rows, None]), np.radians(sun.hour_angle + LONGITUDE[columns])
    zenith = solarposition.solar_zenith_analytical(latitude, longitude, sun.declination)
    lit = zenith < np.pi / 2  # the rest is night: not worth the powers and exponentials
    zenith = np.degrees(zenith[lit])
    first, second = (turbidity[rows, columns, month][lit] / 20 for month in sun.months)
    linke = first + (second - first) * sun.share
    height = altitude[rows, columns][lit]
    airmass = atmosphere.get_absolute_airmass(atmosphere.get_relative_airmass(zenith), PASCAL[height])
    ghi = np.zeros(lit.shape)
    ghi[lit] = clearsky.ineichen(zenith, airmass, linke, METRES[height], sun.extra)["ghi"]
    return ghi


def globe(sun: Sun, number: int, step: int, turbidity: np.ndarray, altitude: np.ndarray) -> tuple:
    """Return the row of the result for one hour, the `number`-th of the year.

    Looks at one place of each cell of `step` x `step` places, in each hour at another one: so the cells' means have no
    bias, maxima are those of real places, and a year sees the whole map.
    """
    # Martin Roberts' R2 sequence: however many hours are done, their places fill the cell evenly.
    north, west = int(step * (number * 0.7548776662466927 % 1)), int(step * (number * 0.5698402909980532 % 1))
    rows, columns = slice(north, None, step), slice(west, None, step)
    ghi = clear_sky(sun, turbidity, altitude, rows, columns)
    area = np.cos(np.radians(LATITUDE[rows]))
    row, column = np.unravel_index(ghi.argmax(), ghi.shape)
    mean = (ghi.mean(axis=1) * area).sum() / area.sum()
    return sun.time, mean, ghi[row, column], LATITUDE[rows][row], LONGITUDE[columns][column]


# ------------------------------------------------------------------------------------------------------- files, options
def read(folder: Path, file: str, dataset: str, shape: tuple[int, ...], rows: slice = slice(None)) -> np.ndarray:
    """Return rows of a map."""
    path = folder / file
    try:
        path.open("rb").close()  # h5py's own message for a missing file is a long one
        with h5py.File(path) as maps:
            found = maps.get(dataset)
            if not isinstance(found, h5py.Dataset) or found.shape != shape or found.dtype != np.uint8:
                size = " x ".join(map(str, shape))
                raise Failure(f"{path} does not hold pvlib's map: {size} bytes named {dataset}")
            return found[rows]
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or error}") from error


def shared(folder: Path, a_map: tuple[str, str, tuple[int, ...]]) -> ns.SharedArray:
    """Return a map, one copy per node; the job reads each row once."""
    return ns.from_function(lambda start, stop: read(folder, *a_map, slice(start, stop)), a_map[-1], np.uint8)


def prepare(options: argparse.Namespace) -> None:
    """Raise Failure if files that we shall read or write later are not as they should be."""
    for a_map in TURBIDITY, ALTITUDE:
        read(options.data, *a_map, slice(0))
    prepare_output(options, [TABLE, PICTURE])


def cell(degrees: str) -> int:
    """Return how many places of the maps a cell of some degrees spans."""
    try:
        step = Fraction(degrees) * PER_DEGREE
    except (ValueError, ZeroDivisionError):
        step = Fraction(-1)
    if step < 1 or step.denominator != 1 or SHAPE[0] % step != 0:
        raise argparse.ArgumentTypeError(f"{degrees} is not a multiple of 1/12 that divides 180, as 5, 2, 0.5 or 1/12")
    return int(step)


def span(text: str) -> range:
    """Return the hours meant by "24" (the first ones) or "4344:4368"."""
    first, _, last = text.rpartition(":")
    try:
        hours = range(int(first or 0), int(last))
    except ValueError:
        hours = range(0)
    if not hours or hours.start < 0 or hours.stop > HOURS:
        raise argparse.ArgumentTypeError(f"{text} is neither a number of hours nor a range, as 24:48, within 0:{HOURS}")
    return hours


def parse() -> argparse.Namespace:
    """Return the options; ends the program if they are wrong."""
    parser = Parser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--resolution", type=cell, default="2", dest="step", metavar="DEGREES", help="size of a cell (2)")
    add("--hours", type=span, default=f"0:{HOURS}", metavar="N|A:B", help="only the first N, or from A up to B (all)")
    add("--data", type=Path, default=Path(pvlib.__file__).parent / "data", metavar="FOLDER", help="the maps (pvlib's)")
    return parser.parse("weather-output", check="do some hours again, serially, and compare to the last bit")


# ------------------------------------------------------------------------------------------------------------- the job
def check(year: ns.SharedArray, suns: list[Sun], options: argparse.Namespace) -> None:
    """Raise Failure unless some hours are what rank 0 finds alone, in its own copies of the maps."""
    some = np.unique(np.linspace(0, len(suns) - 1, 25).astype(int))
    expected = ns.zeros(len(some), RESULT)
    with expected.writing(root=0) as mine:
        if mine is not None:
            maps = [read(options.data, *a_map) for a_map in (TURBIDITY, ALTITUDE)]
            for k, i in enumerate(some):
                mine[k] = globe(suns[i], options.hours[i], options.step, *maps)
    with ns.together(year):  # on each node: its copy of the year is to be right, too
        wrong = [i for k, i in enumerate(some) if year[i].tobytes() != expected[k].tobytes()]
        if wrong:
            raise Failure(f"{len(wrong)} of {len(some)} hours differ from the serial ones, first {suns[wrong[0]].time}")
    if MPI.COMM_WORLD.rank == 0:
        print(f"{len(some)} hours, done again serially, are equal to the last bit")


def draw(year: np.ndarray, picture: np.ndarray, altitude: np.ndarray, path: Path) -> None:
    """Draw the globe in its brightest hour and the curves of the year."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates, pyplot

    figure, (above, middle, below) = pyplot.subplots(3, figsize=(10, 9), height_ratios=[3, 1, 1], layout="constrained")
    image = above.imshow(picture, extent=(-180, 180, -90, 90), aspect="auto", cmap="inferno", vmin=0)
    figure.colorbar(image, ax=above, label="W/m²")
    some = np.s_[: 174 * PER_DEGREE : 4], np.s_[::4]  # the map of altitudes ends at 85 degrees south
    coast = altitude[some] == 255
    above.contour(LONGITUDE[some[1]], LATITUDE[some[0]], coast, [0.5], colors="white", linewidths=0.3, alpha=0.6)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    above.plot(LONGITUDE[column], LATITUDE[row], "o", color="deepskyblue", mfc="none", ms=9)
    moment = pd.Timestamp(year["time"][year["mean"].argmax()])
    above.set_title(
        f"Clear-sky global horizontal irradiance, {moment:%-d %B, %H:%M} UTC\n"
        f"circle: {picture.max():.0f} W/m² at {LATITUDE[row]:.1f}° N, {LONGITUDE[column]:.1f}° E"
    )
    above.set(xlabel="longitude (° E)", xticks=range(-180, 181, 60), ylabel="latitude (° N)", yticks=range(-90, 91, 30))

    # A point for each day, or for each hour if there are few.
    unit, name = ("M8[D]", "day") if len(year) > 240 else ("M8[h]", "hour")
    moments, start = np.unique(year["time"].astype(unit), return_index=True)
    mean = np.add.reduceat(year["mean"], start) / np.diff(np.append(start, len(year)))
    low, high = np.minimum.reduceat(year["mean"], start), np.maximum.reduceat(year["mean"], start)
    middle.fill_between(moments, low, high, color="tab:orange", alpha=0.3, lw=0)
    middle.plot(moments, mean, color="tab:orange")
    middle.set(title=f"Mean over the globe, each {name}" + ", and its lowest to highest hour" * (name == "day"))
    below.plot(moments, np.maximum.reduceat(year["max"], start), color="tab:red")
    below.set(title=f"Highest of the places looked at, each {name}", xlabel="time (UTC)")
    for axes in middle, below:
        axes.set(ylabel="W/m²")
        axes.margins(x=0)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))
    figure.savefig(path, dpi=150)


def run(options: argparse.Namespace) -> None:
    here = ns.topology()
    suns = sun_in(options.hours)
    year = ns.zeros(len(suns), RESULT)
    with ns.together(year, root=0) as mine:  # what cannot end well is to end now, on all ranks
        if mine:
            prepare(options)

    watch = Stopwatch()
    turbidity, altitude = shared(options.data, TURBIDITY), shared(options.data, ALTITUDE)
    watch.done("reading")

    hours = ns.work(len(suns), progress=True)
    for i in hours:
        year[i] = globe(suns[i], options.hours[i], options.step, turbidity.array, altitude.array)
    year.allgather(hours)
    watch.done("computing")
    measured = here.comm.reduce(ns.memory().shared)  # PSS: a page that n ranks see counts 1/n in each

    if options.check:
        check(year, suns, options)
        watch.done("checking")

    if options.output:
        # The brightest hour once more, for all places: each rank does some rows of the picture.
        picture = ns.empty(SHAPE, np.float32)
        with ns.together(picture):
            sun = suns[year["mean"].argmax()]
            for row in range(*picture.rows()):
                picture[row] = clear_sky(sun, turbidity.array, altitude.array, slice(row, row + 1), slice(None))
        watch.done("computing the picture")
        write(
            options.output, {TABLE: year}, PICTURE, lambda path: draw(year.array, picture.array, altitude.array, path)
        )
        watch.done("writing")
    report(watch, "maps", turbidity.nbytes + altitude.nbytes, measured)


def main() -> int:
    return exit_code(run, parse())


if __name__ == "__main__":
    sys.exit(main())
