# SPDX-License-Identifier: BSD-3-Clause
"""A wait in nodeshare lets MPI progress: correct MPI programs stay correct."""

import pytest

NO_SINGLE_COPY = {  # as in containers, where processes may not read each other's memory
    "OMPI_MCA_smsc": "^cma,xpmem,knem",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "OMPI_MCA_btl_sm_use_cma": "0",
    "MPIR_CVAR_CH4_CMA_ENABLE": "0",
}


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("env", [NO_SINGLE_COPY, {}], ids=["no single copy", "as it is"])
def test_isend_then_sync_against_recv_then_sync(job, ranks, env):
    ended = job(
        ranks,
        """
        import numpy as np
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        a = ns.zeros(3)
        for repeat in range(3):
            data = np.full(1 << 20, comm.rank + repeat, np.float64)  # 8 MiB: no MPI sends that eagerly
            if comm.rank == 0:
                requests = [comm.Isend(data, dest=rank) for rank in range(1, comm.size)]
                a.sync()
                MPI.Request.Waitall(requests)
            else:
                comm.Recv(data, source=0)
                a.sync()
                assert (data == repeat).all()
        print("well", flush=True)
        """,
        env=env,
        timeout=40,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == ranks


@pytest.mark.parametrize(("ranks", "placement"), [(3, "2"), (5, "3,1")])
def test_isend_to_another_node_then_a_call_over_the_communicator(job, ranks, placement):
    ended = job(
        ranks,
        """
        import numpy as np
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        a = ns.zeros(3)
        data = np.full(1 << 20, comm.rank, np.float64)
        if comm.rank == 0:
            request = comm.Isend(data, dest=comm.size - 1)
            a.bcast()
            request.Wait()
        else:
            if comm.rank == comm.size - 1:
                comm.Recv(data, source=0)
            a.bcast()
        print("well", flush=True)
        """,
        env={**NO_SINGLE_COPY, "NODESHARE_RANKS_PER_NODE": placement},
        timeout=40,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == ranks
