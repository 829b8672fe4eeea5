# SPDX-License-Identifier: BSD-3-Clause
"""List, Dict, Queue and Pipe when something happens to who uses them, to memory or to MPI meanwhile; and 8 ranks."""

import re
import signal

import pytest
from test_progress import NO_SINGLE_COPY
from test_shared_memory_folder import SMALL, job_with  # noqa: F401

# What a rank does with a container again and again: most of the time it is within a call.
WORK = {
    "List": """
        def prepared():
            made = ns.List(range(300))
            made.append(array)
            view = made[-1]
            def work(i):
                made.insert(0, [i, array[: i % 3000]])
                made[3:60] = range(57)
                made.append(array)
                made.pop()
                made.pop(0)
                made.reverse()
                made[i % 300] = array[: i % 500]
            return made, work, view
    """,
    "Dict": """
        def prepared():
            made = ns.Dict()
            made["array"] = array
            view = made["array"]
            def work(i):
                made[i % 200] = array[: i % 3000]
                made[str(i % 70), 1] = "x" * (i % 1000)
                made.pop((i * 7) % 200, None)
                made.setdefault(i % 90, i)
            return made, work, view
    """,
    "Queue": """
        def prepared():
            made = ns.Queue()
            made.put(array)
            view = made.get()
            def work(i):
                made.put([i, array[: i % 3000]])
                made.put(i)
                for _ in range(2):
                    try:
                        made.get_nowait()
                    except queue.Empty:
                        pass
            return made, work, view
    """,
    "Pipe": """
        def prepared():
            made = first, second = ns.Pipe()
            first.send(array)
            view = second.recv()
            def work(i):
                first.poll()  # both ends are of somebody who lives
                second.poll()
                first.send([i, array[: i % 3000]])
                second.send_bytes(array[: i % 500])
                second.recv()
                first.recv_bytes()
            return made, work, view
    """,
}
HEAD = """
        import gc, itertools, os, queue, random, signal, threading, time
        import numpy as np
        import nodeshare as ns
        comm = ns.topology().comm
        array = np.arange(3000.0)
"""
kinds = pytest.mark.parametrize("kind", WORK)
two_or_three = pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])


def count(text, word):
    """Return how many lines begin with a word."""
    return len(re.findall(rf"^{word}", text, re.M))


# --- a process is killed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [0, 2, 3])
@kinds
def test_kill_9_within_a_call_leaves_all_an_error_or_a_container_that_works(job, kind, ranks):
    ended = job(
        ranks,
        HEAD
        + WORK[kind]
        + """
        random.seed(5)
        poisoned, kept, until = 0, [], time.monotonic() + 40
        while poisoned < 2 * comm.size and comm.bcast(time.monotonic() < until):  # most are killed between calls
            made, work, view = prepared()
            comm.Barrier()  # or what one works with is got by another that prepares
            if len(kept) < 60:
                kept.append(view)
            if comm.rank == 0:
                end, begin = os.pipe()
                child = os.fork()
                if child == 0:
                    for i in itertools.count():
                        work(i)
                        if i == 10:
                            os.write(begin, b"1")
                os.read(end, 1)
                time.sleep(random.random() * 0.01)
                os.kill(child, 9)
                os.waitpid(child, 0)
                os.close(end)
                os.close(begin)
            comm.Barrier()
            told = []
            for i in range(20):
                try:
                    work(i)
                except ns.PeerError as error:
                    assert "has ended" in str(error), error
                    told.append(i)
            assert len(told) in (0, 20), told  # at all times or never
            poisoned += comm.allreduce(bool(told))
            del made, work, view
            gc.collect()
        assert poisoned % comm.size == 0  # each time all or nobody
        assert all((view == array).all() for view in kept)
        kept.clear()
        ns.trim()
        assert not ns._core.segments(), ns._core.segments()
        print("well", poisoned, flush=True)
        """,
        timeout=100,
    )
    assert ended.code == 0, ended.out + ended.err
    found = re.findall(r"^well (\d+)", ended.out, re.M)
    assert len(found) == max(ranks, 1), ended.out
    assert int(found[0]) > 0, "no process was killed within a call"


@two_or_three
@kinds
def test_kill_9_of_a_rank_leaves_nobody_waiting_and_crashes_nobody(job, kind, ranks):
    # the launcher may end the job as soon as it sees the rank gone; then nobody is left to be told
    ended = job(
        ranks,
        HEAD
        + WORK[kind]
        + """
        made, work, view = prepared()
        comm.Barrier()
        if comm.rank == 1:
            threading.Timer(0.2, os.kill, (os.getpid(), 9)).start()
        try:
            for i in itertools.count():
                work(i)
        except (ns.PeerError, EOFError, BrokenPipeError) as error:
            print(f"told: {error}", flush=True)
        if comm.rank != 1:
            time.sleep(30)  # for the launcher
        """,
        timeout=40,
    )
    assert ended.code != 0 and ended.seconds < 30
    assert not re.search("Segmentation|Bus error|Abort|Traceback", ended.out + ended.err), ended.out + ended.err


WAITS = {
    "get": ("made = ns.Queue()", "made.get()"),
    "put": ("made = ns.Queue(1); comm.rank or made.put(1)", "made.put(2)"),
    "join": ("made = ns.Queue(); comm.rank or made.put(1)", "made.join()"),
    "recv": ("made = ns.Pipe()", "made[0].recv()"),
    "poll": ("made = ns.Pipe()", "made[0].poll(None) and made[0].recv()"),
}
waits = pytest.mark.parametrize(
    "wait", [wait if wait in ("get", "recv") else pytest.param(wait, marks=pytest.mark.slow) for wait in WAITS]
)
ENDS = {
    "killed": "os.kill(os.getpid(), 9)",
    "raises": "raise RuntimeError('boom')",
    "ends": "raise SystemExit(0)",
}


@two_or_three
@pytest.mark.parametrize("end", ENDS)
@waits
def test_a_wait_ends_when_another_rank_has_failed_or_all_others_have_ended(job, wait, end, ranks):
    make, call = WAITS[wait]
    ended = job(
        ranks,
        HEAD
        + f"""
        {make}
        comm.Barrier()
        if comm.rank != 0:
            if {wait in ("recv", "poll")} and comm.rank == 1:
                made[1].poll()  # uses its end
            time.sleep(0.1)  # the others most probably wait
            {ENDS[end]}
        for _ in range(2):
            try:
                {call}
                print("got it", flush=True)
            except (ns.PeerError, EOFError) as error:
                print(f"told: {{type(error).__name__}}: {{error}}", flush=True)
        """,
        timeout=30,
    )
    assert "got it" not in ended.out
    if end == "killed":  # where the launcher ends the job at once, there is nobody to be told
        assert ended.code != 0
    elif end == "raises":
        assert ended.code != 0
        assert count(ended.out, "told") in (0, 2), ended.out
    else:
        assert count(ended.out, "told") == 2, ended.out + ended.err


@two_or_three
def test_a_wait_ends_with_an_error_that_names_who_failed(job, ranks):
    ended = job(
        ranks,
        HEAD
        + """
        made = ns.Queue()
        comm.Barrier()
        if comm.rank == 1:
            raise RuntimeError("boom")
        try:
            made.get()
        except ns.PeerError as error:
            print(f"told: {error}", flush=True)
        """,
        timeout=30,
    )
    assert ended.code != 0
    assert count(ended.out, r"told: .*rank 1 on \S+ .*RuntimeError: boom at script0.py:\d+") == ranks - 1, ended.out


@two_or_three
@pytest.mark.parametrize("first", ["recv", "send"])
def test_an_end_whose_rank_has_ended_its_program_is_closed_after_all_that_it_sent(job, ranks, first):
    ended = job(
        ranks,
        HEAD
        + f"""
        (here, there), over = ns.Pipe(), ns.Queue()
        comm.Barrier()
        if comm.rank == 0:
            def told(call):
                try:
                    call()
                except (ns.Error, EOFError, OSError) as error:
                    return type(error)

            if {first == "send"}:
                while (error := told(lambda: here.send("more"))) is None:
                    pass
                assert error is BrokenPipeError, error
            assert here.recv() == "first" and (here.recv() == array).all()
            for _ in range(2):
                assert told(here.recv) is EOFError and told(lambda: here.send(1)) is BrokenPipeError
            print("well", flush=True)
            over.put(0)
        elif comm.rank == 1:
            there.send("first")
            there.send(array)
        else:
            over.get()  # goes on meanwhile
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.split() == ["well"]


@two_or_three
def test_what_a_rank_puts_before_it_ends_is_got_by_who_was_in_a_signal_s_handler_meanwhile(job, ranks):
    ended = job(
        ranks,
        HEAD
        + """
        made, within, pipes = ns.Queue(), ns.Counter(), [ns.Pipe() for _ in range(1, comm.size)]
        comm.Barrier()
        if comm.rank == 0:
            def handler(number, frame):
                if within.value or frame.f_code.co_name != "get":  # it is repeated
                    return
                within.add()
                for here, _ in pipes:
                    try:
                        while True:
                            here.send("until it has ended")
                    except BrokenPipeError:
                        pass

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
            assert made.get() == "last"
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert within.value == 1
            print("well", flush=True)
        else:
            pipes[comm.rank - 1][1].poll()  # uses its end
            while not within.value:
                time.sleep(0.001)
            if comm.rank == 1:
                made.put("last")
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.split() == ["well"]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_an_end_whose_child_is_killed_is_closed(job, start):
    ended = job(
        0,
        """
        import multiprocessing, operator, os, signal, time
        import nodeshare as ns

        def answer(end):
            while True:
                end.send(end.recv() + 1)

        if __name__ == "__main__":
            here, there = ns.Pipe()
            child = multiprocessing.get_context("START").Process(target=answer, args=(there,))
            child.start()
            for number in range(50):
                here.send(number)
                assert here.recv() == number + 1
            child.kill()
            try:
                here.recv()
            except EOFError:
                print("ended", flush=True)
            child.join()
            try:
                here.send(1)
            except BrokenPipeError:
                print("broken", flush=True)
        """.replace("START", start),
        timeout=30,
    )
    assert ended.code == 0, ended.err
    assert ended.out.split() == ["ended", "broken"]


# --- a signal -------------------------------------------------------------------------------------------------------


@waits
def test_ctrl_c_ends_a_wait_and_the_container_goes_on(job, wait):
    make, call = WAITS[wait]
    ended = job(
        2,
        HEAD
        + f"""
        {make}
        comm.Barrier()
        if comm.rank == 1:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                {call}
                print("got it", flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        comm.Barrier()
        if isinstance(made, ns.Queue):
            if made.full() and made.maxsize:
                assert made.get() == 1 if comm.rank == 1 else True
            comm.Barrier()
            comm.rank or made.put("x")
            comm.Barrier()
            assert made.qsize() >= 1
        elif comm.rank == 0:
            made[1].send("x")
        else:
            assert made[0].recv() == "x"
        comm.Barrier()
        print("well", flush=True)
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.out + ended.err
    assert "got it" not in ended.out and ended.out.count("interrupted") == 1 and ended.out.count("well") == 2


@waits
def test_ctrl_c_in_plain_python_ends_a_wait(job, wait):
    make, call = WAITS[wait]
    running = job.start(
        0,
        HEAD
        + f"""
        {make}
        print("begins", flush=True)
        {call}
        """,
    )
    assert running.wait_for("begins")
    running.send(signal.SIGINT)
    ended = running.wait(20)
    assert not ended.timed_out and ended.err.count("KeyboardInterrupt") == 1, ended.out + ended.err


# --- MPI ------------------------------------------------------------------------------------------------------------


@two_or_three
@pytest.mark.parametrize("env", [NO_SINGLE_COPY, {}], ids=["no single copy", "as it is"])
def test_isend_then_a_wait_against_recv_then_what_it_waits_for(job, ranks, env):
    ended = job(
        ranks,
        HEAD
        + """
        from mpi4py import MPI
        made, full, done, (here, there) = ns.Queue(), ns.Queue(1), ns.Queue(), ns.Pipe()
        if comm.rank == 0:
            full.put(0)
            done.put(0)
        waits = [made.get, lambda: full.put(1), done.join, here.recv, lambda: here.poll(None)]
        ends = [lambda: made.put(1), full.get, done.task_done, lambda: there.send(1), lambda: there.send(1)]
        for wait, end in zip(waits, ends):
            data = np.full(1 << 20, comm.rank, np.float64)  # 8 MiB: no MPI sends that eagerly
            comm.Barrier()
            if comm.rank == 0:
                request = comm.Isend(data, dest=1)
                wait()
                request.Wait()
            if comm.rank == 1:
                comm.Recv(data, source=0)
                end()
            comm.Barrier()
        print("well", flush=True)
        """,
        env=env,
        timeout=40,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("well") == ranks


def test_they_can_be_used_after_mpi_is_finalized_and_views_stay(job):
    ended = job(
        2,
        HEAD
        + """
        from mpi4py import MPI
        lst, table = ns.List([array]), ns.Dict({"x": array})
        comm.Barrier()
        views = lst[0], table["x"]
        comm.Barrier()
        MPI.Finalize()
        del lst, table
        gc.collect()
        assert all((view == array).all() for view in views)
        print("well", flush=True)
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("well") == 2


# --- memory ---------------------------------------------------------------------------------------------------------


@two_or_three
def test_a_shared_memory_folder_that_gets_full_is_an_error_to_who_asks(job_with, ranks):  # noqa: F811
    ended, left = job_with(
        SMALL,
        ranks,
        HEAD
        + """
        small = {"capacity": 12 << 20}
        lst, table, made = ns.List(["before"], **small), ns.Dict({"x": "before"}, **small), ns.Queue(**small)
        ends = ns.Pipe(**small)
        comm.Barrier()
        if comm.rank == comm.size - 1:
            with open("/dev/shm/others", "wb", buffering=0) as others:
                try:
                    while True:
                        others.write(bytes(1 << 16))
                except OSError:
                    pass
            large = np.ones(2 << 20, "u1")
            calls = [lst.append, lambda value: table.update({len(table): value}), made.put, ends[0].send]
            for call in calls:
                try:
                    for number in range(1 if call == ends[0].send else 10):
                        call(large)
                except ns.OutOfSharedMemory as error:
                    print(f"told: {error}", flush=True)
            os.remove("/dev/shm/others")
            while len(lst) > 1:
                assert lst.pop().all()
            while len(table) > 1:
                assert table.popitem()[1].all()
            while not made.empty():
                assert made.get().all()
        comm.Barrier()
        assert list(lst) == ["before"] and dict(table) == {"x": "before"}
        comm.Barrier()
        lst.append(np.ones(1 << 20, "u1"))
        table[comm.rank] = np.ones(1 << 20, "u1")
        made.put("x")
        comm.Barrier()
        assert len(lst) == len(table) == comm.size + 1 and made.get() == "x"
        assert all(one.all() for one in [*lst[1:], *[table[rank] for rank in range(comm.size)]])
        print("well", flush=True)
        """,
        env={"NODESHARE_MEMORY": "window"},
    )
    assert (ended.code, left) == (0, []), ended.out + ended.err
    assert count(ended.out, "told") in (3, 4) and ended.out.count("well") == ranks, ended.out


@two_or_three
def test_a_capacity_larger_than_the_shared_memory_folder_is_told_to_all(job_with, ranks):  # noqa: F811
    ended, left = job_with(
        SMALL,
        ranks,
        HEAD
        + """
        for kind in ns.List, ns.Dict, ns.Queue, ns.Pipe:
            try:
                kind(capacity=1 << 28)
            except ns.OutOfSharedMemory as error:
                print(f"told: {error}", flush=True)
        assert not ns._core.segments()
        lst = ns.List([1], capacity=1 << 20)
        assert lst.copy() == [1]
        print("well", flush=True)
        """,
        env={"NODESHARE_MEMORY": "window"},
    )
    assert (ended.code, left) == (0, []), ended.out + ended.err
    assert count(ended.out, "told: .* free in /dev/shm") == 4 * ranks and ended.out.count("well") == ranks, ended.out


# --- children -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_children_of_multiprocessing_in_plain_python(job, start):
    ended = job(
        0,
        """
        import multiprocessing
        import numpy as np
        import nodeshare as ns

        def work(number, lst, table, tasks, results, end):
            for i in range(200):
                lst.append((number, i))
                table[number, i] = np.full(100, i)
            while (task := tasks.get()) is not None:
                results.put((task, np.full(20_000, task)))
                tasks.task_done()
            tasks.task_done()
            if number == 0:
                end.send(end.recv() * 2)

        if __name__ == "__main__":
            lst, table, tasks, results, (here, there) = ns.List(), ns.Dict(), ns.Queue(5), ns.Queue(), ns.Pipe()
            context = multiprocessing.get_context("START")
            given = lst, table, tasks, results, there
            children = [context.Process(target=work, args=(number, *given)) for number in range(3)]
            for child in children:
                child.start()
            for task in [*range(50), None, None, None]:
                tasks.put(task)
            tasks.join()
            here.send(np.arange(10))
            assert here.recv().tolist() == list(range(0, 20, 2))
            for child in children:
                child.join()
                assert child.exitcode == 0
            everything = [(number, i) for number in range(3) for i in range(200)]
            assert sorted(lst) == sorted(table) == everything
            assert all((table[key] == key[1]).all() for key in everything)
            got = dict(results.get() for _ in range(50))
            assert sorted(got) == list(range(50)) and all((array == task).all() for task, array in got.items())
            print("well", flush=True)
        """.replace("START", start),
        timeout=60,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.split() == ["well"]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_children_of_ranks_use_what_lies_in_a_memfd(job, start):
    ended = job(
        2,
        """
        import multiprocessing, operator
        import nodeshare as ns

        if __name__ == "__main__":
            comm = ns.topology().comm
            lst, made = ns.List(), ns.Queue()
            context = multiprocessing.get_context("START")
            for name, one in (("append", lst), ("put", made)):
                child = context.Process(target=operator.methodcaller(name, comm.rank), args=(one,))
                child.start()
                child.join()
                assert child.exitcode == 0
            comm.Barrier()
            assert sorted(lst) == [0, 1] and made.qsize() == 2
            comm.Barrier()
            print("well", flush=True)
        """.replace("START", start),
        env={"NODESHARE_MEMORY": "memfd"},
        timeout=60,
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("well") == 2


# --- 8 ranks --------------------------------------------------------------------------------------------------------

MANY = {
    "List": """
        lst, popped = ns.List(), []
        for number in range(times):
            lst.append((comm.rank, number))
        comm.Barrier()
        found = list(lst)
        assert len(found) == comm.size * times
        for rank in range(comm.size):
            assert [number for one, number in found if one == rank] == list(range(times))
        comm.Barrier()
        while True:
            try:
                popped.append(lst.pop())
            except IndexError:
                break
        assert sorted(itertools.chain(*comm.allgather(popped))) == sorted(found)
        lst = ns.List([np.zeros(9)] * 16)
        for number in range(times):
            lst[number % 16] = np.full(1 + number % 60, number)
            one = lst[(number * 7 + comm.rank) % 16]
            assert (one == one[0]).all()
        """,
    "Dict": """
        table, keys = ns.Dict(), range(1000)
        for first in range(0, times, 2000):
            mine = [table.setdefault((key, first), comm.rank) == comm.rank for key in keys]
            assert comm.allreduce(sum(mine)) == len(table) == 1000
            comm.Barrier()
            mine = [table.pop((key, first), None) is not None for key in keys]
            assert comm.allreduce(sum(mine)) == 1000 and len(table) == 0
            comm.Barrier()
        """,
    "Queue": """
        made, found, last = ns.Queue(1000), 0, {}
        writer = threading.Thread(target=lambda: [made.put((comm.rank, i, array[: i % 60])) for i in range(times)])
        writer.start()
        for _ in range(times):
            rank, number, piece = made.get()
            assert number > last.get(rank, -1) and len(piece) == number % 60
            last[rank] = number
            found += number
            made.task_done()
        writer.join()
        made.join()
        comm.Barrier()  # until then others may put more
        assert made.empty()
        assert comm.allreduce(found) == comm.size * (times * (times - 1) // 2)
        """,
    "Pipe": """
        pair = comm.Split(comm.rank // 2)
        end = ns.Pipe(comm=pair)[pair.rank]
        writer = threading.Thread(target=lambda: [end.send((i, array[: i % 60])) for i in range(times)])
        writer.start()
        for number in range(times):
            got, piece = end.recv()
            assert got == number and len(piece) == number % 60
        writer.join()
        comm.Barrier()
        assert not end.poll()
        comm.Barrier()  # until then the other one may look
        """,
}


@pytest.mark.slow
@kinds
def test_8_ranks_lose_and_double_nothing(job, kind):
    ended = job(
        8, HEAD + "        times = 100_000\n" + MANY[kind] + '\n        print("well", flush=True)\n', timeout=200
    )
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("well") == 8
