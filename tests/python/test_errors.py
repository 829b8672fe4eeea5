# SPDX-License-Identifier: BSD-3-Clause
"""What cannot be, and ranks that differ: all ranks raise, all know why, and the job goes on."""

import functools
import pickle

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, leaves_nothing, one_failed, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")
several = pytest.mark.ranks(2, 3, 5)


def only(rank, theirs, others):
    """Return `theirs` on one rank, `others` elsewhere."""
    return theirs if world.rank == rank else others


# --- the classes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, base",
    [("InvalidArgument", ValueError), ("OutOfSharedMemory", MemoryError), ("Mismatch", Exception)]
    + [("MPIError", Exception), ("PeerError", Exception), ("Error", Exception)],
)
def test_every_error_is_an_error_of_ours_and_what_python_calls_such(name, base):
    assert issubclass(getattr(ns, name), ns.Error) and issubclass(getattr(ns, name), base)


@pytest.mark.parametrize("error", [ns.Error("a"), ns.Mismatch("b"), ns.MPIError("MPI_Bcast", 13, "c")], ids=repr)
def test_errors_travel_in_pickles(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


# --- the same mistake on all ranks, or on one -----------------------------------------------------------------------

WRONG = {
    "negative shape": (lambda: ns.zeros((3, -1)), ns.InvalidArgument, "negative"),
    "huge shape": (lambda: ns.zeros((2**40, 2**40)), ns.InvalidArgument, "address space"),
    "overflowing shape": (lambda: ns.empty((2**32, 2**32, 2)), ns.InvalidArgument, "address space"),
    "shape of a float": (lambda: ns.ones(2.5), ns.InvalidArgument, "shape"),
    "no shape": (lambda: ns.full(None, 1), ns.InvalidArgument, "shape"),
    "misspelt dtype": (lambda: ns.zeros(3, "flaot"), ns.InvalidArgument, "flaot"),
    "object dtype": (lambda: ns.zeros(3, object), ns.InvalidArgument, "objects"),
    "nested objects": (lambda: ns.zeros(3, [("a", [("b", "O")])]), ns.InvalidArgument, "objects"),
    "order": (lambda: ns.zeros(3, order="A"), ns.InvalidArgument, "order"),
    "fill that does not fit": (lambda: ns.full((3, 2), [1, 2, 3, 4]), ns.InvalidArgument, "fit"),
    "fill of objects": (lambda: ns.full(3, object()), ns.InvalidArgument, "objects"),
    "fill of None": (lambda: ns.full(3, None), ns.InvalidArgument, "objects"),
    "fill of another type": (lambda: ns.full(3, "text", float), ns.InvalidArgument, "text"),
    "like an object": (lambda: ns.zeros_like([object()]), ns.InvalidArgument, "objects"),
    "like nothing": (lambda: ns.zeros_like(None), ns.InvalidArgument, ""),
    "chunk": (lambda: ns.work(3, chunk=0), ns.InvalidArgument, "chunk"),
    "load": (lambda: ns.load("/nowhere/x.npy"), FileNotFoundError, "/nowhere/x.npy"),
    "more than there is": (lambda: ns.zeros(2**45, "u1"), ns.OutOfSharedMemory, "TiB"),
    "unreserved more": (lambda: ns.zeros(2**60, "u1", reserve=False), ns.OutOfSharedMemory, "EiB"),
}


FOUND_LATE = ("fill that does not fit", "fill of another type", "unreserved more")  # after the ranks' calls differed
ON_ONE_RANK = [key for key in WRONG if key not in FOUND_LATE]


@pytest.mark.parametrize("call, kind, word", WRONG.values(), ids=WRONG.keys())
def test_the_same_mistake_on_all_ranks_is_each_rank_s_own(call, kind, word):
    told(outcome(call), kind, word)


@several
@pytest.mark.parametrize("bad", sorted({0, LAST}))
@pytest.mark.parametrize("call, kind, word", [WRONG[key] for key in ON_ONE_RANK], ids=ON_ONE_RANK)
def test_a_mistake_on_one_rank_is_told_to_all(call, kind, word, bad):
    error = outcome(only(bad, call, lambda: ns.zeros(3)))
    if kind is ns.OutOfSharedMemory:
        told(error, kind, word, "zeros", f"rank {bad} on ")  # is everybody's
    else:
        one_failed(error, bad, kind, word)


@several
@pytest.mark.parametrize("fill", [[1, 2, 3, 4], "text", [["a", "b"]]], ids=str)
def test_a_fill_that_does_not_fit_on_one_rank_is_told_to_all(fill):
    error = outcome(lambda: ns.full((3, 2), only(LAST, fill, [1, 2]), float))
    if type(error) is ns.Mismatch:
        told(error, ns.Mismatch, f"rank {LAST} on ", "full")
    else:
        one_failed(error, LAST, ns.InvalidArgument, "fit")


ROOTLESS = [-1, world.size, 10**6, 2**40, 1.5, "0", None]
WITH_ROOT = {
    "array": lambda a, root: ns.array([1], root=root),
    "bcast": lambda a, root: a.bcast(root),
    "set": lambda a, root: a.set(1, root=root),
    "writing": lambda a, root: a.writing(root=root).__enter__(),
    "together": lambda a, root: ns.together(a, root=root).__enter__(),
}


@pytest.mark.parametrize("root", ROOTLESS, ids=repr)
@pytest.mark.parametrize("name", WITH_ROOT)
def test_a_root_that_does_not_exist_is_refused(name, root):
    if root is None and name in ("writing", "together"):
        return  # all write
    a = ns.zeros(3)
    told(outcome(lambda: WITH_ROOT[name](a, root)), ns.InvalidArgument, root)


@several
@pytest.mark.parametrize("name", WITH_ROOT)
def test_a_root_that_does_not_exist_for_one_rank_is_told_to_all(name):
    a = ns.zeros(3)
    error = outcome(lambda: WITH_ROOT[name](a, only(LAST, world.size, 0)))
    one_failed(error, LAST, ns.InvalidArgument, f"no rank {world.size}")
    if world.rank != LAST:
        told(error, ns.PeerError, name, "test_errors.py:")


# --- ranks that call different things -------------------------------------------------------------------------------


def array():
    return ns.zeros((4, 3))


PADDED = np.dtype({"names": ["x"], "formats": ["f4"], "offsets": [4], "itemsize": 8})
DIFFERENT = {
    "shape": lambda a, b, mine: ns.zeros(mine(3, 4)),
    "same size": lambda a, b, mine: ns.zeros(mine((2, 3), (3, 2))),
    "dtype": lambda a, b, mine: ns.zeros(3, mine("i4", "f4")),
    "byte order": lambda a, b, mine: ns.zeros(3, mine("<i4", ">i4")),
    "padding": lambda a, b, mine: ns.zeros(3, mine(PADDED, np.dtype("i4, f4"))),
    "names": lambda a, b, mine: ns.zeros(3, [(mine("x", "y"), "f4")]),
    "unit": lambda a, b, mine: ns.zeros(3, mine("M8[s]", "M8[ms]")),
    "order": lambda a, b, mine: ns.zeros((2, 3), order=mine("C", "F")),
    "reserve": lambda a, b, mine: ns.zeros(3, reserve=mine(True, False)),
    "fill": lambda a, b, mine: ns.full(3, mine(1.0, 2.0)),
    "fill of a row": lambda a, b, mine: ns.full((2, 3), mine([1, 2, 3], [1, 2, 4])),
    "fill of a long text": lambda a, b, mine: ns.full(3, "x" * 200 + mine("a", "b")),
    "fill of a large array": lambda a, b, mine: ns.full(5000, np.arange(5000) + mine(0, 1) * (np.arange(5000) == 2500)),
    "fill's type": lambda a, b, mine: ns.full(3, mine(np.int8(1), np.int16(1))),
    "full_like's fill": lambda a, b, mine: ns.full_like(a, mine(1, 2)),
    "creators": lambda a, b, mine: mine(ns.zeros, ns.empty)(3),
    "zeros and array": lambda a, b, mine: mine(ns.zeros, ns.array)(3),
    "zeros and work": lambda a, b, mine: mine(ns.zeros, ns.work)(3),
    "array's root": lambda a, b, mine: ns.array([1], root=mine(0, LAST)),
    "array's writable": lambda a, b, mine: ns.array([1], writable=mine(True, False)),
    "array's dtype": lambda a, b, mine: ns.array([1], mine("f4", "f8")),
    "bcast's root": lambda a, b, mine: a.bcast(mine(0, LAST)),
    "array of bcast": lambda a, b, mine: mine(a, b).bcast(),
    "array of allgather": lambda a, b, mine: mine(a, b).allgather(),
    "owners": lambda a, b, mine: a.allgather(mine([0, 0, 0, 0], [0, 0, 0, LAST])),
    "owners or none": lambda a, b, mine: a.allgather(mine(None, [0, 0, 0, LAST])),
    "set's index": lambda a, b, mine: a.set(1, mine(2, 3)),
    "set's root": lambda a, b, mine: a.set(1, root=mine(0, LAST)),
    "set's array": lambda a, b, mine: mine(a, b).set(1),
    "set and bcast": lambda a, b, mine: mine(a.set, lambda value: a.bcast())(0),
    "together's arrays": lambda a, b, mine: ns.together(*mine((a, b), (b, a))).__enter__(),
    "together's count": lambda a, b, mine: ns.together(*mine((a,), (a, b))).__enter__(),
    "together's root": lambda a, b, mine: ns.together(a, root=mine(None, 0)).__enter__(),
    "together and writing": lambda a, b, mine: mine(ns.together(a), a.writing()).__enter__(),
    "work's count": lambda a, b, mine: ns.work(mine(3, 4)),
    "work's chunk": lambda a, b, mine: ns.work(9, mine(None, 2)),
    "work's schedule": lambda a, b, mine: ns.work(9, schedule=mine("dynamic", "static")),
    "load's path": lambda a, b, mine: ns.load(mine("/dev/null", "/dev/zero")),
}


@several
@pytest.mark.parametrize("bad", sorted({0, LAST}))
@pytest.mark.parametrize("name", DIFFERENT)
def test_ranks_that_call_different_things_all_hear_who_called_what_where(name, bad):
    a, b = array(), array()
    call = DIFFERENT[name]
    error = outcome(lambda: call(a, b, lambda theirs, others: only(bad, theirs, others)))
    if name == "load's path":  # neither is a .npy file
        told(error, ns.InvalidArgument)
        return
    line = call.__code__.co_firstlineno
    told(error, ns.Mismatch, *(f"rank {rank} on " for rank in range(world.size)), "called", f"test_errors.py:{line}")
    assert len(set(world.allgather(str(error)))) == 1
    a.bcast()


@several
def test_a_mismatch_names_each_rank_s_own_arguments_and_line():
    def one():
        ns.zeros((7, 2), "i2")

    def two():
        ns.full(5, 2.5)

    error = outcome(only(LAST, one, two))
    told(error, ns.Mismatch, "zeros(", "(7, 2)", "i2", f"test_errors.py:{one.__code__.co_firstlineno + 1}")
    told(error, ns.Mismatch, "full(", "(5,)", "2.5", f"test_errors.py:{two.__code__.co_firstlineno + 1}")


@several
def test_sync_against_another_call_on_the_node():
    t = ns.topology()
    if t.node_size == 1:
        return
    x, y = ns.zeros(3, comm=t.node_comm), ns.zeros(3, comm=t.node_comm)
    last = t.node_rank == t.node_size - 1
    for mine, others in (
        (lambda: ns.zeros(3, comm=t.node_comm), x.sync),
        (y.sync, x.sync),
        (x.bcast, x.sync),
        (x.sync, lambda: ns.array([1], comm=t.node_comm)),
    ):
        told(outcome(mine if last else others), ns.Mismatch, "sync", f"rank {t.node_size - 1} on", "test_errors.py:")
    x.sync()


@several
def test_sync_on_some_ranks_and_a_creator_on_one_reaches_the_other_nodes():
    a = array()
    t = ns.topology()
    on_its_node = t.node == t.node_of(LAST)

    def program():
        if world.rank != LAST:
            a.sync()
        ns.zeros(3)

    if t.node_size == 1 and on_its_node:  # nobody there to sync with
        program = functools.partial(ns.zeros, 3)
        error = outcome(program)
        assert error is None
    elif t.nodes > 1 and len(t.ranks_on(t.node_of(LAST))) == 1:
        assert outcome(program) is None
    else:
        told(outcome(program), ns.Mismatch, "sync", "zeros", f"rank {LAST} on")


@several
def test_the_job_goes_on_after_many_errors():
    a = array()
    for step in range(30):
        told(outcome(lambda step=step: ns.zeros(only(step % world.size, 3, 4))), ns.Mismatch)
        a.set(step, root=step % world.size)
        assert (a.array == step).all()
        a.sync()


@several
def test_an_error_on_one_communicator_leaves_others_alone():
    half = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    with_error = world.rank % 2 == 0
    ns.topology(half)
    error = outcome(lambda: ns.zeros(-1 if with_error else 3, comm=half))
    assert isinstance(error, ns.InvalidArgument) if with_error else error is None
    c = ns.ones(3, comm=half)
    half.Free()
    assert c.array.sum() == 3


# --- what the root passes to array ----------------------------------------------------------------------------------


class _Frame:
    """More than its numbers, as a table with column names is."""

    def __array__(self, dtype=None, copy=None):
        return np.zeros(3)


class _Unit(np.ndarray):
    """Numbers with a unit, which a plain copy would lose."""


class _Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("lazy data that cannot be read")


def refused():
    yield "None", None, ns.InvalidArgument, "None"
    yield "objects", np.array([object()]), ns.InvalidArgument, "objects"
    yield "nested objects", np.zeros(2, [("a", [("b", "O")])]), ns.InvalidArgument, "objects"
    yield "masked", np.ma.masked_array([1, 2], [True, False]), ns.InvalidArgument, "MaskedArray"
    yield "frame", _Frame(), ns.InvalidArgument, "_Frame"
    yield "unit", np.zeros(3).view(_Unit), ns.InvalidArgument, "_Unit"
    yield "matrix", np.asmatrix([[1, 2]]), ns.InvalidArgument, "matrix"
    yield "broken", _Broken(), ns.InvalidArgument, "_Broken"
    yield "ragged", [[1], [2, 3]], ns.InvalidArgument, "list"
    yield "dict", {"a": 1}, ns.InvalidArgument, "dict"
    yield "set", {1, 2}, ns.InvalidArgument, "set"
    yield "generator", (i for i in range(3)), ns.InvalidArgument, "generator"
    yield "object", object(), ns.InvalidArgument, "object"
    yield "list of objects", [object()], ns.InvalidArgument, "objects"
    yield "list of None", [None, 1.0], ns.InvalidArgument, "objects"
    yield "huge int", 2**200, ns.InvalidArgument, "objects"
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        yield "StringDType", np.array(["a", "bc"], np.dtypes.StringDType()), ns.InvalidArgument, "objects"


@pytest.mark.parametrize("value, kind, word", [pytest.param(*one[1:], id=one[0]) for one in refused()])
def test_what_asarray_would_rob_of_its_meaning_is_refused_everywhere(value, kind, word):
    one_failed(outcome(lambda: ns.array(only(LAST, value, None), root=LAST)), LAST, kind, word)


def test_tables_and_sparse_matrices_are_refused():
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    for value in (pandas.DataFrame({"a": [1]}), pandas.Series([1.0]), pandas.Index([1]), sparse.eye(3).tocsr()):
        one_failed(outcome(lambda value=value: ns.array(value)), 0, ns.InvalidArgument, type(value).__name__)


@pytest.mark.parametrize(
    "value, dtype, word",
    [(["a", "b"], float, "float"), ([1, 2], object, "objects"), ([1, 2], "flaot", "flaot"), ([1], "O", "objects")]
    + [(np.array(["x"]), float, "x"), (np.zeros(3), "O", "objects"), ([2**70], "i8", "")]
    + [(["2026-13-45"], "M8[D]", ""), ([1, 2], ("f4", (2,)), "")],
    ids=str,
)
def test_a_conversion_that_fails_on_the_root_fails_everywhere(value, dtype, word):
    error = outcome(lambda: ns.array(only(LAST, value, None), dtype, root=LAST))
    kinds = world.allgather(type(error))
    assert issubclass(kinds[LAST], (ValueError, TypeError, OverflowError))
    one_failed(error, LAST, kinds[LAST], word)


@several
def test_a_misspelt_dtype_on_a_rank_that_is_not_the_root_is_told_to_all():
    one_failed(outcome(lambda: ns.array([1], only(LAST, "flaot", float))), LAST, ns.InvalidArgument, "flaot")


# --- in the middle of a collective ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.zeros(5), "text", [[1], [2, 3]], object()], ids=repr)
def test_a_value_that_does_not_fit_on_the_root_of_set(value):
    a = array()
    error = outcome(lambda: a.set(only(LAST, value, None), root=LAST))
    kinds = world.allgather(type(error))
    assert issubclass(kinds[LAST], (ValueError, TypeError))
    one_failed(error, LAST, kinds[LAST])
    assert not a.array.any()


@pytest.mark.parametrize("index", [9, "x", (0, 0, 0), 1.5, [0, 9], object()], ids=repr)
def test_an_index_that_does_not_fit_is_each_rank_s_own_error(index):
    a = array()
    assert isinstance(outcome(lambda: a.set(1, index)), (IndexError, ValueError, TypeError))


@several
def test_an_index_that_does_not_fit_on_one_rank_is_told_to_all():
    a = array()
    one_failed(outcome(lambda: a.set(1, only(LAST, 9, 1))), LAST, IndexError, "out of bounds")


def test_set_on_an_array_that_is_read_only_names_thaw():
    x = ns.array([1, 2, 3])
    told(outcome(lambda: x.set(1)), ns.InvalidArgument, "read-only", "thaw")
    x.thaw()
    x.set(7)
    assert x.array.tolist() == [7, 7, 7]


@several
def test_an_array_frozen_on_one_rank_is_told_to_all():
    a = array()
    if world.rank == LAST:
        a.freeze()
    one_failed(outcome(lambda: a.set(1)), LAST, ns.InvalidArgument, "thaw")


@several
def test_a_closed_handle_on_one_rank_is_told_to_all():
    a = array()
    if world.rank == LAST:
        a.close()
    for call in (a.bcast, a.allgather, lambda: a.set(1), lambda: ns.together(a).__enter__()):
        one_failed(outcome(call), LAST, ns.Error, "closed")


@several
def test_owners_that_do_not_fit_on_one_rank_are_told_to_all():
    a = array()
    owner = only(LAST, [0, 0, 0], [0, 0, 0, 0])
    one_failed(outcome(lambda: a.allgather(owner)), LAST, ns.InvalidArgument, "owner")
