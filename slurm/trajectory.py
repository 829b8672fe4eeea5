# SPDX-License-Identifier: BSD-3-Clause
"""How a molecule moves: the RMSD between all frames of a trajectory, and the RMSF of its atoms.

The trajectory (adenylate kinase, 98 frames) and its reader are MDAnalysis'. Every rank needs all of the frames, so each
node holds one copy, of which each rank reads a part; pairs of frames, and then atoms, are dealt out to the ranks of the
job, and the results end whole on every node. Runs on one rank (python slurm/trajectory.py) or on many (mpirun -n 4
python slurm/trajectory.py); slurm/trajectory.sh chooses by itself.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import MDAnalysis
import numpy as np
from MDAnalysis.analysis import align, diffusionmap, rms
from MDAnalysisTests import datafiles
from mpi4py import MPI
from scipy.spatial.transform import Rotation

import nodeshare as ns
from job import Failure, Parser, Stopwatch, exit_code, prepare_output, report, write

# MDAnalysis tells of its own plans, and of what a file lacks that is not needed here, on each rank.
warnings.filterwarnings("ignore", module="MDAnalysis")

BLOCK = 1 << 20  # bytes of frames that a rank has in hand, in double precision: they fit into its cache
TOLERANCE = 1e-4  # Angstrom; coordinates of 100 Angstrom are exact to 4e-6
CHECKED = 100  # frames of which MDAnalysis, which takes 60 us for a pair, is asked all pairs
RMSD, RMSF, PICTURE = "rmsd.npy", "rmsf.npy", "trajectory.png"


# ------------------------------------------------------------------------------------------------------------ the model
def blocks(first: int, last: int, atoms: int) -> Iterator[tuple[int, int]]:
    """Cut frames `first` to `last`, of so many atoms, into blocks; yield where each begins and ends."""
    step = max(1, BLOCK // (24 * atoms))
    for start in range(first, last, step):
        yield start, min(start + step, last)


def distances(frame: np.ndarray, others: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the RMSD of one frame to others, each optimally superposed on it.

    Parameters
    ----------
    frame : (atoms, 3) float array
        Angstrom, with the centre in the origin, as `others`.
    others : (frames, atoms, 3) float array
    squares : (frames,) float array
        The sum of all squared coordinates of `frame` and of each of the others.

    Returns
    -------
    (frames,) float array
        Angstrom; by singular values (W. Kabsch, Acta Crystallographica A32, 922, 1976).
    """
    turned = np.ascontiguousarray(frame.T, float)
    overlap = np.empty((len(others), 3, 3))
    for start, stop in blocks(0, len(others), len(frame)):
        np.matmul(turned, others[start:stop].astype(float), out=overlap[start:stop])
    singular = np.linalg.svd(overlap, compute_uv=False)
    singular[:, 2] *= np.sign(np.linalg.det(overlap))  # of rotations only: a mirror image is another molecule
    return np.sqrt(np.maximum(squares - 2 * singular.sum(axis=1), 0) / len(frame))


def rotation(frame: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Return the (3, 3) matrix that, from the right, turns a frame so that it lies best on another one."""
    left, _, right = np.linalg.svd(frame.T.astype(float) @ onto)
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    return left @ right


# ------------------------------------------------------------------------------------------------------- files, options
def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


class Trajectory:
    """Some atoms of a trajectory in files, as if these held it again and again.

    Each time the molecule is turned otherwise, which changes no result.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.files = f"{options.topology}, {options.trajectory}"
        try:
            for path in options.topology, options.trajectory:
                path.open("rb").close()  # MDAnalysis' own message for a missing file depends on its format
            universe = MDAnalysis.Universe(str(options.topology), str(options.trajectory))
        except OSError as error:
            raise Failure(f"cannot read {path}: {error.strerror or error}") from error
        except Exception as error:  # whatever a parser stumbles over
            raise Failure(f"cannot read {self.files}: {first_line(error)}") from error
        try:
            self.atoms = universe.select_atoms(options.selection)
        except (MDAnalysis.SelectionError, AttributeError) as error:
            raise Failure(f"--selection {options.selection!r} is not understood: {first_line(error)}") from error
        if len(self.atoms) < 3:
            chosen = f"{len(self.atoms) or 'none'} of the {len(universe.atoms)} atoms"
            raise Failure(f"--selection {options.selection!r} selects {chosen}: it takes 3 to superpose frames")
        self.once = len(universe.trajectory)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop` of the files."""
        try:
            trajectory = self.atoms.universe.trajectory
            frames = trajectory.timeseries(atomgroup=self.atoms, start=start, stop=stop, order="fac")
        except Exception as error:
            raise Failure(f"cannot read frames {start}:{stop} of {self.files}: {first_line(error)}") from error
        bad = np.flatnonzero(~np.isfinite(frames).all(axis=(1, 2)))
        if bad.size:
            raise Failure(f"cannot use frame {start + bad[0]} of {self.files}: not all of its coordinates are finite")
        return frames

    def frames(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop`, each with the centre in the origin."""
        parts = []
        while start < stop:
            copy, first = divmod(start, self.once)
            part = self.read(first, min(first + stop - start, self.once))
            part = part - part.mean(axis=1, dtype=float, keepdims=True)
            parts.append(part @ Rotation.from_rotvec([0.1 * copy, 0.2 * copy, 0.3 * copy]).as_matrix())
            start += len(part)
        return np.concatenate(parts)


def times(text: str) -> int:
    """Return how often the trajectory is to be taken."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of times, at least 1")
    return int(text)


def parse() -> argparse.Namespace:
    """Return the options; ends the program if they are wrong."""
    parser = Parser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--topology", type=Path, metavar="FILE", help="the molecule (MDAnalysisTests' adenylate kinase)")
    add("--trajectory", type=Path, metavar="FILE", help="its frames, in any format of MDAnalysis")
    add("--selection", default="name CA", metavar="WORDS", help="which atoms, in MDAnalysis' words (%(default)s)")
    add("--repeat", type=times, default="1", metavar="K", help="take the trajectory K times, each turned otherwise (1)")
    options = parser.parse("trajectory-output", check="compare with MDAnalysis' own analysis, by rank 0 alone")
    if (options.topology is None) != (options.trajectory is None):
        parser.error("--topology and --trajectory belong together: give both, or none of them")
    if options.topology is None:
        options.topology, options.trajectory = Path(datafiles.PSF), Path(datafiles.DCD)
    return options


# ------------------------------------------------------------------------------------------------------------- the job
def all_against_all(frames: ns.SharedArray, rmsd: ns.SharedArray) -> None:
    """Fill the symmetric (frames, frames) matrix of distances."""
    count = len(frames)

    # Each pair once: a frame with the half of all frames that comes next, the first one after the last one. So each
    # row is the same work, and a node's block of rows its share of it.
    def half(i: int) -> int:
        return (count - (2 * i >= count)) // 2

    squares = np.einsum("fna,fna->f", frames, frames, dtype=float)
    rows = ns.work(count, progress=True)
    for i in rows:
        for columns in slice(i + 1, i + 1 + half(i)), slice(0, max(0, i + 1 + half(i) - count)):
            rmsd[i, columns] = distances(frames[i], frames[columns], squares[i] + squares[columns])
    rmsd.allgather(rows)
    with ns.together(rmsd):
        for i in range(*rmsd.rows()):
            others = np.arange(i - (count - 1 - half(i)), i)  # negative ones count from the end
            rmsd[i, others] = rmsd[others, i]


def fluctuations(frames: ns.SharedArray, rmsf: ns.SharedArray) -> None:
    """Fill the (atoms,) array of fluctuations about the mean, of all frames when superposed on their average."""
    rotations = ns.empty((len(frames), 3, 3))
    average = ns.empty(frames.shape[1:])

    def superpose(onto: np.ndarray) -> None:
        some = ns.work(len(frames))
        for i in some:
            rotations[i] = rotation(frames[i], onto)
        rotations.allgather(some)

    def places(atom: int) -> np.ndarray:
        return np.einsum("fa,fab->fb", frames[:, atom], rotations.array)

    superpose(frames[0])
    atoms = ns.work(len(average))
    for n in atoms:
        average[n] = places(n).mean(axis=0)
    average.allgather(atoms)

    superpose(average.array)
    atoms = ns.work(len(rmsf))
    for n in atoms:
        rmsf[n] = np.sqrt(places(n).var(axis=0).sum())
    rmsf.allgather(atoms)


def serial(trajectory: Trajectory, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what MDAnalysis finds: the RMSD between some frames, and the RMSF of all."""
    universe = MDAnalysis.Merge(trajectory.atoms)
    universe.load_new(trajectory.read(0, trajectory.once), order="fac")
    metric = partial(rms.rmsd, superposition=True)
    matrix = diffusionmap.DistanceMatrix(universe, metric=metric).run(frames=some).results.dist_matrix
    average = align.AverageStructure(universe, universe).run().results.universe
    align.AlignTraj(universe, average).run()
    return matrix, rms.RMSF(universe.atoms).run().results.rmsf


def check(trajectory: Trajectory, rmsd: ns.SharedArray, rmsf: ns.SharedArray) -> None:
    """Raise Failure unless the results, on each node and for each time, are those of MDAnalysis' serial analysis."""
    some = np.unique(np.linspace(0, trajectory.once - 1, CHECKED).astype(int))
    matrix = ns.empty((len(some), len(some)))
    fluctuation = ns.empty(rmsf.shape)
    with ns.together(matrix, fluctuation, root=0) as mine:
        if mine:
            matrix.array[:], fluctuation.array[:] = serial(trajectory, some)
    with ns.together(rmsd, rmsf):
        differences = [np.abs(rmsf.array - fluctuation.array).max()]
        for i in range(*rmsd.rows()):
            row = np.flatnonzero(some == i % trajectory.once)
            differences += [np.abs(rmsd[i].reshape(-1, trajectory.once)[:, some] - matrix[k]).max() for k in row]
        most = np.max(differences)  # a NaN, if there is one
        if not most <= TOLERANCE:
            raise Failure(f"results differ by {most:.2g} Å from MDAnalysis' own, allowed are {TOLERANCE:g}")
    largest = MPI.COMM_WORLD.reduce(most, MPI.MAX)
    if MPI.COMM_WORLD.rank == 0:
        print(
            f"RMSD of {len(some)} frames and RMSF of {len(rmsf)} atoms are MDAnalysis' own: "
            f"they differ by {largest:.2g} Å at most, allowed are {TOLERANCE:g}"
        )


def draw(rmsd: np.ndarray, rmsf: np.ndarray, path: Path) -> None:
    """Draw the matrix, and the curves of the frames and of the atoms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, middle, below) = pyplot.subplots(3, figsize=(8, 12), height_ratios=[4, 1, 1], layout="constrained")
    step = -(-len(rmsd) // 2000)  # more points than the picture has would only take memory
    extent = (0, len(rmsd), len(rmsd), 0)
    image = above.imshow(rmsd[::step, ::step], extent=extent, cmap="viridis", vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=above, label="Å")
    above.set(title="RMSD between frames, superposed", xlabel="frame", ylabel="frame")
    middle.plot(rmsd[0], color="tab:blue", lw=1)
    middle.set(title="RMSD from the first frame", xlabel="frame")
    below.plot(rmsf, color="tab:red", lw=1)
    below.set(title="RMSF about the average structure", xlabel="atom of the selection")
    for axes in middle, below:
        axes.set(ylabel="Å", ylim=(0, None))
        axes.margins(x=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def run(options: argparse.Namespace) -> None:
    here = ns.topology()
    found = ns.zeros(2, int)
    with found.writing(root=0) as mine:  # what cannot end well is to end now, on all ranks
        if mine is not None:
            trajectory = Trajectory(options)
            mine[:] = trajectory.once, len(trajectory.atoms)
            prepare_output(options, [RMSD, RMSF, PICTURE])
    once, atoms = found.array.tolist()
    count = once * options.repeat
    rmsd = ns.zeros((count, count), np.float32)
    rmsf = ns.empty(atoms)

    watch = Stopwatch()
    with ns.together(rmsf):
        trajectory = Trajectory(options)
        if (trajectory.once, len(trajectory.atoms)) != (once, atoms):  # where each node has its own disk
            raise Failure(f"{trajectory.files} are other files here than on rank 0")
    frames = ns.from_function(trajectory.frames, (count, atoms, 3), np.float32)  # the job reads the file once
    watch.done("reading")

    all_against_all(frames, rmsd)
    watch.done("computing RMSD")
    fluctuations(frames, rmsf)
    watch.done("computing RMSF")
    measured = here.comm.reduce(ns.memory().shared)  # PSS: a page that n ranks see counts 1/n in each

    if options.check:
        check(trajectory, rmsd, rmsf)
        watch.done("checking")

    if options.output:
        write(options.output, {RMSD: rmsd, RMSF: rmsf}, PICTURE, lambda path: draw(rmsd.array, rmsf.array, path))
        watch.done("writing")
    report(watch, "frames", frames.nbytes, measured)


def main() -> int:
    return exit_code(run, parse())


if __name__ == "__main__":
    sys.exit(main())
