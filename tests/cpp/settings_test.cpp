// SPDX-License-Identifier: BSD-3-Clause
// Environment variables, and what a launcher leaves in the environment.
#include <functional>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

bool on_one_machine()
{
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  int size = 0;
  MPI_Comm_size(machine, &size);
  MPI_Comm_free(&machine);
  return size == world().size();
}
answer one_machine(boost::unit_test::test_unit_id) { return needs(on_one_machine(), "all ranks on one machine"); }

/// Node of each rank under a placement, as rank and place in the nodes' repeating pattern tell it.
void check_placement(const char* placement, const std::function<int(int rank, int size)>& expected)
{
  const setting pretend("NODESHARE_RANKS_PER_NODE", placement);
  const own_comm comm;
  const topology t(comm);
  for (int rank = 0; rank < t.size(); ++rank) {
    BOOST_CHECK_EQUAL(t.node_of(rank), expected(rank, t.size()));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(settings)

BOOST_AUTO_TEST_CASE(ranks_are_placed_in_blocks_by_a_number, *boost::unit_test::precondition(one_machine))
{
  check_placement("2", [](int rank, int) { return rank / 2; });
  check_placement("1", [](int rank, int) { return rank; });
  check_placement("100", [](int, int) { return 0; });
}

BOOST_AUTO_TEST_CASE(uneven_nodes_repeat_their_pattern, *boost::unit_test::precondition(one_machine))
{
  check_placement("3,1", [](int rank, int) { return rank / 4 * 2 + (rank % 4 == 3 ? 1 : 0); });
  check_placement("1,3", [](int rank, int) { return rank / 4 * 2 + (rank % 4 > 0 ? 1 : 0); });
}

BOOST_AUTO_TEST_CASE(cyclic_ranks_are_dealt_round_the_nodes, *boost::unit_test::precondition(one_machine))
{
  check_placement("2:cyclic", [](int rank, int size) { return rank % ((size + 1) / 2); });
}

BOOST_AUTO_TEST_CASE(the_settings_of_rank_0_count)
{
  const setting pretend("NODESHARE_RANKS_PER_NODE", world().rank() == 0 ? "1" : "nonsense");
  const own_comm comm;
  const topology t(comm);
  BOOST_CHECK_EQUAL(t.nodes(), t.size());
  BOOST_CHECK_EQUAL(t.node_size(), 1);
}

BOOST_AUTO_TEST_CASE(a_bad_setting_throws_on_every_rank_and_names_itself)
{
  const std::vector<std::pair<const char*, const char*>> bad = {
      {"NODESHARE_RANKS_PER_NODE", "0"},
      {"NODESHARE_RANKS_PER_NODE", "-2"},
      {"NODESHARE_RANKS_PER_NODE", "two"},
      {"NODESHARE_RANKS_PER_NODE", "2,,1"},
      {"NODESHARE_RANKS_PER_NODE", ","},
      {"NODESHARE_RANKS_PER_NODE", "1.5"},
      {"NODESHARE_RANKS_PER_NODE", "2:block"},
      {"NODESHARE_RANKS_PER_NODE", ":cyclic"},
      {"NODESHARE_RANKS_PER_NODE", "2,"},
      {"NODESHARE_RANKS_PER_NODE", "99999999999999999999"},
      {"NODESHARE_MEMORY", "shm"},
      {"NODESHARE_MEMORY", "WINDOW"},
      {"NODESHARE_PATIENCE", "0"},
      {"NODESHARE_PATIENCE", "-1"},
      {"NODESHARE_PATIENCE", "soon"},
      {"NODESHARE_PATIENCE", "1s"},
      {"NODESHARE_PATIENCE", "nan"},
  };
  for (const auto& [name, value] : bad) {
    BOOST_TEST_CONTEXT(name << '=' << value)
    {
      const setting here(name, world().rank() == 0 ? value : nullptr);
      const own_comm comm;
      const std::string text = thrown<invalid_argument>([&] { const topology t(comm); });
      contains(text, std::string(name) + '=' + value);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_communicator_refused_for_a_setting_can_be_used_once_that_is_mended)
{
  const own_comm comm;
  {
    const setting bad("NODESHARE_MEMORY", "shm");
    BOOST_CHECK_THROW(const topology t(comm), invalid_argument);
  }
  check_still_works(topology(comm));
}

BOOST_AUTO_TEST_CASE(a_launcher_of_another_mpi_is_named)
{
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const setting open_mpi("OMPI_COMM_WORLD_SIZE", nullptr);
  const setting mpich("PMI_SIZE", "4");
  const own_comm comm;
  if (size > 1) {
    BOOST_CHECK_NO_THROW(const topology t(comm));
  } else {
    const std::string text = thrown<invalid_argument>([&] { const topology t(comm); });
    contains(text, "4 ranks (PMI_SIZE)");
    contains(text, "MPI_COMM_WORLD has 1");
  }
}

BOOST_AUTO_TEST_CASE(tasks_of_a_slurm_batch_script_are_no_launcher)
{
  const setting open_mpi("OMPI_COMM_WORLD_SIZE", nullptr);
  const setting mpich("PMI_SIZE", nullptr);
  const setting tasks("SLURM_NTASKS", "64");
  const setting step_tasks("SLURM_STEP_NUM_TASKS", "64");
  const setting step("SLURM_STEP_ID", "4294967291");  // that of the batch script itself
  const own_comm comm;
  BOOST_CHECK_NO_THROW(const topology t(comm));
}

BOOST_AUTO_TEST_SUITE_END()
