# SPDX-License-Identifier: BSD-3-Clause
"""Reading .npy files: what np.load gives, once per node; what is no such file; writing them, whole or not at all."""

import os
import resource
import struct
import warnings

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, content, leaves_nothing, one_failed, only, outcome, same, told, world, written  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def shared(values, **options):
    """Collective. A writable array on all ranks of what every rank has."""
    return ns.array(values, writable=True, **options)


def on_disk(path):
    """Collective. What plain NumPy reads; nothing else is in the folder that this left there."""
    world.Barrier()
    assert [name for name in os.listdir(path.parent) if "nodeshare-" in name] == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.load(path)


def header(text, version=(1, 0)):
    """Return the first bytes of a file with such a header."""
    raw = text if isinstance(text, bytes) else text.encode("latin1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(raw)) + raw


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_is_loaded_whole_on_every_node_and_saved_as_np_load_reads_it(folder, dtype, order):
    expected = content(dtype, (7, 3), order=order)
    path = written(folder / "x.npy", lambda path: np.save(path, expected))
    a = ns.load(path)
    assert same(a.array, np.load(path)) and a.order == order
    assert a.array.strides == expected.strides and not a.array.flags.writeable
    ns.save(folder / "y.npy", a)
    got = on_disk(folder / "y.npy")
    assert same(got, expected) and got.strides == expected.strides


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
@pytest.mark.parametrize("kind", ["f8", [("größe", "f4"), ("δ", ">i2")], [("x", "i1"), ("y", "c16", (2,))]], ids=str)
def test_every_version_of_the_format(folder, version, kind):
    if version < (3, 0) and "δ" in str(kind):
        pytest.skip("older versions have no room for such names")
    expected = content(kind, (5, 2))

    def write(path):
        with open(path, "wb") as file:
            np.lib.format.write_array(file, expected, version)

    assert same(ns.load(written(folder / "x.npy", write)).array, expected)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2,), (3, 0, 2), (1, 1), (1013,), ((9 << 20) + 3,)], ids=str)
def test_every_size_also_smaller_than_the_number_of_ranks(folder, shape):
    expected = content("u1", shape)
    a = ns.load(written(folder / "x.npy", lambda path: np.save(path, expected)))
    assert same(a.array, expected)
    ns.save(folder / "y.npy", a)
    assert same(on_disk(folder / "y.npy"), expected)


def test_a_file_may_be_named_as_python_s_open_takes_it(folder, monkeypatch):
    expected = content("i4", 5)
    written(folder / "x.npy", lambda path: np.save(path, expected))
    monkeypatch.chdir(folder)
    for path in ("x.npy", str(folder / "x.npy"), folder / "x.npy", b"x.npy"):
        assert same(ns.load(path).array, expected)


def test_a_file_of_any_name(folder):
    name = os.fsdecode(b"bad \xff bytes, %s, 'quotes' \n.npy")
    path = written(folder / name, lambda path: np.save(path, content("i4", 5)))
    assert same(ns.load(path).array, content("i4", 5))


def test_a_loaded_array_may_be_writable_and_the_file_stays(folder):
    expected = content("i4", 5)
    path = written(folder / "x.npy", lambda path: np.save(path, expected))
    a = ns.load(path, writable=True)
    a.local[...] = -1
    a.sync()
    assert (a.array == -1).all() and same(np.load(path), expected)


def test_a_communicator_of_its_own(folder):
    path = written(folder / "x.npy", lambda path: np.save(path, content("i4", 5)))
    comm = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    a = ns.load(path, comm=comm)
    b = ns.load(path, comm=MPI.COMM_SELF) if world.rank == 0 else None
    comm.Free()
    assert same(a.array, content("i4", 5)) and (b is None or same(b.array, a.array))


def test_bytes_after_the_data_do_not_matter(folder):
    def write(path):
        np.save(path, content("i4", 5))
        with open(path, "ab") as file:
            file.write(b"more")

    assert same(ns.load(written(folder / "x.npy", write)).array, content("i4", 5))


# --- no such file ---------------------------------------------------------------------------------------------------

GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }\n"
DATA = bytes(24)


class _Trap:
    """Pickled, it would be noticed when it comes back to life."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def saved(array, **options):
    return lambda path: np.save(path, array, **options)


BAD = {
    "empty": b"",
    "text": b"1 2 3\n" * 20,
    "zip": lambda path: np.savez(open(path, "wb"), x=np.arange(3)),
    "magic only": b"\x93NUMPY",
    "version 4": header(GOOD, (4, 0)) + DATA,
    "version 0": header(GOOD, (0, 0)) + DATA,
    "no length": b"\x93NUMPY\x01\x00",
    "half a header": header(GOOD)[:30],
    "length beyond the file": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + GOOD.encode(),
    "no header": header("") + DATA,
    "no dict": header("[1, 2]\n") + DATA,
    "code": header("__import__('os').mkdir('unpickled')\n") + DATA,
    "no shape": header("{'descr': '<f8', 'fortran_order': False}\n") + DATA,
    "a bad type": header(GOOD.replace("<f8", "<q17")) + DATA,
    "a negative shape": header(GOOD.replace("(3,)", "(-3,)")) + DATA,
    "a shape of floats": header(GOOD.replace("(3,)", "(3.0,)")) + DATA,
    "a huge shape": header(GOOD.replace("(3,)", "(2**62, 2**62)".replace("2**62", str(2**62)))) + DATA,
    "an overflowing shape": header(GOOD.replace("(3,)", f"({2**32}, {2**32}, 8)")) + DATA,
    "null bytes": header(b"\0" * 60) + DATA,
    "deep": header("(" * 5000 + ")" * 5000) + DATA,
    "bad utf-8": header(b"{'descr': [('\xff', '<f8')], 'fortran_order': False, 'shape': (3,)}", (3, 0)) + DATA,
    "no data": header(GOOD),
    "a byte missing": header(GOOD) + DATA[:-1],
    "objects": saved(np.array([_Trap(), None]), allow_pickle=True),
    "objects in records": saved(np.array([(1, _Trap())], [("a", int), ("b", object)]), allow_pickle=True),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_file_that_cannot_be_is_refused_with_its_name(folder, monkeypatch, bad):
    path = written(folder / "bad.npy", bad if callable(bad) else lambda path: path.write_bytes(bad))
    monkeypatch.chdir(folder)
    error = outcome(lambda: ns.load(path))
    told(error, ns.InvalidArgument, "bad.npy")
    assert not os.path.exists("unpickled")


def test_a_truncated_file_says_what_is_missing(folder):
    path = written(folder / "x.npy", lambda path: path.write_bytes(header(GOOD) + DATA[:7]))
    told(outcome(lambda: ns.load(path)), ns.InvalidArgument, "truncated", 24, 7)


def test_objects_are_named_as_the_reason(folder):
    path = written(folder / "x.npy", BAD["objects"])
    told(outcome(lambda: ns.load(path)), ns.InvalidArgument, "objects")


def test_a_missing_file_and_a_folder_are_the_system_s_errors(folder):
    told(outcome(lambda: ns.load(folder / "none.npy")), FileNotFoundError, "none.npy")
    told(outcome(lambda: ns.load(folder)), IsADirectoryError)


@pytest.mark.parametrize("path", [None, 3.5, ["x.npy"], object()], ids=repr)
def test_what_is_no_path_is_a_type_error(path):
    assert isinstance(outcome(lambda: ns.load(path)), (TypeError, ns.InvalidArgument))


@pytest.mark.ranks(2, 3, 5)
def test_a_file_that_one_rank_cannot_see_is_told_to_all(folder, monkeypatch):
    written(folder / "x.npy", lambda path: np.save(path, content("i4", 5)))
    if world.rank == 0:
        (folder / "elsewhere").mkdir()
    world.Barrier()
    monkeypatch.chdir(folder / "elsewhere" if world.rank == LAST else folder)
    one_failed(outcome(lambda: ns.load("x.npy")), LAST, FileNotFoundError, "x.npy")
    monkeypatch.chdir(folder)
    assert same(ns.load("x.npy").array, content("i4", 5))


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize("other", [content("i4", 6), content("u4", 5), content(">i4", 5)], ids=["shape", "type", "end"])
def test_different_files_on_ranks_are_a_mismatch(folder, monkeypatch, other):
    mine = folder / ("b" if world.rank == LAST else "a")
    if world.rank == 0:
        for name, value in (("a", content("i4", 5)), ("b", other)):
            (folder / name).mkdir()
            np.save(folder / name / "x.npy", value)
    world.Barrier()
    monkeypatch.chdir(mine)
    told(outcome(lambda: ns.load("x.npy")), ns.Mismatch, f"rank {LAST}", "rank 0", "test_io.py:")


@pytest.mark.ranks(2, 3, 5)
def test_different_orders_on_ranks_are_a_mismatch(folder, monkeypatch):
    if world.rank == 0:
        for order in "CF":
            (folder / order).mkdir()
            np.save(folder / order / "x.npy", content("i4", (4, 5), order=order))
    world.Barrier()
    monkeypatch.chdir(folder / ("F" if world.rank == LAST else "C"))
    told(outcome(lambda: ns.load("x.npy")), ns.Mismatch, f"rank {LAST}")


@pytest.mark.ranks(2, 3)
def test_a_file_that_is_replaced_between_the_opens_of_two_ranks_is_an_error(folder, monkeypatch):
    old, new = (np.full(1000, value) for value in (1, 2))
    path = written(folder / "x.npy", lambda path: np.save(path, old))
    written(folder / "new.npy", lambda path: np.save(path, new))

    def opened(*words):
        if world.rank != LAST:
            file = open(*words)
            world.Barrier()
            return file
        world.Barrier()
        os.replace(folder / "new.npy", path)
        return open(*words)

    with monkeypatch.context() as patched:
        patched.setattr("nodeshare.io.open", opened, raising=False)
        error = outcome(lambda: ns.load(path))
    told(error, ns.PeerError if world.rank == LAST else ns.Error, "x.npy was replaced", "load it again")
    assert same(ns.load(path).array, new)


@pytest.mark.ranks(2, 3)
def test_a_path_and_its_text_are_the_same_file(folder):
    path = written(folder / "x.npy", lambda path: np.save(path, content("i4", 5)))
    a = ns.load(only(LAST, path, str(path)))
    ns.save(only(LAST, str(path), path), a)
    assert same(on_disk(path), content("i4", 5))


def truncate(path):
    np.save(path, content("i4", 1000))
    os.truncate(path, 1000)


LOCAL = {
    "missing": (lambda path: None, FileNotFoundError, "No such file"),
    "unreadable": (lambda path: path.mkdir(), IsADirectoryError, "Is a directory"),
    "a loop of links": (lambda path: path.symlink_to(path), OSError, "Too many levels"),
    "truncated": (truncate, ns.InvalidArgument, "truncated"),
    "no npy": (lambda path: path.write_bytes(b"text"), ns.InvalidArgument, "no .npy file"),
}


@pytest.mark.parametrize(("make", "kind", "text"), LOCAL.values(), ids=LOCAL.keys())
def test_what_is_wrong_with_the_file_on_one_node_s_disk_is_told_to_all(folder, monkeypatch, make, kind, text):
    t = ns.topology()
    bad = t.nodes - 1
    if world.rank == 0:
        for name in ("good", "bad"):
            (folder / name).mkdir()
        np.save(folder / "good" / "x.npy", content("i4", 1000))
        make(folder / "bad" / "x.npy")
    world.Barrier()
    monkeypatch.chdir(folder / ("bad" if t.node == bad else "good"))
    error = outcome(lambda: ns.load("x.npy"))
    told(error, kind if t.node == bad else ns.PeerError, text)
    monkeypatch.chdir(folder / "good")
    assert same(ns.load("x.npy").array, content("i4", 1000))


def test_each_node_s_disk_may_have_the_file(folder, monkeypatch):
    t = ns.topology()
    for node in range(t.nodes):
        if world.rank == 0:
            (folder / str(node)).mkdir()
            np.save(folder / str(node) / "x.npy", content("f8", (1000, 3)))
    world.Barrier()
    monkeypatch.chdir(folder / str(t.node))
    assert same(ns.load("x.npy").array, content("f8", (1000, 3)))


def test_the_long_integers_of_python_2_are_read(folder):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (3L,), }\n"
    path = written(folder / "x.npy", lambda path: path.write_bytes(header(text) + DATA))
    assert ns.load(path).array.tolist() == [0, 0, 0]


def test_no_file_stays_open(folder):
    good = written(folder / "x.npy", lambda path: np.save(path, content("i4", 5)))
    bad = written(folder / "bad.npy", lambda path: path.write_bytes(header(GOOD)))
    for path in (good, bad):
        outcome(lambda path=path: ns.load(path, comm=MPI.COMM_SELF))
    opened = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    assert not opened & {str(good.resolve()), str(bad.resolve())}


# --- saving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "version"),
    [(["x"], 1), (["größe"], 1), (["δ"], 3), ([f"field {i} of many" for i in range(3000)], 2)],
    ids=["short", "latin1", "utf-8", "long"],
)
def test_a_header_is_of_the_oldest_version_that_can_say_it(folder, names, version):
    expected = np.ones(3, [(name, "i1") for name in names])
    ns.save(folder / "x.npy", shared(expected))
    world.Barrier()
    with open(folder / "x.npy", "rb") as file:
        assert np.lib.format.read_magic(file) == (version, 0)
    assert (folder / "x.npy").stat().st_size % 64 == expected.nbytes % 64
    assert same(np.load(folder / "x.npy", max_header_size=1 << 20), expected)
    assert same(ns.load(folder / "x.npy").array, expected)


def test_the_name_ends_as_numpy_has_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    a = shared(content("i4", 5))
    for path in ("a", folder / "b", b"c", "d.npy", "e.npz"):
        ns.save(path, a)
    world.Barrier()
    assert sorted(os.listdir(folder)) == ["a.npy", "b.npy", "c.npy", "d.npy", "e.npz.npy"]
    name = "ö" * 120 + ".npy"
    ns.save(name, a)
    assert same(on_disk(folder / name), a.array)


def test_whole_rows_and_arrays_of_an_arena_are_saved(folder):
    c, f = shared(content("f8", (9, 4))), shared(content("f8", (9, 4), order="F"))
    with ns.arena(1 << 16) as arena:
        arena.zeros(5)
        small = arena.full((3, 2), 7, "i2")
        arena.sync()
        for part in (c.array[2:5], c.array[3, 1:], f.array[:, 1:3], c.array[0:0], c.array.T, c.array.view("u1"), small):
            ns.save(folder / "x.npy", part)
            assert same(on_disk(folder / "x.npy"), np.asarray(part))
    for gaps in (c.array[:, 1:3], f.array[2:5], c.array[::2], c.array[::-1]):
        told(outcome(lambda gaps=gaps: ns.save(folder / "y.npy", gaps)), ns.InvalidArgument, "gaps", "whole rows")
    assert not (folder / "y.npy").exists()


def test_node_0_s_array_is_saved_with_every_write_before(folder):
    a = ns.zeros(1000)
    a.local[...] = a.topology.node + 1
    ns.save(folder / "x.npy", a)
    assert (on_disk(folder / "x.npy") == 1).all()


def test_a_communicator_s_own_array_is_saved(folder):
    comm = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    a = ns.full(7, world.rank % 2, comm=comm)
    ns.save(folder / f"{world.rank % 2}.npy", a)
    comm.Free()
    assert isinstance(outcome(lambda: ns.save(folder / "x.npy", a)), ns.InvalidArgument)
    assert (on_disk(folder / f"{world.rank % 2}.npy") == world.rank % 2).all()


def test_a_file_that_is_replaced_passes_on_its_mode_and_a_link_its_file(folder):
    a = shared(content("i4", 5))
    old = written(folder / "old.npy", lambda path: path.write_bytes(b"old"))
    if world.rank == 0:
        old.chmod(0o640)
        (folder / "link.npy").symlink_to("old.npy")
    world.Barrier()
    before = os.umask(0o027)
    ns.save(folder / "link.npy", a)
    ns.save(folder / "new.npy", a)
    os.umask(before)
    assert same(on_disk(old), a.array) and (folder / "link.npy").is_symlink()
    assert old.stat().st_mode & 0o777 == (folder / "new.npy").stat().st_mode & 0o777 == 0o640


def writers():
    """Return the ranks that write."""
    return list(ns.topology().ranks_on(0))


def refused(error, rank, kind, *words):
    """Where the system refused something to one rank: the others have its text."""
    return told(error, kind, *words) if world.rank == rank else told(error, ns.PeerError, f"rank {rank} on ", *words)


def test_where_no_file_can_be_the_system_s_error_is_told(folder):
    a = shared(content("i4", 5))
    (folder / "folder.npy").mkdir(exist_ok=True)
    file = written(folder / "file", lambda path: path.write_bytes(b""))
    for path, kind in (
        (folder / "none" / "x.npy", FileNotFoundError),
        (file / "x.npy", NotADirectoryError),
        (folder / ("x" * 300), OSError),
    ):
        refused(outcome(lambda path=path: ns.save(path, a)), 0, kind, path)
    everyone_of_node_0 = outcome(lambda: ns.save(folder / "folder.npy", a))
    kind = IsADirectoryError if world.rank in writers() else ns.PeerError
    told(everyone_of_node_0, kind, "folder.npy")
    assert sorted(os.listdir(folder)) == ["file", "folder.npy"]


def test_a_device_and_a_pipe_are_not_replaced(folder):
    a = shared(content("i4", 5))
    written(folder / "pipe.npy", lambda path: os.mkfifo(path))
    error = outcome(lambda: ns.save(folder / "pipe.npy", a))
    told(error, ns.InvalidArgument if world.rank in writers() else ns.PeerError, "pipe.npy", "no file")
    assert (folder / "pipe.npy").is_fifo()


def test_a_write_that_fails_on_one_rank_leaves_the_old_file(folder):
    old = content("i4", 5)
    path = written(folder / "x.npy", lambda path: np.save(path, old))
    a = ns.zeros(8 << 20, "u1")
    failing = writers()[-1]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if world.rank == failing:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    error = outcome(lambda: ns.save(path, a))
    if world.rank == failing:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(error, failing, OSError, "x.npy", "too large")
    assert same(on_disk(path), old)
    ns.save(path, a)
    assert same(on_disk(path), a.array)


def test_what_is_no_shared_array_and_what_is_no_path(folder):
    for other in (None, np.arange(3), [1, 2], 3.5):
        told(outcome(lambda other=other: ns.save(folder / "x.npy", other)), ns.InvalidArgument, type(other).__name__)
    a = shared(content("i4", 5))
    for path in (None, 3, ["x"]):
        assert isinstance(outcome(lambda path=path: ns.save(path, a)), TypeError)
    zero = outcome(lambda: ns.save(f"{folder}/x\0.npy", a))
    told(zero, ns.InvalidArgument if world.rank in writers() else ns.PeerError, "zero bytes")
    a.close()
    told(outcome(lambda: ns.save(folder / "x.npy", a)), ns.Error, "closed")
    assert os.listdir(folder) == []


@pytest.mark.ranks(2, 3, 5)
def test_other_paths_arrays_and_pieces_are_mismatches(folder):
    a, b = ns.zeros(10), ns.zeros(10)
    odd = world.rank == LAST
    for call in (
        lambda: ns.save(folder / ("a" if odd else "b"), a),
        lambda: ns.save(folder / "a", a if odd else b),
        lambda: ns.save(folder / "a", a.array[5:] if odd else a.array[:5]),
        lambda: ns.save(folder / "a", a.array.view("i8") if odd else a),
    ):
        told(outcome(call), ns.Mismatch, f"rank {LAST}", "test_io.py:")
    assert os.listdir(folder) == []


@pytest.mark.ranks(2, 3, 5)
def test_an_array_that_one_rank_has_closed(folder):
    a = ns.zeros(10)
    if world.rank == LAST:
        a.close()
    one_failed(outcome(lambda: ns.save(folder / "x.npy", a)), LAST, ns.Error, "closed")
