// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// The part of linux.hpp about mappings and their pages.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "linux.hpp"

// older headers lack the names
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1  // Linux 5.11
#endif

namespace nodeshare::linux_api {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t populate_step = std::size_t{64} << 20;
constexpr std::size_t worth_registering = std::size_t{1} << 20;  // it costs a look at all of the process' mappings

/// Before Linux 5.14: reading zeros into fresh pages faults them in and answers EFAULT where a touch would be SIGBUS.
bool populate_by_reading_zeros(std::byte* address, std::size_t bytes)
{
  const int zeros = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  if (zeros < 0) {
    return false;
  }
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(zeros, address + done, bytes - done);
    if (got <= 0 && errno != EINTR) {
      break;
    }
    done += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  const int why = errno;
  ::close(zeros);
  errno = why;
  return done == bytes;
}

/// Whether larger pages come here, which one fault brings at once: then a neighbour of this page comes with it.
bool comes_with_neighbours(std::byte* page)
{
  unsigned char present[3] = {};
  return ::mincore(page - page_size(), 3 * page_size(), present) != 0 || ((present[0] | present[2]) & 1) != 0;
}

/// Zero pages from `address` on, by a userfaultfd that watches them; false where one is there already, or can't be had.
bool put_zero_pages(int watch, std::byte* address, std::size_t bytes)
{
  for (std::size_t done = 0; done < bytes;) {
    uffdio_zeropage step{};
    step.range = {reinterpret_cast<std::uintptr_t>(address) + done, bytes - done};
    step.mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE;
    if (::ioctl(watch, UFFDIO_ZEROPAGE, &step) != 0 && errno != EAGAIN) {
      return false;
    }
    done += step.zeropage > 0 ? static_cast<std::size_t>(step.zeropage) : 0;
  }
  return true;
}

/// Takes fresh pages of the usual size in half the time that as many faults take, by userfaultfd(2). False where some may
/// be missing then: the system forbids it, has no page left, or has larger ones; or some were there before.
bool populate_without_faults(std::byte* address, std::size_t bytes)
{
  std::byte* const middle = address + bytes / 2 / page_size() * page_size();
  if (bytes < worth_registering || calls.madvise(middle, page_size(), MADV_POPULATE_WRITE) != 0 ||
      comes_with_neighbours(middle)) {
    return false;
  }
  const int watch = calls.userfaultfd(O_CLOEXEC | UFFD_USER_MODE_ONLY);
  if (watch < 0) {
    return false;
  }
  uffdio_api version{};
  version.api = UFFD_API;
  uffdio_register pages{};
  pages.range = {reinterpret_cast<std::uintptr_t>(address), bytes};
  pages.mode = UFFDIO_REGISTER_MODE_MISSING;
  std::byte* const after = middle + page_size();
  bool done = false;
  if (::ioctl(watch, UFFDIO_API, &version) == 0 && ::ioctl(watch, UFFDIO_REGISTER, &pages) == 0) {
    done = put_zero_pages(watch, address, static_cast<std::size_t>(middle - address)) &&
           put_zero_pages(watch, after, static_cast<std::size_t>(address + bytes - after));
    ::ioctl(watch, UFFDIO_UNREGISTER, &pages.range);  // to close it is not enough: a child forked meanwhile has it, too
  }
  ::close(watch);
  return done;
}

}  // namespace

std::byte* alias(void* page, std::size_t bytes) noexcept
{
  void* second = calls.mremap(page, bytes);
  return second == MAP_FAILED ? nullptr : static_cast<std::byte*>(second);
}

void replace(std::byte* address, std::size_t bytes, std::byte* by) noexcept
{
  if (by == nullptr) {
    (void)::mmap(address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  } else {
    // not ::mremap: UCX puts its own in that place, which forgets the address
    ::syscall(SYS_mremap, by, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address);
  }
}

std::byte* map_file(int file, std::size_t bytes) noexcept
{
  void* address = calls.mmap(bytes, file);
  return address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
}

void unmap(std::byte* address, std::size_t bytes) noexcept { calls.munmap(address, bytes); }

void advise(std::byte* address, std::size_t bytes) noexcept
{
  calls.madvise(address, bytes, MADV_DONTDUMP);
  if (bytes >= 2 * huge_page) {
    calls.madvise(address, bytes, MADV_HUGEPAGE);  // answers 0 even where shared huge pages are switched off
  }
}

bool punch(std::byte* address, std::size_t bytes) noexcept
{
  return bytes == 0 || calls.madvise(address, bytes, MADV_REMOVE) == 0;
}

failure populate(std::byte* address, std::size_t bytes) noexcept
{
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t step = std::min(populate_step, bytes - done);
    if (populate_without_faults(address + done, step) ||
        calls.madvise(address + done, step, MADV_POPULATE_WRITE) == 0 ||
        (errno == EINVAL && populate_by_reading_zeros(address + done, step))) {
      done += step;
    } else if (errno != EINTR && errno != EAGAIN) {
      return {failure_kind::out_of_shared_memory,
              "the system has no page left after " + bytes_text(done) + " of this rank's " + bytes_text(bytes) + " (" +
                  std::strerror(errno) + ")"};
    }
  }
  return {};
}

}  // namespace nodeshare::linux_api
