# SPDX-License-Identifier: BSD-3-Clause
"""What cannot be, and ranks that differ: all ranks raise, all know why, and the job goes on."""

import pickle

import numpy as np
import pytest
from support import LAST, leaves_nothing, one_failed, only, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")
several = pytest.mark.ranks(2, 3, 5)


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


FOUND_LATE = (
    "fill that does not fit",
    "fill of another type",
    "more than there is",
    "unreserved more",
)  # after the ranks' calls differed
ON_ONE_RANK = [key for key in WRONG if key not in FOUND_LATE]


@pytest.mark.parametrize("call, kind, word", WRONG.values(), ids=WRONG.keys())
def test_the_same_mistake_on_all_ranks_is_each_rank_s_own(call, kind, word):
    told(outcome(call), kind, word)


@several
@pytest.mark.parametrize("bad", sorted({0, LAST}))
@pytest.mark.parametrize("call, kind, word", [WRONG[key] for key in ON_ONE_RANK], ids=ON_ONE_RANK)
def test_a_mistake_on_one_rank_is_told_to_all(call, kind, word, bad):
    one_failed(outcome(only(bad, call, lambda: ns.zeros(3))), bad, kind, word)


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
    yield "list of masked", [np.ma.masked_array([1, 2], [True, False])], ns.InvalidArgument, "MaskedArray"
    yield "nested masked", [[1.0, np.ma.masked]], ns.InvalidArgument, "Masked"
    yield "frame", _Frame(), ns.InvalidArgument, "_Frame"
    yield "unit", np.zeros(3).view(_Unit), ns.InvalidArgument, "_Unit"
    yield "matrix", np.zeros((1, 2)).view(np.matrix), ns.InvalidArgument, "matrix"
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
    [(["a", "b"], float, "float"), (np.array(["x"]), float, "x"), ([2**70], "i8", "")]
    + [(["2026-13-45"], "M8[D]", ""), ([1, 2], ("f4", (2,)), "")],
    ids=str,
)
def test_a_conversion_that_fails_on_the_root_fails_everywhere(value, dtype, word):
    error = outcome(lambda: ns.array(only(LAST, value, None), dtype, root=LAST))
    kinds = world.allgather(type(error))
    assert issubclass(kinds[LAST], (ValueError, TypeError, OverflowError))
    one_failed(error, LAST, kinds[LAST], word)


@pytest.mark.parametrize("dtype, word", [(object, "objects"), ("flaot", "flaot"), ("O", "objects")], ids=str)
@pytest.mark.parametrize("value", [[1, 2], np.zeros(3)], ids=str)
def test_a_dtype_that_cannot_be_is_refused_on_every_rank_alike(value, dtype, word):
    told(outcome(lambda: ns.array(only(LAST, value, None), dtype, root=LAST)), ns.InvalidArgument, word)


@several
def test_a_misspelt_dtype_on_a_rank_that_is_not_the_root_is_told_to_all():
    one_failed(outcome(lambda: ns.array([1], only(LAST, "flaot", float))), LAST, ns.InvalidArgument, "flaot")


# --- in the middle of a collective ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.zeros(5), "text", [[1], [2, 3]], object()], ids=repr)
def test_a_value_that_does_not_fit_on_the_root_of_set(value):
    a = ns.zeros((4, 3))
    error = outcome(lambda: a.set(only(LAST, value, None), root=LAST))
    kinds = world.allgather(type(error))
    assert issubclass(kinds[LAST], (ValueError, TypeError))
    one_failed(error, LAST, kinds[LAST])
    assert not a.array.any()


@pytest.mark.parametrize("index", [9, "x", (0, 0, 0), 1.5, [0, 9], object()], ids=repr)
def test_an_index_that_does_not_fit_is_each_rank_s_own_error(index):
    a = ns.zeros((4, 3))
    assert isinstance(outcome(lambda: a.set(1, index)), (IndexError, ValueError, TypeError))


@several
def test_an_index_that_does_not_fit_on_one_rank_is_told_to_all():
    a = ns.zeros((4, 3))
    one_failed(outcome(lambda: a.set(1, only(LAST, 9, 1))), LAST, IndexError, "out of bounds")


def test_set_on_an_array_that_is_read_only_names_thaw():
    x = ns.array([1, 2, 3])
    told(outcome(lambda: x.set(1)), ns.InvalidArgument, "read-only", "thaw")
    x.thaw()
    x.set(7)
    assert x.array.tolist() == [7, 7, 7]


@several
def test_an_array_frozen_on_one_rank_is_told_to_all():
    a = ns.zeros((4, 3))
    if world.rank == LAST:
        a.freeze()
    one_failed(outcome(lambda: a.set(1)), LAST, ns.InvalidArgument, "thaw")


@several
@pytest.mark.timeout(15)
def test_a_closed_handle_on_one_rank_is_told_to_all():
    a = ns.zeros((4, 3))
    if world.rank == LAST:
        a.close()
    for call in (a.bcast, a.allgather, lambda: a.set(1), lambda: ns.together(a).__enter__()):
        one_failed(outcome(call), LAST, ns.Error, "closed")


@several
def test_owners_that_do_not_fit_on_one_rank_are_told_to_all():
    a = ns.zeros((4, 3))
    owner = only(LAST, [0, 0, 0], [0, 0, 0, 0])
    one_failed(outcome(lambda: a.allgather(owner)), LAST, ns.InvalidArgument, "owner")


@several
@pytest.mark.timeout(15)
def test_a_closed_handle_on_one_rank_is_told_to_those_who_sync():
    t = ns.topology()
    a = ns.zeros(3, comm=t.node_comm)
    if t.node_rank == t.node_size - 1:
        a.close()
        told(outcome(a.sync), ns.Error, "closed")
    else:
        told(outcome(a.sync), ns.PeerError, "closed", f"rank {t.node_size - 1} on")


@several
@pytest.mark.timeout(15)
def test_an_error_that_was_known_to_all_is_told_again_when_it_is_raised_again_later():
    a = ns.zeros(3)
    known = outcome(lambda: ns.zeros(-1))

    def fail_later():
        with a.writing():
            if world.rank == LAST:
                raise known

    one_failed(outcome(fail_later), LAST, ns.InvalidArgument, "negative")


@several
@pytest.mark.timeout(15)
@pytest.mark.parametrize("name", ["full", "zeros"])
def test_text_that_is_no_utf_8_keeps_ranks_in_step(name):
    odd = only(LAST, "\udcff", "a")
    error = outcome(lambda: ns.full(3, odd) if name == "full" else ns.zeros(3, [(odd, "f4")]))
    told(error, ns.Mismatch, f"rank {LAST} on ", name)
