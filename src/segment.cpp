// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/segment.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "provider.hpp"

namespace nodeshare {
namespace {

/// This process' segments by address; never destroyed, as views may outlive static objects.
struct address_book {
  struct entry {
    std::weak_ptr<segment> held;
    std::atomic<std::uint64_t>* word;
  };
  std::mutex mutex;
  std::map<const std::byte*, entry> by_address;
};
address_book& segments()
{
  static auto* one = [] {
    // A child sees what its parent saw when it forked, uncounted; and it must not find the mutex locked.
    ::pthread_atfork(
        [] {
          segments().mutex.lock();
          for (const auto& [address, one] : segments().by_address) {
            if (one.word != nullptr) {
              one.word->fetch_or(segment_word::retired, std::memory_order_relaxed);
            }
          }
        },
        [] { segments().mutex.unlock(); }, [] { segments().mutex.unlock(); });
    return new address_book;
  }();
  return *one;
}

void require(int code, const char* what)
{
  if (code != 0) {
    throw error(std::string(what) + " failed: " + std::strerror(errno));
  }
}

}  // namespace

std::size_t pages_for(std::size_t bytes) noexcept
{
  return linux_api::round_up(bytes == 0 ? 1 : bytes, linux_api::page_size());
}

const provider& provider_of(memory_kind kind)
{
  switch (kind) {
    case memory_kind::window: return window_provider;
    case memory_kind::held_window: return held_window_provider;
    case memory_kind::memfd: break;
  }
  return memfd_provider;
}

const char* name_of(memory_kind kind) noexcept
{
  switch (kind) {
    case memory_kind::window: return "window";
    case memory_kind::held_window: return "held-window";
    case memory_kind::memfd: break;
  }
  return "memfd";
}

void unmap(mapping& memory) noexcept
{
  if (memory.address != nullptr && !is_held(memory)) {
    linux_api::unmap(memory.address, memory.bytes);
  }
  if (memory.file >= 0) {
    ::close(memory.file);
  }
  memory = {};
}

segment::segment(segment_parts&& parts) : parts_(std::make_unique<segment_parts>(std::move(parts)))
{
  linux_api::watch_forks();
}

segment::~segment()
{
  {
    const std::lock_guard lock(segments().mutex);
    segments().by_address.erase(data());
  }
  // a forked child is no holder, and its copy of the mapping ends with it
  if (linux_api::forked()) {
    return;
  }
  if (parts_->read_only) {
    ::mprotect(data(), parts_->mapped.bytes, PROT_READ | PROT_WRITE);
  }
  if (parts_->locked) {
    ::munlock(data(), parts_->mapped.bytes);
  }
  if (parts_->owner != nullptr) {
    parts_->owner->let_go(*parts_);
  } else {
    unmap(parts_->mapped);
  }
}

std::byte* segment::data() const noexcept { return parts_->mapped.address; }
std::size_t segment::size_bytes() const noexcept { return parts_->bytes; }
memory_kind segment::kind() const noexcept { return parts_->kind; }
std::uint64_t segment::id() const noexcept { return parts_->id; }
const std::string& segment::description() const noexcept { return parts_->description; }
const std::shared_ptr<node>& segment::home() const noexcept { return parts_->home; }
int segment::file() const noexcept { return parts_->mapped.file; }

std::uint32_t segment::holders() const noexcept
{
  return parts_->word == nullptr ? 0 : segment_word::holders(parts_->word->load(std::memory_order_relaxed));
}

void segment::keep_from_recycling() const noexcept
{
  if (parts_->word != nullptr) {
    parts_->word->fetch_or(segment_word::retired, std::memory_order_relaxed);
  }
}

void segment::protect(bool read_only)
{
  require(::mprotect(data(), parts_->mapped.bytes, read_only ? PROT_READ : PROT_READ | PROT_WRITE), "mprotect");
  parts_->read_only = read_only;
}

bool segment::is_protected() const noexcept { return parts_->read_only; }

void segment::lock_pages()
{
  require(::mlock(data(), parts_->mapped.bytes), "mlock (see `ulimit -l`)");
  parts_->locked = true;
}

void segment::unlock_pages()
{
  require(::munlock(data(), parts_->mapped.bytes), "munlock");
  parts_->locked = false;
}

void segment::synchronize_file() { require(::msync(data(), parts_->mapped.bytes, MS_SYNC), "msync"); }

std::shared_ptr<segment> find_segment(const void* address)
{
  std::shared_ptr<segment> found;  // before the lock: should it be the last to hold on, it dies after the lock
  const std::lock_guard lock(segments().mutex);
  auto after = segments().by_address.upper_bound(static_cast<const std::byte*>(address));
  if (after == segments().by_address.begin()) {
    return nullptr;
  }
  found = std::prev(after)->second.held.lock();
  const bool inside = found && static_cast<const std::byte*>(address) < found->data() + pages_for(found->size_bytes());
  return inside ? found : nullptr;
}

std::vector<std::shared_ptr<segment>> living_segments()
{
  std::vector<std::shared_ptr<segment>> out;  // before the lock, as above
  const std::lock_guard lock(segments().mutex);
  for (const auto& [address, one] : segments().by_address) {
    if (auto alive = one.held.lock()) {
      out.push_back(std::move(alive));
    }
  }
  return out;
}

std::shared_ptr<segment> make_segment(segment_parts&& parts)
{
  std::atomic<std::uint64_t>* const word = parts.word;
  auto made = std::make_shared<segment>(std::move(parts));
  const std::lock_guard lock(segments().mutex);
  segments().by_address[made->data()] = {made, word};
  return made;
}

}  // namespace nodeshare
