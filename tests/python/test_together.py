# SPDX-License-Identifier: BSD-3-Clause
"""Code between collectives: who writes, what all see afterwards, and what they hear when one rank raises."""

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, by_node, content, leaves_nothing, one_failed, outcome, same, told, world  # noqa: F401

import nodeshare as ns

ROOTS = sorted({0, world.size // 2, LAST})
pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_without_root_all_ranks_write_and_the_node_sees_it():
    t = ns.topology()
    a, b = ns.zeros(t.size, int), ns.zeros((t.size, 2), int)
    with ns.together(a, b) as mine:
        a[t.rank] = t.rank + 1
        b[t.rank] = -t.rank
    on_node = [rank in t.ranks_on(t.node) for rank in range(t.size)]
    assert mine is True
    assert a.array.tolist() == [(rank + 1) * here for rank, here in enumerate(on_node)]
    assert b.array.tolist() == [[-rank * here] * 2 for rank, here in enumerate(on_node)]


@pytest.mark.parametrize("root", ROOTS)
def test_with_root_it_alone_writes_and_every_node_has_its_bytes(root):
    a, b = ns.zeros((5, 3)), ns.zeros(7, "U5", order="F")
    by_node(a, 50)
    by_node(b, 50)
    with ns.together(a, b, root=root) as mine:
        if mine:
            a.array[...], b.array[...] = content(float, (5, 3), 1), content("U5", 7, 2)
    assert mine is (world.rank == root)
    assert same(a.array, content(float, (5, 3), 1)) and same(b.array, content("U5", 7, 2))


@pytest.mark.parametrize("root", [None, *ROOTS])
def test_writing_gives_the_array_to_those_who_write(root):
    a = ns.zeros(3, int)
    with a.writing(root=root) as w:
        assert (w is a) if root in (None, world.rank) else (w is None)
        if w is not None:
            w[:] = 7
    assert a.array.tolist() == [7, 7, 7]


def test_a_numpy_integer_is_a_root():
    a = ns.zeros(3)
    with a.writing(root=np.int64(LAST)) as w:
        if w is not None:
            w[:] = 1
    assert a.array.sum() == 3


def test_blocks_nest_and_hold_other_collectives():
    a, b = ns.zeros(3, int), ns.zeros(3, int)
    with ns.together(a):
        with b.writing(root=LAST) as w:
            if w is not None:
                w[:] = 5
        c = ns.array(b.array + 1)
        a.set(c.array)
    assert a.array.tolist() == [6, 6, 6]


def test_a_block_runs_again_and_may_name_an_array_twice():
    a = ns.zeros(1, int)
    block = ns.together(a, a, root=0)
    for _ in range(3):
        with block as mine:
            if mine:
                a[0] += 1
    assert a[0] == 3


def test_code_after_the_block_does_not_reach_back_into_it():
    a = ns.zeros(1, int)
    for step in range(50):
        with a.writing(root=step % world.size) as w:
            if w is not None:
                w[0] = step
        assert a[0] == step
        a.sync()


# --- one rank raises ------------------------------------------------------------------------------------------------


def raising(block, ranks, error):
    """Run a block in which some ranks raise."""
    with block:
        if world.rank in ranks:
            raise error


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize("bad", ROOTS)
@pytest.mark.parametrize("root", [None, 0, LAST])
def test_all_hear_what_one_rank_raised(root, bad):
    a, b = ns.zeros(3), ns.zeros(3)
    for block in (ns.together(a, b, root=root), a.writing(root=root)):
        error = outcome(lambda block=block: raising(block, [bad], KeyError("no such star")))
        one_failed(error, bad, KeyError, "no such star")
        if world.rank != bad:
            told(error, ns.PeerError, "test_together.py:")
        b.bcast()


def test_the_exception_of_the_rank_is_the_very_same_object():
    a, mine = ns.zeros(3), RuntimeError("mine")
    error = outcome(lambda: raising(a.writing(), [LAST], mine))
    assert error is mine if world.rank == LAST else isinstance(error, ns.PeerError)


def test_where_all_raise_each_has_its_own():
    a = ns.zeros(3)
    error = outcome(lambda: raising(ns.together(a), range(world.size), ValueError(f"of rank {world.rank}")))
    told(error, ValueError, f"of rank {world.rank}")


@pytest.mark.ranks(3, 5)
def test_where_several_raise_the_others_hear_of_the_first_and_how_many():
    a = ns.zeros(3)
    error = outcome(lambda: raising(ns.together(a), [1, 2], ValueError(f"of rank {world.rank}")))
    if world.rank in (1, 2):
        told(error, ValueError, f"of rank {world.rank}")
    else:
        told(error, ns.PeerError, "ValueError: of rank 1")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_all_hear_of_what_is_no_ordinary_exception(kind):
    a = ns.zeros(3)
    try:
        raising(a.writing(root=0), [LAST], kind(3))
    except BaseException as error:
        assert type(error) is (kind if world.rank == LAST else ns.PeerError)
        assert world.rank == LAST or kind.__name__ in str(error)
    else:
        raise AssertionError("nothing was raised")


class _Odd(Exception):
    def __str__(self):
        raise RuntimeError("this one has no text")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "error",
    [ValueError("é" * 3000), ValueError("x" + "é" * 3000), ValueError("a\0b"), ValueError("100 %s %n"), ValueError()]
    + [ValueError("name \udcff from a file system"), _Odd("x"), ValueError("two\nlines"), ValueError(b"\xff", 3)],
    ids=ascii,
)
def test_the_text_may_be_any(error):
    a = ns.zeros(3)
    found = outcome(lambda: raising(a.writing(), [LAST], error))
    one_failed(found, LAST, type(error))


@pytest.mark.ranks(2, 3, 5)
def test_what_all_know_already_ends_the_block_everywhere():
    a, b = ns.zeros(3), ns.zeros(3)

    def fail_in_a_collective():
        with ns.together(a):
            b.set(np.zeros(99) if world.rank == LAST else None, root=LAST)

    one_failed(outcome(fail_in_a_collective), LAST, ValueError, "broadcast")


@pytest.mark.ranks(2, 3, 5)
def test_what_only_this_rank_knows_from_another_communicator_is_told():
    a = ns.zeros(3)

    def fail_alone():
        with ns.together(a):
            if world.rank == LAST:
                ns.zeros(-1, comm=MPI.COMM_SELF)

    one_failed(outcome(fail_alone), LAST, ns.InvalidArgument, "negative")


def test_an_error_that_all_catch_within_the_block_does_not_end_it():
    a = ns.zeros(3)
    with a.writing(root=LAST) as w:
        told(outcome(lambda: ns.zeros(-1)), ns.InvalidArgument)
        if w is not None:
            w[:] = 4
    assert a.array.tolist() == [4, 4, 4]


def test_after_an_error_in_the_block_the_arrays_are_still_good():
    a = ns.zeros(3)
    outcome(lambda: raising(a.writing(), [0], OSError("disk")))
    a.set(8, root=LAST)
    assert a.array.tolist() == [8, 8, 8]


# --- what cannot be written together --------------------------------------------------------------------------------


def entering(*arrays, **options):
    return outcome(lambda: ns.together(*arrays, **options).__enter__())


def test_something_else_than_shared_arrays_is_refused():
    a = ns.zeros(3)
    told(entering(), ns.InvalidArgument, "SharedArray")
    told(entering(a, np.zeros(3)), ns.InvalidArgument, "ndarray")
    told(entering(a.array), ns.InvalidArgument, "SharedArray")


@pytest.mark.ranks(2, 3, 5)
def test_something_else_on_one_rank_is_told_to_all():
    a = ns.zeros(3)
    one_failed(entering(a, np.zeros(3) if world.rank == LAST else a), LAST, ns.InvalidArgument, "ndarray")


def test_arrays_of_different_communicators_are_refused():
    told(entering(ns.zeros(3), ns.zeros(3, comm=MPI.COMM_SELF)), ns.InvalidArgument, "communicators")


def test_an_array_that_is_read_only_for_the_writer_is_refused():
    a = ns.array([1, 2, 3])
    told(entering(a), ns.InvalidArgument, "read-only", "thaw")
    told(outcome(lambda: a.writing().__enter__()), ns.InvalidArgument, "thaw")
    error = outcome(lambda: a.writing(root=LAST).__enter__())
    one_failed(error, LAST, ns.InvalidArgument, "thaw")


def test_an_array_may_be_read_only_for_those_who_do_not_write():
    a = ns.zeros(3)
    if world.rank != LAST:
        a.freeze()
    with a.writing(root=LAST) as w:
        if w is not None:
            w[:] = 2
    assert a.array.tolist() == [2, 2, 2]
