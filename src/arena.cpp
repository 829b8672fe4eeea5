// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/arena.hpp"

#include <algorithm>
#include <string>

#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"

namespace nodeshare {
namespace {

constexpr std::uint64_t mix(std::uint64_t digest, std::uint64_t next) { return (digest ^ next) * 0x100000001b3u; }

}  // namespace

arena::arena(const topology& where, std::size_t bytes, bool reserve, std::source_location place)
    : arena(call("arena", std::to_string(bytes) + " bytes" + (reserve ? "" : ", reserve=false"), place),
            node::of(where), bytes, reserve)
{}

arena::arena(const call& what, const std::shared_ptr<node>& home, std::size_t bytes, bool reserve)
    : memory_(home->create(what, {.bytes = bytes, .reserve = reserve})), digest_(memory_->id())
{
  home->meetings().took(memory_->description(), 0, "", digest_);
}

std::size_t arena::free_bytes() const noexcept
{
  return size_bytes() - std::min(size_bytes(), linux_api::round_up(used_, alignment));
}

std::byte* arena::take(std::size_t bytes, std::string_view what)
{
  bytes = std::max<std::size_t>(bytes, 1);
  if (bytes > free_bytes()) {
    throw out_of_shared_memory(std::string(what) + " needs " + bytes_text(bytes) + ", but " + bytes_text(free_bytes()) +
                               " of the " + bytes_text(size_bytes()) + " of " + memory_->description() +
                               " are left, after " + count_of(count_, "array") + ": make the arena larger");
  }
  const std::size_t begin = linux_api::round_up(used_, alignment);
  used_ = begin + bytes;
  ++count_;
  digest_ = mix(digest_, call(what, bytes, "").digest);
  memory_->home()->meetings().took(memory_->description(), count_, what, digest_);
  return memory_->data() + begin;
}

void arena::sync(std::source_location place) const
{
  memory_->home()->meet(call("arena.sync", digest_, memory_->description(), place));
}

}  // namespace nodeshare
