// SPDX-License-Identifier: BSD-3-Clause
#include <mpi.h>

#include <cstdio>
#include <nodeshare/nodeshare.hpp>
#include <numeric>

int main(int argc, char** argv)
{
  MPI_Init(&argc, &argv);
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  {
    nodeshare::shared_array<double> x(MPI_COMM_WORLD, {1000});
    for (auto& e : x.local()) e = 1;
    x.sync();
    auto const all = x.view().span();
    if (rank == 0) std::printf("sum %g\n", std::accumulate(all.begin(), all.end(), 0.0));
  }
  MPI_Finalize();
}
