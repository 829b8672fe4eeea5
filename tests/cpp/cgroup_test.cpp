// SPDX-License-Identifier: BSD-3-Clause
// How much memory control groups leave, read from trees as kernels write them, and from this machine's own.
#include "cgroup.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t MiB = 1 << 20;
constexpr const char* v1_unlimited = "9223372036854771712";

/// A folder that stands for the root of a machine.
class tree {
 public:
  tree()
  {
    std::string name = (fs::temp_directory_path() / "nodeshare-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  ~tree() { fs::remove_all(root_); }
  tree(const tree&) = delete;
  tree& operator=(const tree&) = delete;

  void put(const std::string& file, const std::string& text) const
  {
    const fs::path whole = root_ + file;
    fs::create_directories(whole.parent_path());
    std::ofstream(whole) << text;
  }
  /// What the process itself sees: its groups, and lines of its mounts.
  void process(const std::string& groups, const std::string& mounts) const
  {
    put("/proc/self/cgroup", groups);
    put("/proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw\n" + mounts);
  }
  /// A group of version 2, in MiB; `cache` is half active, half not.
  void v2(const std::string& folder, const std::string& limit, std::uint64_t usage, std::uint64_t cache) const
  {
    put(folder + "/memory.max", limit + "\n");
    put(folder + "/memory.current", std::to_string(usage * MiB) + "\n");
    put(folder + "/memory.high", "4096\n");
    put(folder + "/memory.stat", "anon 1048576\nfile " + std::to_string((cache + 10) * MiB) + "\nshmem 10485760\n" +
                                     "inactive_anon 123\nactive_anon 456\ninactive_file " +
                                     std::to_string(cache / 2 * MiB) + "\nactive_file " +
                                     std::to_string(cache / 2 * MiB) + "\nunevictable 0\n");
  }
  void v1(const std::string& folder, const std::string& limit, std::uint64_t usage, std::uint64_t cache) const
  {
    put(folder + "/memory.limit_in_bytes", limit + "\n");
    put(folder + "/memory.usage_in_bytes", std::to_string(usage * MiB) + "\n");
    put(folder + "/memory.stat", "cache 999999999\nshmem 10485760\ninactive_file 1\nactive_file 1\n" +
                                     std::string("hierarchical_memory_limit 1048576\ntotal_cache 999999999\n") +
                                     "total_inactive_file " + std::to_string(cache / 2 * MiB) + "\ntotal_active_file " +
                                     std::to_string(cache / 2 * MiB) + "\n");
  }

  [[nodiscard]] std::optional<cgroup_headroom> headroom() const { return nodeshare::headroom(memory_groups(root_)); }
  /// The groups' folders in this tree, in the order they are looked at.
  [[nodiscard]] std::vector<std::string> folders() const
  {
    std::vector<std::string> out;
    for (const memory_group& group : memory_groups(root_)) {
      out.push_back(group.folder.substr(root_.size()));
    }
    return out;
  }
  void check(std::uint64_t megabytes, const std::string& group) const
  {
    const auto found = headroom();
    BOOST_REQUIRE(found);
    BOOST_CHECK_EQUAL(found->bytes, megabytes * MiB);
    BOOST_CHECK_EQUAL(found->group, root_ + group);
  }

 private:
  std::string root_;
};

std::string mebibytes(std::uint64_t count) { return std::to_string(count * MiB); }

const std::string mount_v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string mount_v1 =
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:11 - cgroup cgroup rw,memory\n";

void check_equal(const std::vector<std::string>& found, const std::vector<std::string>& expected)
{
  BOOST_CHECK_EQUAL_COLLECTIONS(found.begin(), found.end(), expected.begin(), expected.end());
}

bool has_groups() { return !memory_groups().empty(); }
answer memory_controller(boost::unit_test::test_unit_id)
{
  return needs(has_groups(), "a mounted cgroup with the memory controller");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cgroup)

BOOST_AUTO_TEST_CASE(the_tightest_group_of_the_chain_decides)
{
  const tree t;
  t.process("0::/system.slice/job_7/step_0\n", mount_v2);
  t.put("/sys/fs/cgroup/memory.stat", "inactive_file 0\nactive_file 0\n");  // the root group has no limit
  t.v2("/sys/fs/cgroup/system.slice", "max", 5000, 100);
  t.v2("/sys/fs/cgroup/system.slice/job_7", mebibytes(1000), 700, 200);
  t.v2("/sys/fs/cgroup/system.slice/job_7/step_0", mebibytes(900), 300, 100);
  t.check(500, "/sys/fs/cgroup/system.slice/job_7");
  BOOST_CHECK_EQUAL(t.headroom()->limit, 1000 * MiB);
  BOOST_CHECK_EQUAL(t.headroom()->usage, 700 * MiB);
}

BOOST_AUTO_TEST_CASE(groups_are_looked_at_from_the_own_one_up)
{
  const tree t;
  t.process("0::/a/b\n", mount_v2);
  check_equal(t.folders(), {"/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"});
}

BOOST_AUTO_TEST_CASE(headroom_lies_between_nothing_and_the_limit)
{
  const tree t;
  t.process("0::/a\n", mount_v2);
  t.v2("/sys/fs/cgroup/a", mebibytes(100), 150, 20);
  t.check(0, "/sys/fs/cgroup/a");
  t.v2("/sys/fs/cgroup/a", mebibytes(100), 50, 80);
  t.check(100, "/sys/fs/cgroup/a");
}

BOOST_AUTO_TEST_CASE(no_limit_leaves_nothing_to_say)
{
  const tree t;
  t.process("0::/user.slice\n", mount_v2);
  t.v2("/sys/fs/cgroup/user.slice", "max", 500, 100);
  BOOST_CHECK(!t.headroom());
  const tree old;
  old.process("4:memory:/job\n0::/\n", mount_v1);
  old.v1("/sys/fs/cgroup/memory", v1_unlimited, 100, 10);
  old.v1("/sys/fs/cgroup/memory/job", v1_unlimited, 100, 10);
  BOOST_CHECK(!old.headroom());
}

BOOST_AUTO_TEST_CASE(version_1_counts_with_its_groups_below)
{
  const tree t;
  t.process("12:cpuset:/other\n5:cpu,cpuacct:/\n4:hugetlb,memory:/slurm/uid_1000/job_7\n1:name=systemd:/x\n", mount_v1);
  t.v1("/sys/fs/cgroup/memory", v1_unlimited, 9000, 0);
  t.v1("/sys/fs/cgroup/memory/slurm", v1_unlimited, 9000, 0);
  t.v1("/sys/fs/cgroup/memory/slurm/uid_1000", mebibytes(2000), 1500, 400);
  t.v1("/sys/fs/cgroup/memory/slurm/uid_1000/job_7", mebibytes(1000), 50, 0);
  t.check(900, "/sys/fs/cgroup/memory/slurm/uid_1000");
}

BOOST_AUTO_TEST_CASE(both_versions_mounted_are_both_read)
{
  const tree t;
  t.process("4:memory:/job\n0::/job\n",
            mount_v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  t.v1("/sys/fs/cgroup/memory/job", mebibytes(300), 100, 0);
  t.put("/sys/fs/cgroup/unified/job/cgroup.procs", "1\n");  // without a memory controller
  t.check(200, "/sys/fs/cgroup/memory/job");
}

BOOST_AUTO_TEST_CASE(a_container_sees_its_own_group_at_the_mount_point)
{
  const tree of_namespace;  // a cgroup namespace of its own
  of_namespace.process("0::/\n", mount_v2);
  of_namespace.v2("/sys/fs/cgroup", mebibytes(64), 14, 0);
  of_namespace.check(50, "/sys/fs/cgroup");

  const tree of_mount;  // the host's namespace, where only its own group is mounted
  of_mount.process("4:memory:/docker/0123/sub\n",
                   "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  of_mount.v1("/sys/fs/cgroup/memory", mebibytes(64), 14, 0);
  of_mount.v1("/sys/fs/cgroup/memory/sub", v1_unlimited, 14, 0);
  check_equal(of_mount.folders(), {"/sys/fs/cgroup/memory/sub", "/sys/fs/cgroup/memory"});
  of_mount.check(50, "/sys/fs/cgroup/memory");
}

BOOST_AUTO_TEST_CASE(a_mount_above_the_namespace_gives_its_top_alone)
{
  const tree t;
  t.process("0::/sub\n", "30 23 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
  check_equal(t.folders(), {"/sys/fs/cgroup"});
  t.process("0::/../other/sub\n", "30 23 0:26 /.. /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
  check_equal(t.folders(), {"/sys/fs/cgroup/other/sub", "/sys/fs/cgroup/other", "/sys/fs/cgroup"});
}

BOOST_AUTO_TEST_CASE(groups_of_other_processes_are_not_read)
{
  const tree t;
  t.process("0::/../other\n", mount_v2);  // moved out of the namespace
  check_equal(t.folders(), {});
  t.process("0::/job_7\n",
            "30 23 0:26 /job_8 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
            "31 23 0:26 /../job_8 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
            "32 23 0:26 /job /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  check_equal(t.folders(), {});
}

BOOST_AUTO_TEST_CASE(blanks_in_names_are_read)
{
  const tree t;
  t.process("0::/my job:1\n", "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n");
  t.v2("/sys/fs/my groups/my job:1", mebibytes(8), 1, 0);
  t.check(7, "/sys/fs/my groups/my job:1");
}

BOOST_AUTO_TEST_CASE(a_group_that_cannot_be_read_is_passed_over)
{
  const tree t;
  t.process("0::/a/b/c (deleted)\n", mount_v2);
  t.v2("/sys/fs/cgroup/a", mebibytes(100), 40, 0);
  t.put("/sys/fs/cgroup/a/b/memory.max", "1048576\n");
  t.check(60, "/sys/fs/cgroup/a");
  t.put("/sys/fs/cgroup/a/b/memory.current", "1\n");
  t.check(60, "/sys/fs/cgroup/a");
  t.put("/sys/fs/cgroup/a/b/memory.stat", "active_file 0\n");
  t.check(60, "/sys/fs/cgroup/a");
  t.put("/sys/fs/cgroup/a/b/memory.stat", "active_file 0\ninactive_file 0\n");
  t.put("/sys/fs/cgroup/a/b/memory.current", "48576\n");
  BOOST_CHECK_EQUAL(t.headroom()->bytes, 1000000);
}

BOOST_AUTO_TEST_CASE(what_is_no_number_and_no_mount_is_passed_over)
{
  const tree t;
  BOOST_CHECK(!t.headroom());
  t.process("", "");
  BOOST_CHECK(!t.headroom());
  t.process("nonsense\n0:\n\n:\n0::\n",
            "-\n - cgroup2\n\n1 2 3 - cgroup2 a b\n" + mount_v1 + "35 31 0:32 / \\04 - x y");
  BOOST_CHECK(!t.headroom());
  t.process("0::/a\n", "\xff\xfe\n" + mount_v2);
  for (const char* limit : {"", "-1", "1e9", "12 34", "0x10", "99999999999999999999999"}) {
    t.v2("/sys/fs/cgroup/a", limit, 1, 1);
    BOOST_CHECK_MESSAGE(!t.headroom(), limit);
  }
  t.v2("/sys/fs/cgroup/a", "0", 1, 0);
  t.check(0, "/sys/fs/cgroup/a");
}

BOOST_AUTO_TEST_CASE(this_process_is_in_the_first_of_its_groups, *boost::unit_test::precondition(memory_controller))
{
  bool found = false;
  for (const memory_group& group : memory_groups()) {
    std::ifstream members(group.folder + "/cgroup.procs");
    for (int process = 0; !found && members >> process;) {
      found = process == ::getpid();
    }
  }
  BOOST_CHECK(found);
}

BOOST_AUTO_TEST_CASE(the_headroom_here_is_that_of_one_of_its_groups, *boost::unit_test::precondition(memory_controller))
{
  const auto found = headroom();
  if (!found) {
    return;  // no group here has a limit
  }
  BOOST_CHECK_LE(found->bytes, found->limit);
  BOOST_CHECK(fs::is_directory(found->group));
}

BOOST_AUTO_TEST_SUITE_END()
