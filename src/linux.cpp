// SPDX-License-Identifier: BSD-3-Clause
#include "linux.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

namespace nodeshare::linux_api {
namespace {

void* do_mremap(void* old, std::size_t bytes) { return ::mremap(old, 0, bytes, MREMAP_MAYMOVE); }
void* do_mmap(std::size_t bytes, int file)
{
  return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}
int do_memfd_create(const char* name) { return ::memfd_create(name, MFD_CLOEXEC); }
int do_userfaultfd(int flags) { return static_cast<int>(::syscall(SYS_userfaultfd, flags)); }

thread_local constinit std::uint64_t name_of_this_thread = 0;
std::atomic<std::uint64_t> name_of_this_process{0};
std::atomic<bool> forks_children{false};

void note_child() { forks_children.store(true, std::memory_order_relaxed); }

void become_child()
{
  in_forked_child.store(true, std::memory_order_relaxed);
  name_of_this_thread = 0;
  name_of_this_process.store(0, std::memory_order_relaxed);
}

std::uint64_t start_bits(pid_t thread) noexcept
{
  constexpr std::uint64_t most = (std::uint64_t{1} << thread_start_bits) - 1;
  const std::uint64_t start = start_time(thread);
  return start == 0 ? 0 : 1 + start % most;
}

std::uint64_t name_of(pid_t thread, bool of_forked_child) noexcept
{
  return static_cast<std::uint64_t>(thread) | start_bits(thread) << thread_start_at |
         (of_forked_child ? thread_of_forked_child : 0);
}

/// Whether a process or thread that began at `start` is not there any more: `look` gives when the one there now began, 0
/// if there is none, or if /proc does not tell.
template <class Look>
bool differs_for_sure(std::uint64_t start, const Look& look) noexcept
{
  errno = 0;
  const std::uint64_t now = look();
  const bool unknown = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EACCES || errno == EPERM;
  return now != start && (now != 0 || !unknown);
}

/// A futex is 32 bits.
std::uint32_t* lower_half(std::atomic<std::uint64_t>& word)
{
  return reinterpret_cast<std::uint32_t*>(&word) + (std::endian::native == std::endian::big ? 1 : 0);
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value)
{
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

}  // namespace

std::atomic<bool> in_forked_child{false};

system_calls calls{do_mremap, do_mmap,            ::munmap, ::madvise, do_memfd_create, do_userfaultfd,
                   ::statvfs, ::process_vm_readv, ::pread,  ::pwrite,  ::fsync};

std::size_t page_size() noexcept
{
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t round_up(std::size_t bytes, std::size_t step) noexcept { return (bytes + step - 1) / step * step; }

std::optional<std::size_t> read_at(int file, std::byte* to, std::size_t bytes, std::size_t offset) noexcept
{
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t now = calls.pread(file, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (now == 0) {
      break;
    }
    if (now < 0 && errno != EINTR) {
      return std::nullopt;
    }
    done += now > 0 ? static_cast<std::size_t>(now) : 0;
  }
  return done;
}

bool write_at(int file, const std::byte* from, std::size_t bytes, std::size_t offset) noexcept
{
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t now = calls.pwrite(file, from + done, bytes - done, static_cast<off_t>(offset + done));
    if (now > 0) {
      done += static_cast<std::size_t>(now);
    } else if (now == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool read_process(pid_t pid, const std::byte* from, std::byte* to, std::size_t bytes) noexcept
{
  for (std::size_t done = 0; done < bytes;) {
    const iovec here{to + done, bytes - done};
    const iovec there{const_cast<std::byte*>(from) + done, bytes - done};
    const ssize_t now = calls.process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (now <= 0) {
      return false;
    }
    done += static_cast<std::size_t>(now);
  }
  return true;
}

std::optional<space> space_of(const std::string& path) noexcept
{
  struct statvfs found {};
  if (calls.statvfs(path.c_str(), &found) != 0) {
    return std::nullopt;
  }
  struct statfs kind {};
  constexpr long hugetlbfs = 0x958458f6;
  const bool known = ::statfs(path.c_str(), &kind) == 0;
  const bool in_memory = known && (kind.f_type == TMPFS_MAGIC || kind.f_type == hugetlbfs || kind.f_type == RAMFS_MAGIC);
  return space{static_cast<std::uint64_t>(found.f_bavail) * found.f_frsize, found.f_blocks == 0, in_memory};
}

std::optional<std::uint64_t> memory_available() noexcept
{
  std::FILE* file = std::fopen("/proc/meminfo", "re");
  if (file == nullptr) {
    return std::nullopt;
  }
  char line[128];
  unsigned long long kilobytes = 0;
  bool found = false;
  while (!found && std::fgets(line, sizeof line, file) != nullptr) {
    found = std::sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1;
  }
  std::fclose(file);
  return found ? std::optional<std::uint64_t>(kilobytes * 1024) : std::nullopt;
}

std::optional<std::uint64_t> address_space_left() noexcept
{
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const std::uint64_t used = pages * page_size();
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

std::optional<std::uint64_t> file_size_limit() noexcept
{
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return limit.rlim_cur;
}

std::uint64_t raise_open_files() noexcept
{
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return 1024;
  }
  if (limit.rlim_cur < limit.rlim_max) {
    const rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      limit.rlim_cur = before;
    }
  }
  return limit.rlim_cur;
}

std::string file_of(const void* address)
{
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0;
    unsigned long last = 0;
    int name = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %*s %*s %*s %*s %n", &first, &last, &name) >= 2 && first <= wanted &&
        wanted < last) {
      return name > 0 ? line.substr(static_cast<std::size_t>(name)) : "";
    }
  }
  return "";
}

std::uint64_t start_time(pid_t pid) noexcept
{
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) {
    return 0;
  }
  char text[1024];
  const std::size_t length = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[length] = '\0';
  const char* after_name = std::strrchr(text, ')');  // the name may hold blanks and parentheses
  char state = 0;
  unsigned long long start = 0;
  if (after_name == nullptr ||
      std::sscanf(after_name + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &state, &start) != 2 ||
      state == 'Z' || state == 'X') {
    return 0;
  }
  return start;
}

std::uint64_t this_thread() noexcept
{
  if (name_of_this_thread == 0) {
    watch_forks();  // children forget the name
    name_of_this_thread = name_of(static_cast<pid_t>(::syscall(SYS_gettid)), forked());
  }
  return name_of_this_thread;
}

std::uint64_t this_process() noexcept
{
  std::uint64_t name = name_of_this_process.load(std::memory_order_relaxed);
  if (name == 0) {
    watch_forks();
    name = name_of(::getpid(), forked());
    name_of_this_process.store(name, std::memory_order_relaxed);
  }
  return name;
}

bool thread_has_ended(std::uint64_t name) noexcept
{
  const auto id = static_cast<pid_t>(name % (std::uint64_t{1} << thread_id_bits));
  const std::uint64_t start = (name >> thread_start_at) % (std::uint64_t{1} << thread_start_bits);
  return start != 0 && differs_for_sure(start, [id] { return start_bits(id); });
}

bool process_has_ended(pid_t pid, std::uint64_t start) noexcept
{
  return differs_for_sure(start, [pid] { return start_time(pid); });
}

std::uint64_t sharing_domain() noexcept
{
  std::uint64_t hash = 0;
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  for (const char c : boot) {
    hash = mix(hash, static_cast<unsigned char>(c));
  }
  for (const char* place : {"/dev/shm", "/proc/self/ns/pid"}) {
    struct stat found {};
    if (::stat(place, &found) == 0) {
      hash = mix(mix(hash, found.st_dev), found.st_ino);
    }
  }
  return hash;
}

std::uint64_t user_namespace() noexcept
{
  struct stat found {};
  return ::stat("/proc/self/ns/user", &found) == 0 ? found.st_ino : 0;
}

std::string host_name()
{
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  const std::string whole = name;
  return whole.substr(0, whole.find('.'));
}

cpu_set_t processors() noexcept
{
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    CPU_SET(0, &set);
  }
  return set;
}

void futex_wait(std::atomic<std::uint64_t>& word, std::uint64_t seen, std::uint32_t microseconds) noexcept
{
  const timespec limit{microseconds / 1000000, static_cast<long>(microseconds % 1000000) * 1000};
  ::syscall(SYS_futex, lower_half(word), FUTEX_WAIT, static_cast<std::uint32_t>(seen), &limit, nullptr, 0);
}

void futex_wake(std::atomic<std::uint64_t>& word, int most) noexcept
{
  ::syscall(SYS_futex, lower_half(word), FUTEX_WAKE, most, nullptr, nullptr, 0);
}

void fence_all_processors() noexcept
{
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) {
    // refused (a sandbox, nohz_full): a store leaves its processor within microseconds by itself
    ::usleep(1000);
  }
}

void watch_forks() noexcept
{
  static const int registered = ::pthread_atfork(note_child, nullptr, become_child);
  (void)registered;
}

bool has_forked() noexcept { return forks_children.load(std::memory_order_relaxed); }

}  // namespace nodeshare::linux_api
