// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "files.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

/// Collective. Memory of so many bytes, each of which its place tells.
memory patterned(std::size_t bytes)
{
  const memory out = make(world(), bytes);
  if (world().is_leader()) {
    for (std::size_t i = 0; i < bytes; ++i) {
      out->data()[i] = static_cast<std::byte>(i * 7 + i / 256);
    }
  }
  meet(out);
  return out;
}

std::string text_of(const memory& one) { return {reinterpret_cast<const char*>(one->data()), one->size_bytes()}; }

/// Collective. A file into new memory of so many bytes.
memory read_into_memory(const std::string& path, std::size_t bytes, std::size_t offset = 0)
{
  const memory out = make(world(), bytes);
  open_file from{::open(path.c_str(), O_RDONLY | O_CLOEXEC), 0, path};
  struct stat found {};
  BOOST_CHECK_EQUAL(::fstat(from.descriptor, &found), 0);
  from.modified = std::int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec;
  try {
    read_file(call("read", path), out, from, offset);
  } catch (...) {
    ::close(from.descriptor);
    throw;
  }
  ::close(from.descriptor);
  return out;
}

void write_all(const std::string& path, const memory& from, std::string_view header = "")
{
  write_file(call("write", path), from, 0, from->size_bytes(), path, header);
}

/// What some ranks have found out is an error of theirs, and a `peer_error` with the same text of the others.
std::string text_thrown(const std::function<void()>& call)
{
  try {
    call();
  } catch (const error& why) {
    return why.what();
  }
  BOOST_ERROR("nothing was thrown");
  return "";
}

ssize_t no_space(int, const void*, std::size_t, off_t)
{
  errno = ENOSPC;
  return -1;
}
ssize_t broken_disk(int, void*, std::size_t, off_t)
{
  errno = EIO;
  return -1;
}
int broken_fsync(int)
{
  errno = EIO;
  return -1;
}
ssize_t after_truncation(int file, void* to, std::size_t bytes, off_t offset)
{
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  BOOST_CHECK_EQUAL(::truncate(name.c_str(), 200), 0);
  return ::pread(file, to, bytes, offset);
}
ssize_t after_a_write(int file, void* to, std::size_t bytes, off_t offset)
{
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  const timespec later[2] = {{1, 0}, {1, 0}};
  BOOST_CHECK_EQUAL(::utimensat(AT_FDCWD, name.c_str(), later, 0), 0);
  return ::pread(file, to, bytes, offset);
}

/// A signal, once.
bool signal_is_due = false;
bool signalled() { return std::exchange(signal_is_due, false); }

/// Where the system refused something to one rank: its own exception there, its text on the others.
void check_refused(int rank, const std::string& text, const std::function<void()>& call)
{
  contains(world().rank() == rank ? thrown<file_error>(call) : thrown<peer_error>(call), text);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(file)

BOOST_AUTO_TEST_CASE(bytes_come_back_as_they_were_written)
{
  const folder in;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, 9 * megabyte + 3}) {
    const memory a = patterned(bytes);
    write_all(in / "x", a, "header");
    BOOST_CHECK(read(in / "x") == "header" + text_of(a));
    BOOST_CHECK(text_of(read_into_memory(in / "x", bytes, 6)) == text_of(a));
  }
  BOOST_CHECK(in.names() == std::vector<std::string>{"x"});
}

BOOST_AUTO_TEST_CASE(a_part_of_the_memory_is_written_as_node_0_has_it)
{
  const folder in;
  const memory a = patterned(1000);
  if (world().is_leader() && world().node() > 0) {
    std::memset(a->data(), 0, 1000);
  }
  meet(a);
  write_file(call("write", ""), a, 100, 500, in / "x", "");
  BOOST_CHECK(read(in / "x") == text_of(patterned(1000)).substr(100, 500));
}

BOOST_AUTO_TEST_CASE(files_are_written_after_ranks_have_called_different_things,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const folder in;
  const nodeshare::shared_array<int> a(world(), {3});
  const memory b = patterned(4000);
  const int odd = world().ranks_on(*crowded_node()).back();
  BOOST_CHECK_THROW(world().rank() == odd ? a.sync() : a.bcast(0), error);
  write_all(in / "x", b);
  BOOST_CHECK(read(in / "x") == text_of(b));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_replaced_passes_on_its_mode_and_a_link_stays_one)
{
  const folder in;
  write(in / "old", "old");
  if (world().rank() == 0) {
    BOOST_CHECK_EQUAL(::chmod((in / "old").c_str(), 0640), 0);
    BOOST_CHECK_EQUAL(::symlink("old", (in / "link").c_str()), 0);
  }
  write_all(in / "link", patterned(10));
  BOOST_CHECK(read(in / "old") == text_of(patterned(10)));
  BOOST_CHECK(fs::is_symlink(in / "link"));
  BOOST_CHECK(fs::status(in / "old").permissions() == fs::perms{0640});
}

BOOST_AUTO_TEST_CASE(what_can_be_no_file_is_refused)
{
  const folder in;
  const memory a = patterned(10);
  if (world().rank() == 0) {
    BOOST_CHECK_EQUAL(::mkfifo((in / "pipe").c_str(), 0600), 0);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  const auto refused = [&](const std::string& path, const std::string& reason) {
    contains(text_thrown([&] { write_all(path, a); }), reason);
  };
  refused(in / "pipe", "is there and is no file");
  refused(in / ".", "Is a directory");
  refused(in / "none/x", "No such file or directory");
  refused(std::string("a\0b", 3), "no zero bytes");
  BOOST_CHECK(in.names() == std::vector<std::string>{"pipe"});
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(what_one_rank_alone_cannot_read_is_told_to_all, *boost::unit_test::precondition(several_ranks))
{
  const folder in;
  write_all(in / "x", patterned(4000));
  const int odd = world().size() - 1;
  {
    const replaced broken(linux_api::calls.pread, &broken_disk, world().rank() == odd);
    check_refused(odd, "x: Input/output error", [&] { (void)read_into_memory(in / "x", 4000); });
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_file_that_is_too_short_or_written_to_while_it_is_read_is_an_error)
{
  const folder in;
  const memory a = patterned(4000);
  write_all(in / "x", a);
  contains(text_thrown([&] { (void)read_into_memory(in / "x", 4001); }), "became shorter");
  for (const auto meanwhile : {&after_truncation, &after_a_write}) {
    write_all(in / "x", a);
    const replaced meddle(linux_api::calls.pread, meanwhile);
    BOOST_CHECK_THROW((void)read_into_memory(in / "x", 4000), error);
    MPI_Barrier(MPI_COMM_WORLD);
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(writing_that_fails_leaves_the_old_file_and_nothing_else)
{
  const folder in;
  write(in / "x", "old");
  const memory a = patterned(4 * megabyte);
  const int writer = world().ranks_on(0).back();
  {
    const replaced full(linux_api::calls.pwrite, &no_space, world().rank() == writer);
    check_refused(writer, "x: No space left", [&] { write_all(in / "x", a); });
  }
  {
    const replaced broken(linux_api::calls.fsync, &broken_fsync, world().rank() == 0);
    check_refused(0, "x: Input/output error", [&] { write_all(in / "x", a); });
  }
  {
    const bool here = world().rank() == writer;
    signal_is_due = here;
    const replaced hook(hooks.interrupted, &signalled, here);
    const auto call = [&] { write_all(in / "x", a); };
    here ? thrown<interrupted>(call) : thrown<peer_error>(call);
  }
  BOOST_CHECK_EQUAL(read(in / "x"), "old");
  BOOST_CHECK(in.names() == std::vector<std::string>{"x"});
  write_all(in / "x", a);
  BOOST_CHECK_EQUAL(read(in / "x").size(), a->size_bytes());
}

BOOST_AUTO_TEST_SUITE_END()
