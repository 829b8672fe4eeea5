# SPDX-License-Identifier: BSD-3-Clause
"""The second job: bad input ends in one sentence from one rank, good input in the same bits on any number of ranks."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slurm_programs import run, sentence

MDAnalysis = pytest.importorskip("MDAnalysis")
tests_of_mdanalysis = pytest.importorskip("MDAnalysisTests")
pytest.importorskip("matplotlib")

data = Path(tests_of_mdanalysis.__file__).parent / "data"
PSF, DCD = data / "adk.psf", data / "adk_dims.dcd"  # 3341 atoms, 98 frames
RESULTS = ["rmsd.npy", "rmsf.npy", "trajectory.png"]


@pytest.fixture
def trajectory(job):
    """Run trajectory.py with some options: `trajectory(2, "--check")`; `first` is code that runs before it."""
    return partial(run, job, "trajectory")


@pytest.mark.parametrize(
    "options, named",
    [
        (["--repeat", "1e3"], "1e3 is not a number of times"),
        (["--topology", PSF], "--topology and --trajectory belong together"),
    ],
)
@pytest.mark.slow
def test_a_bad_option_ends_in_one_sentence_and_code_2(trajectory, options, named):
    assert named in sentence(trajectory(2, *options), 2)


@pytest.mark.parametrize(
    "options, named",
    [
        (["--topology", PSF, "--trajectory", "nowhere.dcd"], "cannot read nowhere.dcd: No such file"),
        pytest.param(
            ["--topology", PSF, "--trajectory", data / "SiN_tric_namd.dcd"],
            "don't have the same number of atoms",
            marks=pytest.mark.slow,
        ),
        pytest.param(["--selection", "name NOBODY"], "selects none of the 3341 atoms", marks=pytest.mark.slow),
        pytest.param(["--selection", "nam CA"], "--selection 'nam CA' is not understood", marks=pytest.mark.slow),
        (["--repeat", "1000000"], " of memory are available there"),
    ],
)
def test_what_cannot_be_computed_ends_in_one_sentence_and_code_1_before_computing(trajectory, tmp_path, options, named):
    ended = trajectory(2, *options, "--output", tmp_path / "out")
    assert named in sentence(ended, 1)
    assert "%" not in ended.err  # the progress of computing
    assert not any((tmp_path / "out" / name).exists() for name in RESULTS)


@pytest.mark.slow
def test_frames_that_only_the_last_rank_finds_broken_end_all(trajectory, tmp_path):
    broken = tmp_path / "broken.dcd"
    shutil.copy(DCD, broken)
    with open(broken, "r+b") as file:
        file.seek(DCD.stat().st_size // 10 * 9)
        file.write(bytes(100_000))
    ended = trajectory(3, "--topology", PSF, "--trajectory", broken, env={"NODESHARE_RANKS_PER_NODE": "2,1"})
    said = sentence(ended, 1)
    assert "rank 2" in said and "cannot read frames " in said and "broken.dcd: " in said
    assert "%" not in ended.err


@pytest.mark.filterwarnings("ignore")  # MDAnalysis has some
@pytest.mark.parametrize("value", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)])
def test_coordinates_that_are_no_numbers_end_in_one_sentence(trajectory, tmp_path, value):
    universe = MDAnalysis.Universe(str(PSF), str(DCD))
    broken = tmp_path / "broken.dcd"
    with MDAnalysis.Writer(str(broken), len(universe.atoms)) as writer:
        for step in universe.trajectory[:5]:
            if step.frame == 3:
                universe.select_atoms("name CA")[7].position = [0, value, 0]
            writer.write(universe.atoms)
    ended = trajectory(2, "--topology", PSF, "--trajectory", broken, "--check")
    said = sentence(ended, 1)
    assert "cannot use frame 3 of " in said and "broken.dcd: not all of its coordinates are finite" in said
    assert "%" not in ended.err  # the progress of computing


@pytest.mark.slow
def test_any_number_of_ranks_and_nodes_gives_the_same_numbers_and_picture(trajectory, tmp_path):
    alone = trajectory(0, "--output", tmp_path / "alone")
    many = trajectory(5, "--output", tmp_path / "many", env={"NODESHARE_RANKS_PER_NODE": "2:cyclic"})
    assert (alone.code, many.code) == (0, 0), alone.err + many.err
    for name in RESULTS:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert many.out.count("PSS of all ranks") == 1


def test_check_finds_what_mdanalysis_finds_and_writes_nothing(trajectory, tmp_path):
    ended = trajectory(3, "--repeat", "2", "--check", env={"NODESHARE_RANKS_PER_NODE": "2,1"})
    assert ended.code == 0, ended.err
    assert ended.out.count("RMSD of 98 frames and RMSF of 214 atoms are MDAnalysis' own") == 1
    assert not list(tmp_path.glob("**/*.npy"))


@pytest.mark.slow
@pytest.mark.parametrize("wrong, by", [("distances", "1e-2"), ("rotation", "1e-2"), ("distances", "numpy.nan")])
def test_check_finds_a_wrong_number(trajectory, wrong, by):
    spoil = f"""
import trajectory, numpy
right = trajectory.{wrong}
count = 0
def spoiled(*arguments):
    global count
    count += 1
    # a single one may be of no frames, or change the average alone
    return right(*arguments) + ({by} if count > 20 else 0)
trajectory.{wrong} = spoiled
"""
    assert " Å from MDAnalysis' own" in sentence(trajectory(2, "--check", first=spoil), 1)


@pytest.mark.slow
def test_a_repeated_trajectory_gives_each_number_again(trajectory, tmp_path):
    for times in 1, 3:
        ended = trajectory(2, "--repeat", times, "--output", tmp_path / str(times))
        assert ended.code == 0, ended.err
    once, thrice = (np.load(tmp_path / times / "rmsd.npy") for times in ("1", "3"))
    assert once.max() > 6 and np.abs(thrice - np.tile(once, (3, 3))).max() < 1e-4
    assert np.array_equal(thrice, thrice.T) and not thrice.diagonal().any()
    assert not np.array_equal(thrice, np.tile(once, (3, 3)))  # turned otherwise, each time
    once, thrice = (np.load(tmp_path / times / "rmsf.npy") for times in ("1", "3"))
    assert once.max() > 5 and np.abs(thrice - once).max() < 1e-4


@pytest.mark.filterwarnings("ignore")  # MDAnalysis has some
@pytest.mark.parametrize("frames", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_more_ranks_than_frames(trajectory, tmp_path, frames):
    universe = MDAnalysis.Universe(PSF, DCD)
    few = tmp_path / "few.dcd"
    with MDAnalysis.Writer(str(few), len(universe.atoms)) as writer:
        for _ in universe.trajectory[:frames]:
            writer.write(universe.atoms)
    words = ["--topology", PSF, "--trajectory", few, "--check", "--output", tmp_path / "out"]
    ended = trajectory(5, *words, env={"NODESHARE_RANKS_PER_NODE": "2"})
    assert ended.code == 0, ended.err
    assert np.load(tmp_path / "out" / "rmsd.npy").shape == (frames, frames)


@pytest.mark.slow
def test_shapes_that_are_hard_to_superpose_get_what_mdanalysis_gives_them(trajectory):
    compare = """
import trajectory, numpy as np
from MDAnalysis.analysis.rms import rmsd
random = np.random.default_rng(5)
shapes = [random.normal(size=(1, 7, 3)) * scale for scale in ([1, 1, 1], [1, 1, 0])]
shapes += [-shapes[0], shapes[0] + 1e-9, shapes[0] @ trajectory.Rotation.random(rng=3).as_matrix()]
shapes = np.concatenate(shapes)
shapes -= shapes.mean(axis=1, keepdims=True)
squares = (shapes**2).sum(axis=(1, 2))
for a, square in zip(shapes, squares):
    got = trajectory.distances(a, shapes, square + squares)
    expected = [rmsd(a, b, superposition=True) for b in shapes]
    assert np.abs(got - expected).max() < 1e-6, (got, expected)
    for b, distance in zip(shapes, got):
        turn = trajectory.rotation(b, a)
        assert abs(np.linalg.det(turn) - 1) < 1e-9
        assert abs(np.sqrt(((b @ turn - a)**2).sum() / 7) - distance) < 1e-6
print("compared")
sys.exit(0)
"""
    ended = trajectory(0, first=compare)
    assert ended.code == 0 and "compared" in ended.out, ended.err
