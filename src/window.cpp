// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Memory from MPI_Win_allocate_shared (MPI-3.1, 11.2.3); the only file that knows MPI_Win.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <utility>

#include "linux.hpp"
#include "provider.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

/// Bytes to ask MPI for, so that whole pages lie inside wherever the window begins. Never a multiple of the page size:
/// MPICH before 4.4 spends 150 ms for a GiB on those.
std::size_t padded(std::size_t bytes) { return pages_for(bytes) + linux_api::page_size() + 64; }

/// Open MPI wants 5 % more than it takes, and where it is refused only node rank 0 returns; so look for more than that.
std::uint64_t wanted_free(std::size_t bytes)
{
  const std::uint64_t asked = padded(bytes);
  return asked + asked / 16 + (std::uint64_t{1} << 20);
}

/// Whether a file system without a limit, which says that it has no blocks at all, holds this MPI's windows. Open MPI
/// looks for free blocks before each of them.
#ifdef OPEN_MPI
constexpr bool unlimited_holds_windows = false;
#else
constexpr bool unlimited_holds_windows = true;
#endif

constexpr double seconds_for_all_to_be_refused = 5;

/// An MPI that refuses a window on some ranks alone (Open MPI: on node rank 0) leaves the others waiting in
/// MPI_Win_allocate_shared for ever, and no way to call them back.
failure refused(MPI_Comm node, const std::string& why)
{
  MPI_Request all_refused = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(node, &all_refused) != MPI_SUCCESS ||
      !wait_for(all_refused, "MPI_Ibarrier", [](double seconds) { return seconds < seconds_for_all_to_be_refused; })) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::fprintf(stderr,
                 "nodeshare: rank %d of MPI_COMM_WORLD on %s: %s on this rank alone, although there was room a moment ago; "
                 "the others wait for it for ever, so the job is aborted: see what else fills the folder where this MPI "
                 "keeps its windows, or set NODESHARE_MEMORY=memfd\n",
                 rank, linux_api::host_name().c_str(), why.c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  return {failure_kind::mpi, why};
}

/// The windows of this process that are not freed at once, by their numbers; never destroyed, as exit order is not ours.
///
/// Numbers are given out by the node's leader. In their order all ranks free what is left in MPI_Finalize, whatever the
/// order in which threads on several communicators made it.
struct held_windows {
  struct entry {
    MPI_Win handle;
    mapping memory;
  };
  std::mutex mutex;
  std::uint32_t given_out = 0;
  std::map<std::uint64_t, entry> by_number;
};
held_windows& held()
{
  static auto* one = new held_windows;
  return *one;
}

class window final : public provider {
 public:
  constexpr explicit window(bool is_held) noexcept : is_held_(is_held) {}

  failure offer(std::size_t, descriptor& out) const override
  {
    if (!is_held_) {
      return {};
    }
    const std::lock_guard lock(held().mutex);
    out.inode = static_cast<std::uint64_t>(::getpid()) << 32 | ++held().given_out;
    return {};
  }

  failure map(MPI_Comm node, bool leads, const descriptor& offered, std::size_t bytes, mapping& out) const override
  {
    MPI_Win handle = MPI_WIN_NULL;
    void* base = nullptr;
    const auto asked = static_cast<MPI_Aint>(leads ? padded(bytes) : 0);
    if (const int code = MPI_Win_allocate_shared(asked, 1, MPI_INFO_NULL, node, &base, &handle); code != MPI_SUCCESS) {
      return refused(node, describe_mpi("MPI_Win_allocate_shared", code));
    }
    failure trouble;
    MPI_Aint size = 0;
    int unit = 0;
    if (const int code = MPI_Win_shared_query(handle, 0, &size, &unit, &base); code != MPI_SUCCESS) {
      trouble = {failure_kind::mpi, describe_mpi("MPI_Win_shared_query", code)};
    } else {
      // mappings differ between ranks in whole pages only: the first page boundary is the same byte for all
      const std::size_t page = linux_api::page_size();
      const auto start = reinterpret_cast<std::uintptr_t>(base);
      out.bytes = pages_for(bytes);
      out.address = static_cast<std::byte*>(base) + (page - start % page) % page;
    }
    if (is_held_) {
      out.window = offered.inode;
      const std::lock_guard lock(held().mutex);
      held().by_number.emplace(out.window, held_windows::entry{handle, out});
      return trouble;
    }
    // the alias outlives the window; so from here on memory is let go locally, in any order (see README)
    if (!trouble) {
      out.address = linux_api::alias(out.address, out.bytes);
      if (out.address == nullptr) {
        trouble = {failure_kind::other,
                   "this MPI's windows cannot be mapped a second time (XPMEM, or not Linux's mremap): set "
                   "NODESHARE_MEMORY=memfd, or =held-window"};
      }
    }
    if (const int code = MPI_Win_free(&handle); code != MPI_SUCCESS && !trouble) {
      trouble = {failure_kind::mpi, describe_mpi("MPI_Win_free", code)};
    }
    return trouble;
  }

  failure look(std::size_t bytes, const std::string& directory) const override
  {
    if (directory.empty() && is_held_) {
      return {};  // memory that is no file
    }
    if (directory.empty()) {
      return {failure_kind::other, "this MPI keeps its shared windows in no memory file system: use "
                                   "NODESHARE_MEMORY=memfd"};
    }
    if (const auto left = linux_api::address_space_left(); left && *left < 2 * static_cast<std::uint64_t>(padded(bytes))) {
      return {failure_kind::out_of_shared_memory,
              "its limit of address space leaves " + bytes_text(*left) + " and a window needs twice its size: raise "
              "`ulimit -v`"};
    }
    if (const auto limit = linux_api::file_size_limit(); limit && *limit < padded(bytes)) {
      return {failure_kind::out_of_shared_memory,
              "its limit of file size is " + bytes_text(*limit) + ": raise `ulimit -f`"};
    }
    const auto space = linux_api::space_of(directory);
    if (!space) {
      return {failure_kind::out_of_shared_memory, directory + ", where this MPI keeps its windows, can't be read"};
    }
    if (!space->in_memory) {
      return {failure_kind::other, directory + ", where this MPI keeps its windows, is on a disk: mount a tmpfs there or "
                                               "use NODESHARE_MEMORY=memfd"};
    }
    if (space->unlimited && !unlimited_holds_windows) {
      return {failure_kind::out_of_shared_memory,
              directory + " has no limit of size, which this MPI takes for no space: mount it with one (mount -o "
              "remount,size=…), or leave NODESHARE_MEMORY at auto, or memfd, which need none there"};
    }
    if (!space->unlimited && space->free < wanted_free(bytes)) {
      return {failure_kind::out_of_shared_memory,
              bytes_text(space->free) + " are free in " + directory + ": make it larger (mount -o remount,size=…, in a "
              "container --shm-size), use more nodes, or leave NODESHARE_MEMORY at auto, or memfd, which need none there"};
    }
    return {};
  }

 private:
  bool is_held_;
};

const window the_window(false);
const window the_held_window(true);

}  // namespace

const provider& window_provider = the_window;
const provider& held_window_provider = the_held_window;

bool is_held(const mapping& memory) noexcept
{
  if (memory.window == 0) {
    return false;
  }
  const std::lock_guard lock(held().mutex);
  return held().by_number.contains(memory.window);
}

void free_window(mapping& memory) noexcept
{
  MPI_Win handle = MPI_WIN_NULL;
  {
    const std::lock_guard lock(held().mutex);
    handle = held().by_number.extract(memory.window).mapped().handle;
  }
  MPI_Win_free(&handle);
  memory = {};
}

void free_held_windows() noexcept
{
  std::map<std::uint64_t, held_windows::entry> left;
  {
    const std::lock_guard lock(held().mutex);
    left.swap(held().by_number);  // what lets go of views from now on unmaps them
  }
  for (auto& [number, one] : left) {
    std::byte* const alias = linux_api::alias(one.memory.address, one.memory.bytes);
    MPI_Win_free(&one.handle);
    linux_api::replace(one.memory.address, one.memory.bytes, alias);
  }
}

}  // namespace nodeshare
