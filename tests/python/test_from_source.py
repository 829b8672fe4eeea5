# SPDX-License-Identifier: BSD-3-Clause
"""Reading what other libraries have opened: each element once, at the borders of chunks, whole on every node."""

import os
import tracemalloc
from functools import partial

import numpy as np
import pytest
from mpi4py import MPI
from support import (  # noqa: F401
    DTYPES,
    LAST,
    content,
    leaves_nothing,
    one_failed,
    only,
    outcome,
    same,
    some_failed,
    told,
    world,
    written,
)

import nodeshare as ns
from nodeshare.from_source import _chunks, _file_of

pytestmark = pytest.mark.usefixtures("leaves_nothing")

SHAPE = (13, 5, 4)
SELECTIONS = {
    "all": None,
    "dots": ...,
    "a row": 3,
    "the last row": np.int16(-1),
    "rows": slice(2, 11),
    "backward counts": slice(-4, -1),
    "beyond the end": slice(4, 99),
    "no rows": slice(5, 5),
    "steps": slice(1, None, 3),
    "long steps": np.s_[::7, ::3],
    "column": np.s_[:, 2],
    "element": (4, 1, 3),
    "last axis": np.s_[..., 1:3],
    "around dots": np.s_[1:9, ..., 2],
    "mixed": np.s_[2:12:2, 1, ::2],
}


class Duck:
    """The least that a source is; notes how often its elements are read."""

    def __init__(self, array, chunks=None):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.times = np.zeros(array.shape, "u1")

    def __getitem__(self, index):
        self.times[index] += 1
        return self.array[index]

    def times_in_all(self):
        """Collective. Return how often each element was read in the job."""
        return world.allreduce(self.times.astype(int))


class Giving(Duck):
    """A source whose blocks are what a function makes of them."""

    def __init__(self, gives, array=None, chunks=None):
        super().__init__(np.zeros((2 * world.size, 3), "f4") if array is None else array, chunks)
        self.gives = gives

    def __getitem__(self, index):
        return self.gives(self.array[index])


def hdf5(path, values, **options):
    """Collective. A dataset of h5py, opened by each rank."""
    h5py = pytest.importorskip("h5py")

    def make(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=values, **options)

    return h5py.File(written(path, make), "r")["x"]


def zarr_array(path, values, chunks, **options):
    """Collective. An array of zarr, opened by each rank."""
    zarr = pytest.importorskip("zarr")
    if zarr.__version__ < "3":
        options.pop("zarr_format", None)  # it has no other

    def make(path):
        kwargs = {"shape": values.shape, "dtype": values.dtype, "chunks": chunks, **options}
        zarr.open(str(path), mode="w", **kwargs)[...] = values

    return zarr.open(str(written(path, make)), mode="r")


def netcdf(path, values, chunks=None, **attributes):
    """Collective. A variable of netCDF4, opened by each rank."""
    netCDF4 = pytest.importorskip("netCDF4")

    def make(path):
        with netCDF4.Dataset(path, "w") as file:
            names = [file.createDimension(f"axis{i}", n).name for i, n in enumerate(values.shape)]
            fill = attributes.pop("_FillValue", None)
            variable = file.createVariable("x", values.dtype, names, chunksizes=chunks, fill_value=fill)
            variable.setncatts(attributes)
            variable.set_auto_maskandscale(False)
            variable[...] = values

    return netCDF4.Dataset(written(path, make))["x"]


def netcdf_files(folder, values):
    """Collective. A variable of two files of netCDF4, as an MFDataset has it, opened by each rank."""
    netCDF4 = pytest.importorskip("netCDF4")
    for number, part in enumerate(np.split(values, [values.shape[0] // 3])):

        def make(path, part=part):
            with netCDF4.Dataset(path, "w", format="NETCDF4_CLASSIC") as file:
                lengths = [None, *values.shape[1:]]
                names = [file.createDimension(f"axis{i}", n).name for i, n in enumerate(lengths)]
                file.createVariable("x", values.dtype, names)[...] = part

        written(folder / f"part{number}.nc", make)
    return netCDF4.MFDataset([folder / "part0.nc", folder / "part1.nc"]).variables["x"]


def mapped(path, values):
    """Collective. A memmap, on each rank."""
    written(path, lambda path: np.save(path, values))
    return np.load(path, mmap_mode="r")


SOURCES = {
    "ndarray": lambda folder, values: values,
    "duck": lambda folder, values: Duck(values, (3, 2, 4)),
    "h5py": lambda folder, values: hdf5(folder / "x.h5", values),
    "h5py in chunks": lambda folder, values: hdf5(folder / "x.h5", values, chunks=(3, 2, 4)),
    "h5py compressed": lambda folder, values: hdf5(folder / "x.h5", values, chunks=(2, 5, 4), compression="gzip"),
    "h5py in one chunk": lambda folder, values: hdf5(folder / "x.h5", values, chunks=values.shape),
    "zarr": lambda folder, values: zarr_array(folder / "x.zarr", values, (3, 5, 2)),
    "zarr of format 2": lambda folder, values: zarr_array(folder / "x.zarr", values, (3, 5, 2), zarr_format=2),
    "netCDF4": lambda folder, values: netcdf(folder / "x.nc", values),
    "netCDF4 in chunks": lambda folder, values: netcdf(folder / "x.nc", values, (4, 5, 1)),
    "netCDF4 in two files": netcdf_files,
    "memmap": lambda folder, values: mapped(folder / "x.npy", values),
    "memmap in Fortran order": lambda folder, values: mapped(folder / "x.npy", np.asfortranarray(values)),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_what_is_selected_is_whole_on_every_node(folder, make):
    values = content("f4", SHAPE, 5)
    source = make(folder, values)
    for name, select in SELECTIONS.items():
        a = ns.from_source(source, select)
        expected = values if select is None else values[select]
        assert same(a.array, np.asarray(expected)), name
        assert not a.array.flags.writeable


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_orders_dtypes_and_reading_on_each_node(folder, make):
    values = content("i2", SHAPE, 5)
    source = make(folder, values)
    a = ns.from_source(source, np.s_[1:], ">f8", order="F", read="each-node", writable=True)
    assert same(a.array, values[1:].astype(">f8")) and a.order == "F" and a.array.flags.writeable
    assert same(ns.from_source(source, dtype="u1", order="F").array, values.astype("u1"))


@pytest.mark.parametrize("chunks", [None, (2, 5, 4)], ids=["contiguous", "in chunks"])
def test_h5py_s_views_as_another_type_and_of_fields(folder, chunks):
    values = content([("a", "f8"), ("b", "i2")], SHAPE)
    whole = hdf5(folder / "whole.h5", values["a"], chunks=chunks)
    records = hdf5(folder / "records.h5", values, chunks=chunks)
    for name, select in SELECTIONS.items():
        numpy_s = ... if select is None else select
        a = ns.from_source(whole.astype("f4"), select)
        assert same(a.array, np.asarray(values["a"].astype("f4")[numpy_s])), name
        a = ns.from_source(records.fields("b"), select)
        assert same(a.array, np.asarray(values["b"][numpy_s])), name
    for view in (whole.astype("f4"), records.fields("b")):
        assert _chunks(view, 3) == list(chunks or (1, 1, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_memmaps_of_every_dtype(folder, dtype):
    source = mapped(folder / "x.npy", content(dtype, (9, 2)))
    assert same(ns.from_source(source).array, content(dtype, (9, 2)))
    assert same(ns.from_source(source, slice(1, 8, 2), order="F").array, content(dtype, (9, 2))[1:8:2])


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u8", "e", ">f4", "f8", "D", "S5", "V3", "i4,f8", [("a", "S3"), ("b", ">i2", (2,))]], ids=str
)
@pytest.mark.parametrize("chunks", [None, (2, 3)], ids=["contiguous", "in chunks"])
def test_h5py_s_dtypes(folder, dtype, chunks):
    source = hdf5(folder / "x.h5", content(dtype, (9, 3)), chunks=chunks)
    assert same(ns.from_source(source).array, content(dtype, (9, 3)))
    assert same(ns.from_source(source, np.s_[2:, 1]).array, content(dtype, (9, 3))[2:, 1])


def test_h5py_s_arrays_as_elements(folder):
    h5py = pytest.importorskip("h5py")
    values = content("f4", (7, 2, 3))

    def make(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (7,), np.dtype(("f4", (2, 3))))[...] = values

    source = h5py.File(written(folder / "x.h5", make), "r")["x"]
    assert source.shape == (7,)
    assert same(ns.from_source(source).array, values)
    assert same(ns.from_source(source, 3).array, values[3])


def test_sources_without_axes_or_elements(folder):
    for number, source in enumerate(
        [np.array(2.5), hdf5(folder / "0.h5", 2.5), netcdf(folder / "0.nc", np.array(2.5)), np.empty((3, 0, 2))]
    ):
        values = np.empty((3, 0, 2)) if number == 3 else np.array(2.5)
        assert same(ns.from_source(source).array, values)
    assert same(ns.from_source(hdf5(folder / "1.h5", np.empty((0, 4), "i2"))).array, np.empty((0, 4), "i2"))


@pytest.mark.parametrize("chunks", [None, (1, 1, 1), (3, 2, 4), (4, 1, 1), (13, 5, 4), (5, 5, 2), (100, 2, 3)], ids=str)
@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS.keys())
def test_every_element_is_read_once_in_the_job(select, chunks):
    source = Duck(content("i4", SHAPE), chunks)
    a = ns.from_source(source, select)
    expected = np.zeros(SHAPE, int)
    expected[... if select is None else select] = 1
    assert (source.times_in_all() == expected).all()
    assert same(a.array, np.asarray(source.array[... if select is None else select]))


def test_each_node_reads_everything_once():
    source = Duck(content("i4", SHAPE), (3, 2, 4))
    a = ns.from_source(source, read="each-node")
    assert same(a.array, source.array) and (source.times_in_all() == ns.topology().nodes).all()


@pytest.mark.parametrize("chunks", [(3, 2, 4), (2, 5, 1), (7, 1, 4), (13, 2, 2)], ids=str)
def test_no_chunk_is_read_by_two_ranks(chunks):
    source = Duck(content("i4", (27, 10, 8)), chunks)
    ns.from_source(source, np.s_[5:, ::3, 1:])
    mine = {tuple(place) for place in np.argwhere(source.times) // chunks}
    everyone_s = [chunk for theirs in world.allgather(mine) for chunk in theirs]
    assert len(everyone_s) == len(set(everyone_s))


def test_ranks_share_the_axis_that_has_chunks_for_all():
    for chunks in ((1, 5 * world.size), (6, 1)):
        source = Duck(np.zeros((6 * world.size, 5 * world.size)), chunks)
        ns.from_source(source)
        assert all(world.allgather(source.times.any()))
    source = Duck(np.zeros((8, 5 * world.size)), (8, 5))  # one chunk of rows
    ns.from_source(source)
    assert all(world.allgather(source.times.any()))


@pytest.mark.parametrize("chunks", [None, (1000, 300), (1, 3000), (7, 10)], ids=str)
def test_blocks_are_of_a_few_megabytes_along_rows(chunks):
    source = Giving(lambda block: block.copy(), np.broadcast_to(np.arange(1500.0), (4000, 1500)), chunks)
    tracemalloc.start()
    try:
        a = ns.from_source(source)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (a.array == np.arange(1500.0)).all()


def test_blocks_that_are_made_narrower_are_of_a_few_megabytes_too():
    source = Giving(lambda block: block.copy(), np.broadcast_to(np.arange(1500.0) % 100, (4000, 1500)))
    tracemalloc.start()
    try:
        a = ns.from_source(source, dtype="i1")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (a.array == np.arange(1500) % 100).all()


def test_a_large_file_in_compressed_chunks(folder):
    values = np.arange(3_000_017, dtype="f8").reshape(-1, 1) * [1, -1]
    source = hdf5(folder / "x.h5", values, chunks=(100_003, 1), compression="gzip", shuffle=True)
    assert same(ns.from_source(source).array, values)
    assert same(ns.from_source(source, np.s_[5:-5, 1], "f4").array, values[5:-5, 1].astype("f4"))


def test_an_array_of_nodeshare_is_a_source_too():
    a = ns.full((7, 2), 2.5)
    assert same(ns.from_source(a, np.s_[2:]).array, np.full((5, 2), 2.5))


def test_on_communicators_of_their_own(folder):
    source = mapped(folder / "x.npy", content("i4", 11))
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    assert same(ns.from_source(source, slice(2, None), comm=comm).array, content("i4", 11)[2:])
    if world.rank == 0:
        assert same(ns.from_source(source, comm=MPI.COMM_SELF).array, content("i4", 11))
    comm.Free()


# --- netCDF4's masks and scales -------------------------------------------------------------------------------------


def test_netcdf_gives_scaled_numbers_unless_it_is_told_not_to(folder):
    values = content("i2", (7, 3))
    source = netcdf(folder / "x.nc", values, scale_factor=0.5, add_offset=10.0)
    assert same(ns.from_source(source).array, values * 0.5 + 10)
    source.set_auto_maskandscale(False)
    assert same(ns.from_source(source).array, values)


def test_netcdf_s_masked_values_are_refused_and_not_lost(folder):
    values = np.arange(2 * world.size, dtype="i2")
    source = netcdf(folder / "x.nc", values, _FillValue=2 * world.size - 1)
    one_failed(outcome(lambda: ns.from_source(source)), LAST, ns.InvalidArgument, "masked", "set_auto_mask(False)")
    assert same(ns.from_source(source, slice(0, -1)).array, values[:-1])
    source.set_auto_mask(False)
    assert same(ns.from_source(source).array, values)


def test_netcdf_s_texts_are_refused_and_its_characters_are_not(folder):
    values = np.array([list(f"{n:03}") for n in range(2 * world.size)], "S1")
    source = netcdf(folder / "x.nc", values, _Encoding="ascii")
    some_failed(outcome(lambda: ns.from_source(source)), ns.InvalidArgument, "texts", "set_auto_chartostring")
    source.set_auto_chartostring(False)
    assert same(ns.from_source(source).array, values)


def test_masked_arrays_are_refused_where_something_is_masked():
    values = np.ma.masked_array(np.arange(world.size), np.arange(world.size) == LAST)
    one_failed(outcome(lambda: ns.from_source(values)), LAST, ns.InvalidArgument, "masked")
    values.mask = False
    assert ns.from_source(values).array.tolist() == list(range(world.size))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, words",
    [
        (None, ["source is None", "every rank"]),
        ("x.h5", ["str", "open it"]),
        ([1, 2], ["list", "array"]),
        (np.array([None, 1]), ["Python objects"]),
    ],
    ids=["None", "path", "list", "objects"],
)
def test_what_is_no_source_is_refused_by_all_or_by_one(source, words):
    told(outcome(lambda: ns.from_source(source)), ns.InvalidArgument, *words)
    error = outcome(lambda: ns.from_source(only(LAST, source, np.zeros(2))))
    one_failed(error, LAST, ns.InvalidArgument, *words)


def test_h5py_s_groups_null_spaces_texts_and_closed_files_are_refused(folder):
    h5py = pytest.importorskip("h5py")

    def make(path):
        with h5py.File(path, "w") as file:
            file["null"] = h5py.Empty("f4")
            file["text"] = ["a", "bcd"]

    with h5py.File(written(folder / "x.h5", make), "r") as file:
        told(outcome(lambda: ns.from_source(file)), ns.InvalidArgument, "File", "pass a dataset")
        told(outcome(lambda: ns.from_source(file["null"])), ns.InvalidArgument, "null")
        told(outcome(lambda: ns.from_source(file["text"])), ns.InvalidArgument, "Python objects")
        closed = file["null"]
    assert outcome(lambda: ns.from_source(closed)) is not None


@pytest.mark.parametrize(
    "select, words",
    [
        (slice(None, None, -1), ["steps are positive"]),
        ([0, 1], ["[0, 1]", "ints, slices"]),
        (np.array([True] * 4), ["ints, slices"]),
        ("x", ["'x'"]),
        (1.0, ["1.0"]),
        (True, ["True"]),
        ((None, 1), ["None"]),
        (4, ["4 indices"]),
        ((0, -4), ["3 indices"]),
        ((0, 0, 0), ["2 axes"]),
        ((..., 0, ...), ["`...`", "once"]),
    ],
    ids=str,
)
def test_selections_that_not_all_sources_have_are_refused(select, words):
    told(outcome(lambda: ns.from_source(np.zeros((4, 3)), select)), ns.InvalidArgument, "select", *words)


@pytest.mark.parametrize("bad", [{"dtype": "S"}, {"dtype": "f4,O"}, {"dtype": (int, 3)}, {"order": "K"}, {"read": "2"}])
def test_arguments_that_can_not_be_are_refused(bad):
    told(outcome(lambda: ns.from_source(np.zeros((4, 3)), **bad)), ns.InvalidArgument, *bad)


@pytest.mark.parametrize(
    "gives, words",
    [
        (lambda block: block[:-1], ["gave shape"]),
        (lambda block: block.astype("f8"), ["float64", "float32"]),
        (lambda block: None, ["gave None"]),
    ],
    ids=["shape", "dtype", "None"],
)
def test_blocks_that_are_not_what_the_source_said_are_refused(gives, words):
    source = Giving(gives if world.rank == LAST else lambda block: block)
    one_failed(outcome(lambda: ns.from_source(source)), LAST, ns.InvalidArgument, "source[", *words)


def test_a_source_that_raises_on_one_rank_ends_all():
    def gives(block):
        raise OSError("the disk is gone")

    source = Giving(gives if world.rank == LAST else lambda block: block)
    for read in ("once", "each-node"):
        one_failed(outcome(lambda read=read: ns.from_source(source, read=read)), LAST, OSError, "the disk is gone")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize(
    "other, words",
    [
        (Duck(np.zeros((5, 3)), (2, 3)), ["(5, 3)", "(4, 3)"]),
        (Duck(np.zeros((4, 3), "f4"), (2, 3)), ["<f4", "<f8"]),
        (Duck(np.zeros((4, 3)), (1, 3)), ["(1, 3)", "(2, 3)"]),
    ],
    ids=["shape", "dtype", "chunks"],
)
def test_sources_that_differ_are_named_with_their_rank(other, words):
    source = only(LAST, other, Duck(np.zeros((4, 3)), (2, 3)))
    told(outcome(lambda: ns.from_source(source)), ns.Mismatch, f"rank {LAST}", "rank 0", *words)
    assert not source.times.any()


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize(
    "what, mine", [("select", (0, 1)), ("read", ("once", "each-node")), ("writable", (True, False))], ids=str
)
def test_ranks_that_ask_for_different_things_are_a_mismatch(what, mine):
    told(outcome(lambda: ns.from_source(np.zeros(4), **{what: only(LAST, *mine)})), ns.Mismatch, what)


# --- files that change ----------------------------------------------------------------------------------------------


CUT_OFF = {
    "memmap": mapped,
    "h5py": hdf5,
    "h5py in chunks": partial(hdf5, chunks=(999,)),
    "h5py as another type": lambda path, values: hdf5(path, values).astype("f4"),
}


@pytest.mark.parametrize("make", CUT_OFF.values(), ids=CUT_OFF.keys())
def test_a_file_that_is_cut_off_while_it_is_open_is_an_error_and_no_zeros(folder, make):
    source = make(folder / "x.npy", np.arange(100_000.0) + 1)
    world.Barrier()
    if world.rank == 0:
        os.truncate(folder / "x.npy", 8192)
    world.Barrier()
    told(outcome(lambda: ns.from_source(source)), OSError)


@pytest.mark.ranks(1)
def test_a_netcdf_file_that_becomes_shorter_is_noticed(folder):
    values = np.arange(1000.0)
    for source, name in ((netcdf(folder / "x.nc", values), "x.nc"), (netcdf_files(folder, values), "part1.nc")):
        size, needed = _file_of(source)
        assert size() == needed
        os.truncate(folder / name, 4000)
        assert size() < needed


def test_a_zarr_array_whose_chunk_is_damaged_is_zarr_s_error(folder):
    source = zarr_array(folder / "x.zarr", np.arange(1000.0).reshape(100, 10), (10, 10))
    if world.rank == 0:
        for file in (folder / "x.zarr").rglob("*"):
            if file.is_file() and not file.name.endswith((".json", ".zarray", ".zattrs")):
                file.write_bytes(b"no chunk")
    world.Barrier()
    assert outcome(lambda: ns.from_source(source)) is not None
