// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What the tests share: communicators of their own, failing system calls, answers compared over the whole job.
#pragma once

#include <mpi.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>

#include "linux.hpp"
#include "nodeshare/nodeshare.hpp"

namespace nodeshare::test {

inline const topology& world()
{
  static const topology one(MPI_COMM_WORLD);
  return one;
}

/// The ranks of this node.
inline const topology& here()
{
  static const topology one(world().node_comm());
  return one;
}
inline void barrier_of_node() { MPI_Barrier(here().comm()); }

/// A communicator of the test's own: what is set for it, or broken on it, concerns no other test.
class own_comm {
 public:
  own_comm() { MPI_Comm_dup(MPI_COMM_WORLD, &comm_); }
  own_comm(int color, int key) { MPI_Comm_split(MPI_COMM_WORLD, color, key, &comm_); }
  ~own_comm() { free(); }
  own_comm(const own_comm&) = delete;
  own_comm& operator=(const own_comm&) = delete;

  operator MPI_Comm() const { return comm_; }
  /// Leaves it to MPI_Finalize, as a rank that has ended does.
  void keep() { comm_ = MPI_COMM_NULL; }
  void free()
  {
    if (comm_ != MPI_COMM_NULL) {
      MPI_Comm_free(&comm_);
    }
  }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

/// An environment variable, until the end of the scope; null removes it.
class setting {
 public:
  setting(const char* name, const char* value) : name_(name)
  {
    if (const char* before = std::getenv(name)) {
      before_ = before;
    }
    put(value);
  }
  ~setting() { put(before_ ? before_->c_str() : nullptr); }
  setting(const setting&) = delete;
  setting& operator=(const setting&) = delete;

 private:
  void put(const char* value) { value != nullptr ? ::setenv(name_, value, 1) : ::unsetenv(name_); }

  const char* name_;
  std::optional<std::string> before_;
};

/// Another function in place of a system call or hook of this rank, until the end of the scope.
template <class Function>
class replaced {
 public:
  replaced(Function& slot, Function by, bool here = true) : slot_(slot), before_(slot) { slot = here ? by : slot; }
  ~replaced() { slot_ = before_; }
  replaced(const replaced&) = delete;
  replaced& operator=(const replaced&) = delete;

 private:
  Function& slot_;
  Function before_;
};

/// For `linux_api::calls`: then each page is asked for by madvise.
inline int no_userfaultfd(int)
{
  errno = EPERM;
  return -1;
}

/// Collective over the job. Whether it holds on every rank.
inline bool on_all(bool here)
{
  int all = here ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
  return all != 0;
}

/// Collective over `comm`. Whether all its ranks have the same text.
inline bool same_text(const std::string& mine, MPI_Comm comm = MPI_COMM_WORLD)
{
  std::string first = mine;
  unsigned long length = first.size();
  MPI_Bcast(&length, 1, MPI_UNSIGNED_LONG, 0, comm);
  first.resize(length);
  MPI_Bcast(first.data(), static_cast<int>(length), MPI_CHAR, 0, comm);
  int same = first == mine ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &same, 1, MPI_INT, MPI_LAND, comm);
  return same != 0;
}

/// The text of the `Error`, exactly of that class, that `call` has to throw.
template <class Error>
std::string thrown(const std::function<void()>& call)
{
  try {
    call();
  } catch (const error& why) {
    BOOST_CHECK_MESSAGE(typeid(why) == typeid(Error),
                        "another class was thrown: " << typeid(why).name() << ' ' << why.what());
    return why.what();
  }
  BOOST_ERROR("nothing was thrown");
  return "";
}

inline bool contains(const std::string& text, const std::string& part)
{
  const bool found = text.find(part) != std::string::npos;
  BOOST_CHECK_MESSAGE(found, "'" << part << "' is not in: " << text);
  return found;
}

/// Collective over the communicator. Creates, meets and replicates as if nothing had happened.
inline void check_still_works(const topology& where)
{
  const auto rows = static_cast<std::size_t>(3 * where.size() + 1);
  shared_array<std::size_t> ranks(where, {rows});
  const auto [first, last] = where.local_range(rows);
  for (std::size_t row = first; row < last; ++row) {
    ranks.view()(row) = row + 1;
  }
  ranks.sync();
  ranks.allgather();
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    wrong += ranks.view()(row) != row + 1;
  }
  BOOST_CHECK_MESSAGE(wrong == 0, wrong << " wrong rows in an ordinary array afterwards");
}

using memory = std::shared_ptr<segment>;
constexpr std::size_t megabyte = std::size_t{1} << 20;

/// Collective over the communicator. Memory of each node.
inline memory make(const topology& where, std::size_t bytes, bool reserve = true)
{
  return node::of(where)->create(call("make", std::to_string(bytes)), {.bytes = bytes, .reserve = reserve});
}

/// Collective over the node of `one`.
inline void meet(const memory& one) { one->home()->meet(call("sync", one->id(), one->description())); }

/// A communicator whose arrays are of one kind.
class kind_of_memory {
 public:
  explicit kind_of_memory(const char* kind) : set_("NODESHARE_MEMORY", kind), where_(comm_) { (void)node::of(where_); }
  operator const topology&() const { return where_; }

 private:
  setting set_;
  own_comm comm_;
  topology where_;
};

/// How messages begin to name a rank; the host follows.
inline std::string rank_text(int rank) { return "rank " + std::to_string(rank) + " on "; }

/// The first node with several ranks; none if all have one.
inline std::optional<int> crowded_node(const topology& where = world())
{
  for (int node = 0; node < where.nodes(); ++node) {
    if (where.ranks_on(node).size() > 1) {
      return node;
    }
  }
  return std::nullopt;
}

using answer = boost::test_tools::assertion_result;

inline answer needs(bool there, const char* what)
{
  answer out(there);
  out.message() << "needs " << what;
  return out;
}

// Preconditions of tests: what a run lacks is said, not failed.
inline answer several_ranks(boost::unit_test::test_unit_id) { return needs(world().size() > 1, "several ranks"); }
inline answer several_nodes(boost::unit_test::test_unit_id) { return needs(world().nodes() > 1, "several nodes"); }
inline answer a_crowded_node(boost::unit_test::test_unit_id)
{
  return needs(crowded_node().has_value(), "a node with several ranks");
}

}  // namespace nodeshare::test
