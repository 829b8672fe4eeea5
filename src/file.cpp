// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "nodeshare/hooks.hpp"
#include "nodeshare/replicate.hpp"
#include "pending_failure.hpp"

namespace nodeshare {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t step_bytes = std::size_t{64} << 20;

/// Calls `move(done, step)` until all is done. A signal ends it between two steps: a disk may be slow.
template <class Move>
void step_by_step(const call& what, std::size_t bytes, Move&& move)
{
  for (std::size_t done = 0; done < bytes; done += step_bytes) {
    if (hooks.interrupted != nullptr && hooks.interrupted()) {
      throw interrupted("interrupted in " + text_of(what));
    }
    move(done, std::min(step_bytes, bytes - done));
  }
}

meeting_place& meetings_of(const segment& memory)
{
  if (!memory.home()) {
    throw error("this array was attached from another process: it has no ranks to work with");
  }
  return memory.home()->meetings();
}

std::int64_t modified(const open_file& file)
{
  struct stat found {};
  if (::fstat(file.descriptor, &found) != 0) {
    throw file_error(file.path, errno);
  }
  return std::int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec;
}

/// By a rank, after all have opened it: others may have a file that took its place since, or the one before.
void require_in_place(const open_file& file)
{
  struct stat mine {};
  struct stat there {};
  if (::fstat(file.descriptor, &mine) != 0) {
    throw file_error(file.path, errno);
  }
  if (::stat(file.path.c_str(), &there) != 0 || there.st_dev != mine.st_dev || there.st_ino != mine.st_ino) {
    throw error(file.path + " was replaced while ranks opened it: load it again");
  }
}

/// The file that is to become `path`, as one rank has it open; the rank that made it removes it unless it got there.
class draft {
 public:
  /// @param number  the same on all ranks that write it, and never used before
  draft(const fs::path& path, std::uint64_t number) : path_(path)
  {
    constexpr std::size_t most = 255 - 32;  // NAME_MAX, and what is put around the name
    char end[32];
    std::snprintf(end, sizeof end, ".nodeshare-%016llx", static_cast<unsigned long long>(number));
    name_ = path_.parent_path() / std::string(".").append(path_.filename().string(), 0, most).append(end);
  }
  ~draft()
  {
    close();
    if (made_) {
      ::unlink(name_.c_str());
    }
  }
  draft(const draft&) = delete;
  draft& operator=(const draft&) = delete;

  void make()
  {
    open(O_CREAT | O_EXCL);
    made_ = true;
    struct stat before {};
    if (::stat(path_.c_str(), &before) != 0) {
      return;  // a new one: its mode is as the umask says
    }
    [[maybe_unused]] const int owner = ::fchown(file_, before.st_uid, before.st_gid);  // most often only root may
    check(::fchmod(file_, before.st_mode & 07777) == 0);
  }

  void open(int flags = 0)
  {
    file_ = ::open(name_.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666);
    check(file_ >= 0);
  }

  void write(const std::byte* from, std::size_t bytes, std::size_t offset)
  {
    if (const auto limit = linux_api::file_size_limit(); limit && *limit < offset + bytes) {
      errno = EFBIG;  // writing would be SIGXFSZ
      check(false);
    }
    check(linux_api::write_at(file_, from, bytes, offset));
  }

  void replace()
  {
    check(linux_api::calls.fsync(file_) == 0);
    check(::rename(name_.c_str(), path_.c_str()) == 0);
    made_ = false;
    // the new file is there; not every file system has a way to bring its name to the disk too
    const fs::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
    if (const int opened = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); opened >= 0) {
      linux_api::calls.fsync(opened);
      ::close(opened);
    }
  }

  void close()
  {
    if (file_ >= 0) {
      ::close(std::exchange(file_, -1));
    }
  }

 private:
  void check(bool done) const
  {
    if (!done) {
      throw file_error(path_.string(), errno);
    }
  }

  fs::path path_;
  fs::path name_;
  int file_ = -1;
  bool made_ = false;  // by this rank, and not yet in its place
};

/// Where a file of this name would be written: a link leads to it.
fs::path target_of(const std::string& path)
{
  if (path.find('\0') != std::string::npos) {
    throw invalid_argument("a path has no zero bytes: " + path.substr(0, path.find('\0')) + "\\0…");
  }
  std::error_code trouble;
  const fs::path target = fs::is_symlink(path, trouble) ? fs::weakly_canonical(path, trouble) : fs::path(path);
  const fs::file_status there = fs::status(target, trouble);
  if (fs::is_directory(there)) {
    throw file_error(path, EISDIR);
  }
  if (fs::exists(there) && !fs::is_regular_file(there)) {
    throw invalid_argument(path + " is there and is no file (a device, a pipe), so it can't be replaced by one");
  }
  return target;
}

}  // namespace

void read_file(const call& what, const std::shared_ptr<segment>& memory, const open_file& from, std::size_t offset)
{
  meeting_place& meetings = meetings_of(*memory);
  const topology_state& where = memory->home()->where();
  const auto ranks = static_cast<std::size_t>(where.size);
  std::vector<byte_run> runs;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto [first, last] = block_of(memory->size_bytes(), rank, ranks);
    runs.push_back({first, last - first, where.node_of[rank]});
  }
  const byte_run& mine = runs[static_cast<std::size_t>(where.rank)];
  pending_failure trouble;
  trouble.run([&] {
    require_in_place(from);
    step_by_step(what, mine.bytes, [&](std::size_t done, std::size_t step) {
      const std::size_t begin = mine.offset + done;
      const auto got = linux_api::read_at(from.descriptor, memory->data() + begin, step, offset + begin);
      if (!got) {
        throw file_error(from.path, errno);
      }
      if (*got < step) {
        throw error(from.path + " became shorter while it was read");
      }
    });
    if (modified(from) != from.modified) {
      throw error(from.path + " was written to while it was read");
    }
  });
  trouble.agree(meetings, what, true);
  replicate(what, memory, runs);
}

void write_file(const call& what, const std::shared_ptr<segment>& memory, std::size_t offset, std::size_t bytes,
                const std::string& path, std::string_view header)
{
  meeting_place& meetings = meetings_of(*memory);
  const topology_state& where = memory->home()->where();
  const bool writes = where.node_index == 0;
  const bool leads = writes && where.node_rank == 0;
  meetings.agree(what, {}, scope::communicator, true);  // all have written to the array what they will

  std::unique_ptr<draft> mine;
  pending_failure trouble;
  trouble.run([&] {
    if (writes) {
      mine = std::make_unique<draft>(target_of(path), memory->home()->token() ^ meetings.count());
    }
    if (leads) {
      mine->make();
      mine->write(reinterpret_cast<const std::byte*>(header.data()), header.size(), 0);
    }
  });
  trouble.agree(meetings, what, true);
  trouble.run([&] {
    if (!writes) {
      return;
    }
    if (!leads) {
      mine->open();
    }
    const auto [first, last] =
        block_of(bytes, static_cast<std::size_t>(where.node_rank), static_cast<std::size_t>(where.node_size()));
    step_by_step(what, last - first, [&, begin = first](std::size_t done, std::size_t step) {
      mine->write(memory->data() + offset + begin + done, step, header.size() + begin + done);
    });
    if (!leads) {
      mine->close();
    }
  });
  trouble.agree(meetings, what, true);
  trouble.run([&] {
    if (leads) {
      mine->replace();
    }
  });
  trouble.agree(meetings, what, false);
}

}  // namespace nodeshare
