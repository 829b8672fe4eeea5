// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Every system call of the library. Those that a test may want to fail go through `calls`.
#pragma once

#include <sched.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "failure.hpp"

namespace nodeshare::linux_api {

/// The calls whose failure a caller must survive; a test replaces one by a function that fails.
struct system_calls {
  void* (*mremap)(void* old, std::size_t bytes);
  void* (*mmap)(std::size_t bytes, int file);
  int (*munmap)(void* address, std::size_t bytes);
  int (*madvise)(void* address, std::size_t bytes, int advice);
  int (*memfd_create)(const char* name);
  int (*userfaultfd)(int flags);
  int (*statvfs)(const char* path, struct statvfs* out);
  ssize_t (*process_vm_readv)(pid_t pid, const iovec* to, unsigned long tos, const iovec* from, unsigned long froms,
                              unsigned long flags);
  ssize_t (*pread)(int file, void* to, std::size_t bytes, off_t offset);
  ssize_t (*pwrite)(int file, const void* from, std::size_t bytes, off_t offset);
  int (*fsync)(int file);
};
extern system_calls calls;

std::size_t page_size() noexcept;
std::size_t round_up(std::size_t bytes, std::size_t step) noexcept;

/// A second mapping of the shared pages at `page`, which outlives the first one.
/// Source: mremap(2), "old_size is zero and old_address refers to a shareable mapping". Null where it is refused.
std::byte* alias(void* page, std::size_t bytes) noexcept;

/// Puts a mapping in another's place, whose address it has from then on; without one, whoever looks there is stopped.
void replace(std::byte* address, std::size_t bytes, std::byte* by) noexcept;

/// Maps `bytes` of a file, shared and writable. Null on failure, with errno.
std::byte* map_file(int file, std::size_t bytes) noexcept;
void unmap(std::byte* address, std::size_t bytes) noexcept;

/// Keeps the pages out of core dumps (where each rank would write them again) and asks for 2 MiB pages from some MiB up.
void advise(std::byte* address, std::size_t bytes) noexcept;

/// Gives the pages of a shared mapping back to the system: they read as zero again. False where the file system can't.
bool punch(std::byte* address, std::size_t bytes) noexcept;

/// Makes every page of [address, address + bytes) present, so that no later touch can be a SIGBUS.
failure populate(std::byte* address, std::size_t bytes) noexcept;

/// Reads from a place in a file (pread(2)); fewer bytes than asked for only where it ends. Nothing on failure, with errno.
std::optional<std::size_t> read_at(int file, std::byte* to, std::size_t bytes, std::size_t offset) noexcept;

/// Writes to a place in a file (pwrite(2)). False on failure, with errno.
bool write_at(int file, const std::byte* from, std::size_t bytes, std::size_t offset) noexcept;

/// Copies from another process' memory (process_vm_readv(2)). False where the system forbids it, as many containers do.
bool read_process(pid_t pid, const std::byte* from, std::byte* to, std::size_t bytes) noexcept;

/// Bytes free in the file system of `path`; nothing where it has no limit (tmpfs with size=0 reports 0 blocks).
struct space {
  std::uint64_t free = 0;
  bool unlimited = false;
  bool in_memory = true;  ///< tmpfs, ramfs or hugetlbfs
};
std::optional<space> space_of(const std::string& path) noexcept;

/// MemAvailable of /proc/meminfo in bytes; nothing where it can't be read.
std::optional<std::uint64_t> memory_available() noexcept;

/// Bytes of address space that RLIMIT_AS still leaves to this process; nothing where there is no limit.
std::optional<std::uint64_t> address_space_left() noexcept;

/// RLIMIT_FSIZE; nothing where there is no limit.
std::optional<std::uint64_t> file_size_limit() noexcept;

/// Raises the soft RLIMIT_NOFILE to the hard one, as each rank may hold a descriptor an array; returns what it is then.
std::uint64_t raise_open_files() noexcept;

/// The file behind the mapping at `address` as /proc/self/maps names it ("/dev/shm/… (deleted)"), empty if none.
std::string file_of(const void* address);

/// Start time of a process in clock ticks since boot (proc(5), /proc/pid/stat, field 22); 0 where there is none
/// or it is a zombie. With the process id it names a process for good, as ids are used again.
std::uint64_t start_time(pid_t pid) noexcept;

/// Whether the process that began at `start` has ended; false where /proc does not tell, as without a file left.
bool process_has_ended(pid_t pid, std::uint64_t start) noexcept;

/// Names this thread among all of the machine: its id in the lowest `thread_id_bits` (proc(5), pid_max), above them bits of
/// its start time, as ids are used again, in the highest one of a forked child 1. The bits between are 0, for others' use.
inline constexpr unsigned thread_id_bits = 22;
inline constexpr unsigned thread_start_at = 38;
inline constexpr unsigned thread_start_bits = 24;
inline constexpr std::uint64_t thread_of_forked_child = std::uint64_t{1} << (thread_start_at + thread_start_bits);
std::uint64_t this_thread() noexcept;
/// Likewise this process, by its main thread.
std::uint64_t this_process() noexcept;
/// Whether the thread with that name has ended; false where /proc does not tell.
bool thread_has_ended(std::uint64_t name) noexcept;

/// A number that is the same exactly for processes that share one kernel, one /dev/shm and one pid namespace.
std::uint64_t sharing_domain() noexcept;

/// Names this process' user namespace; 0 where /proc does not tell. No process opens a descriptor of one in another.
std::uint64_t user_namespace() noexcept;

/// Host name without its domain.
std::string host_name();

/// The processors this process may run on.
cpu_set_t processors() noexcept;

/// Sleeps until the lower half of `word` differs from that of `seen`, somebody wakes it, or the time is over (futex(2),
/// not private: the word lies in memory that processes share, where std::atomic::wait never wakes).
void futex_wait(std::atomic<std::uint64_t>& word, std::uint64_t seen, std::uint32_t microseconds) noexcept;
void futex_wake(std::atomic<std::uint64_t>& word, int most = 0x7fffffff) noexcept;

/// A full fence on every processor of the machine (membarrier(2)), in place of those that others did without.
void fence_all_processors() noexcept;

/// From now on children that are forked know it. Called wherever the library is first used.
void watch_forks() noexcept;

extern std::atomic<bool> in_forked_child;

/// True in a child that was forked after the library was first used: it may look at memory, but not take part.
inline bool forked() noexcept { return in_forked_child.load(std::memory_order_relaxed); }

/// Whether this process has forked children since then: they keep what it had mapped.
bool has_forked() noexcept;

}  // namespace nodeshare::linux_api
