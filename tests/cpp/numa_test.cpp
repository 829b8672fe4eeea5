// SPDX-License-Identifier: BSD-3-Clause
// NUMA domains, read from trees as kernels write them; and arrays with a copy in each.
#include "numa.hpp"

#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;
namespace fs = std::filesystem;

namespace {

/// A machine with these lists of processors, one a domain.
class machine {
 public:
  explicit machine(const std::vector<std::string>& lists)
  {
    std::string name = (fs::temp_directory_path() / "nodeshare-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    const fs::path folder = root_ / "sys/devices/system/node";
    fs::create_directories(folder / "power");
    std::ofstream(folder / "possible") << "0-1\n";
    for (std::size_t i = 0; i < lists.size(); ++i) {
      fs::create_directories(folder / ("node" + std::to_string(i)));
      std::ofstream(folder / ("node" + std::to_string(i)) / "cpulist") << lists[i] << '\n';
    }
  }
  ~machine() { fs::remove_all(root_); }
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

cpu_set_t set_of(const std::vector<int>& processors)
{
  cpu_set_t out;
  CPU_ZERO(&out);
  for (const int one : processors) {
    CPU_SET(static_cast<std::size_t>(one), &out);
  }
  return out;
}

bool same_set(const cpu_set_t& a, const cpu_set_t& b) { return CPU_EQUAL(&a, &b) != 0; }

/// The processors that this process could be bound to, from the first on.
std::vector<int> all_processors()
{
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof all);
  (void)::sched_setaffinity(0, sizeof all, &all);
  all = linux_api::processors();
  std::vector<int> out;
  for (int one = 0; one < CPU_SETSIZE; ++one) {
    if (CPU_ISSET(static_cast<std::size_t>(one), &all)) {
      out.push_back(one);
    }
  }
  return out;
}

/// Until the end of the scope all ranks believe to be on a machine whose first two processors are a domain each.
class two_domains {
 public:
  two_domains()
      : before_(linux_api::processors()),
        processors_(all_processors()),
        machine_({std::to_string(processors_[0]), std::to_string(processors_[processors_.size() > 1 ? 1 : 0])})
  {
    numa_root = machine_.root();
  }
  ~two_domains()
  {
    numa_root = "/";
    (void)::sched_setaffinity(0, sizeof before_, &before_);
  }
  two_domains(const two_domains&) = delete;
  two_domains& operator=(const two_domains&) = delete;

  void bind(const std::vector<int>& domains) const
  {
    cpu_set_t set = set_of({});
    for (const int domain : domains) {
      CPU_SET(static_cast<std::size_t>(processors_[static_cast<std::size_t>(domain)]), &set);
    }
    (void)::sched_setaffinity(0, sizeof set, &set);
  }

 private:
  cpu_set_t before_;
  std::vector<int> processors_;
  machine machine_;
};

answer two_processors(boost::unit_test::test_unit_id)
{
  return needs(::sysconf(_SC_NPROCESSORS_ONLN) > 1, "two processors");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(numa)

BOOST_AUTO_TEST_CASE(domains_are_read_as_the_kernel_lists_them)
{
  const machine two({"0-2,8,10-11", "3-7,9"});
  const auto domains = numa_domains(two.root());
  BOOST_REQUIRE_EQUAL(domains.size(), 2);
  BOOST_CHECK(same_set(domains.at(0), set_of({0, 1, 2, 8, 10, 11})));
  BOOST_CHECK(same_set(domains.at(1), set_of({3, 4, 5, 6, 7, 9})));
}

BOOST_AUTO_TEST_CASE(domains_of_memory_alone_and_machines_without_any_are_passed_over)
{
  const machine with_memory({"0-3", "", "4-7"});
  const auto domains = numa_domains(with_memory.root());
  BOOST_CHECK_EQUAL(domains.size(), 2);
  BOOST_CHECK(domains.contains(0) && domains.contains(2));
  BOOST_CHECK(numa_domains(with_memory.root() + "/nothing").empty());
  BOOST_CHECK(numa_domains(machine({}).root()).empty());
}

BOOST_AUTO_TEST_CASE(a_bound_process_is_in_the_domain_of_its_processors)
{
  const machine two({"0-3", "4-7"});
  const auto domains = numa_domains(two.root());
  int domain = -1;
  BOOST_CHECK(!find_domain(set_of({1, 2}), domains, domain));
  BOOST_CHECK_EQUAL(domain, 0);
  BOOST_CHECK(!find_domain(set_of({7}), domains, domain));
  BOOST_CHECK_EQUAL(domain, 1);
  BOOST_CHECK(contains(find_domain(set_of({3, 4}), domains, domain).text, "NUMA domains 0, 1"));
  BOOST_CHECK(contains(find_domain(set_of({3, 4}), domains, domain).text, "bind your ranks"));
  BOOST_CHECK(contains(find_domain(set_of({8}), domains, domain).text, "none of the NUMA domains"));
}

BOOST_AUTO_TEST_CASE(on_a_machine_of_one_domain_no_rank_need_be_bound)
{
  int domain = -1;
  BOOST_CHECK(!find_domain(set_of({0, 5}), numa_domains(machine({"0-3"}).root()), domain));
  BOOST_CHECK_EQUAL(domain, 0);
  BOOST_CHECK(!find_domain(set_of({0, 5}), {}, domain));
}

BOOST_AUTO_TEST_CASE(ranks_of_a_domain_share_arrays_and_others_have_their_own,
                     *boost::unit_test::precondition(two_processors))
{
  const two_domains here;
  here.bind({world().rank() % 2});
  const own_comm comm;
  const topology numa(comm, per::numa);
  for (int rank = 0; rank < numa.size(); ++rank) {
    const bool together = world().node_of(rank) == world().node() && rank % 2 == world().rank() % 2;
    BOOST_CHECK_EQUAL(numa.node_of(rank) == numa.node(), together);
  }
  BOOST_CHECK_EQUAL(topology(comm, per::numa).node(), numa.node());
  BOOST_CHECK_EQUAL(topology(comm).nodes(), world().nodes());  // beside it
  shared_array<int> x(numa, {100});
  if (numa.is_leader()) {
    x.view()(3) = numa.node() + 1;
  }
  x.sync();
  BOOST_CHECK_EQUAL(x.view()(3), numa.node() + 1);
  x.bcast(numa.size() - 1);
  BOOST_CHECK_EQUAL(x.view()(3), numa.node_of(numa.size() - 1) + 1);
}

BOOST_AUTO_TEST_CASE(a_rank_that_may_run_in_several_domains_is_named_to_all,
                     *boost::unit_test::precondition(two_processors))
{
  const two_domains here;
  const int last = world().size() - 1;
  here.bind(world().rank() == last ? std::vector{0, 1} : std::vector{0});
  const own_comm comm;
  const std::string text = thrown<invalid_argument>([&] { const topology numa(comm, per::numa); });
  BOOST_CHECK(contains(text, rank_text(last)) && contains(text, "bind your ranks"));
  check_still_works(topology(comm));
}

BOOST_AUTO_TEST_CASE(ranks_that_come_to_different_topologies_are_a_mismatch,
                     *boost::unit_test::precondition(several_ranks))
{
  const own_comm comm;
  const per each = world().rank() == 0 ? per::node : per::numa;
  (void)thrown<mismatch>([&] { const topology one(comm, each); });
  check_still_works(topology(comm));
}

BOOST_AUTO_TEST_SUITE_END()
