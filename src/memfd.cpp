// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Memory from memfd_create(2): no name, no file system's limit, gone with the last process that maps it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "provider.hpp"

namespace nodeshare {
namespace {

std::string reason() { return std::strerror(errno); }

bool same_file(int file, const descriptor& wanted)
{
  struct stat found {};
  return ::fstat(file, &found) == 0 && found.st_dev == wanted.device && found.st_ino == wanted.inode &&
         static_cast<std::size_t>(found.st_size) >= wanted.bytes;
}

/// Opens the described memory through the process that holds it; -1 with errno if that is not to be had.
int open_described(const descriptor& from)
{
  const std::string path = "/proc/" + std::to_string(from.pid) + "/fd/" + std::to_string(from.file);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file >= 0 && !same_file(file, from)) {
    ::close(file);
    errno = ESTALE;
    return -1;
  }
  return file;
}

failure map_open_file(int file, std::size_t bytes, mapping& out)
{
  out.bytes = pages_for(bytes);
  out.address = linux_api::map_file(file, out.bytes);
  if (out.address == nullptr) {
    const char* meaning = errno == ENOMEM ? ": its address space, or vm.max_map_count, has no room for it" : "";
    const std::string why = reason() + meaning;
    ::close(file);
    return {failure_kind::out_of_shared_memory, "mapping " + bytes_text(bytes) + " failed: " + why};
  }
  out.file = file;
  return {};
}

class memfd final : public provider {
 public:
  failure offer(std::size_t bytes, descriptor& out) const override
  {
    const int file = linux_api::calls.memfd_create("nodeshare");
    if (file < 0) {
      return {errno == EMFILE || errno == ENFILE ? failure_kind::out_of_shared_memory : failure_kind::other,
              "memfd_create failed: " + reason()};
    }
    struct stat made {};
    if (::ftruncate(file, static_cast<off_t>(pages_for(bytes))) != 0 || ::fstat(file, &made) != 0) {
      const std::string why = reason();
      ::close(file);
      return {failure_kind::out_of_shared_memory, "a memfd of " + bytes_text(bytes) + " failed: " + why};
    }
    // without its start time: it waits for those who open this, so it is the process that `pid` names
    out = {static_cast<std::int32_t>(::getpid()), file, 0, made.st_dev, made.st_ino, bytes};
    return {};
  }

  failure map(MPI_Comm, bool leads, const descriptor& offered, std::size_t bytes, mapping& out) const override
  {
    const int file = leads ? offered.file : open_described(offered);
    if (file < 0) {
      return {failure_kind::other, "the memory of node rank 0 (process " + std::to_string(offered.pid) +
                                       ") can't be opened through /proc: " + reason() +
                                       "; where ranks run in containers of their own set NODESHARE_MEMORY=window"};
    }
    return map_open_file(file, bytes, out);
  }

  failure look(std::size_t bytes, const std::string&) const override
  {
    if (const auto left = linux_api::address_space_left(); left && *left < pages_for(bytes)) {
      return {failure_kind::out_of_shared_memory,
              "its limit of address space leaves " + bytes_text(*left) + ": raise `ulimit -v`"};
    }
    if (const auto limit = linux_api::file_size_limit(); limit && *limit < pages_for(bytes)) {
      return {failure_kind::out_of_shared_memory,
              "its limit of file size is " + bytes_text(*limit) + ": raise `ulimit -f`"};
    }
    return {};
  }
};

const memfd the_memfd;

}  // namespace

const provider& memfd_provider = the_memfd;

descriptor describe(const segment& memory)
{
  const int file = memory.file();
  struct stat found {};
  if (file < 0 || ::fstat(file, &found) != 0) {
    throw error(memory.kind() != memory_kind::memfd
                    ? "this array lives in an MPI window, which only the ranks that made it can see: set "
                      "NODESHARE_MEMORY=memfd to hand arrays to other processes"
                    : "this array has no file descriptor left (`ulimit -n` is too low for so many): close some arrays "
                      "first, or raise the limit");
  }
  memory.keep_from_recycling();  // who attaches it is not counted
  return {static_cast<std::int32_t>(::getpid()), file,         linux_api::start_time(::getpid()), found.st_dev,
          found.st_ino,                          memory.size_bytes()};
}

std::shared_ptr<segment> attach(const descriptor& from)
{
  int file = -1;
  errno = ESRCH;
  if (linux_api::start_time(from.pid) == from.start_time) {
    file = open_described(from);
  }
  if (file < 0) {
    throw error("the array's memory can't be attached through process " + std::to_string(from.pid) +
                " that pickled it: " + (errno == ESRCH ? "that process has ended" : reason()) +
                "; keep the array alive there until it is attached here");
  }
  segment_parts parts;
  if (const failure why = map_open_file(file, from.bytes, parts.mapped)) {
    raise(why.kind, why.text);
  }
  linux_api::advise(parts.mapped.address, parts.mapped.bytes);
  parts.bytes = from.bytes;
  parts.description = "attached from process " + std::to_string(from.pid);
  return make_segment(std::move(parts));
}

}  // namespace nodeshare
