// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/segment.hpp"

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
  std::mutex mutex;
  std::map<const std::byte*, std::weak_ptr<segment>> by_address;
};
address_book& segments()
{
  static auto* one = new address_book;
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
  return kind == memory_kind::window ? window_provider : memfd_provider;
}

void unmap(mapping& memory) noexcept
{
  if (memory.address != nullptr) {
    linux_api::unmap(memory.address, memory.bytes);
  }
  if (memory.file >= 0) {
    ::close(memory.file);
  }
  memory = {};
}

segment::segment(segment_parts&& parts) : parts_(std::make_unique<segment_parts>(std::move(parts))) {}

segment::~segment()
{
  {
    const std::lock_guard lock(segments().mutex);
    segments().by_address.erase(data());
  }
  // a forked child is no holder, and its copy of the mapping ends with it
  if (!linux_api::forked()) {
    unmap(parts_->mapped);
    if (parts_->holders != nullptr) {
      parts_->holders->fetch_sub(1, std::memory_order_acq_rel);
    }
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
  return parts_->holders == nullptr ? 0 : parts_->holders->load(std::memory_order_relaxed);
}

void segment::protect(bool read_only)
{
  require(::mprotect(data(), parts_->mapped.bytes, read_only ? PROT_READ : PROT_READ | PROT_WRITE), "mprotect");
}

void segment::lock_pages() { require(::mlock(data(), parts_->mapped.bytes), "mlock (see `ulimit -l`)"); }
void segment::unlock_pages() { require(::munlock(data(), parts_->mapped.bytes), "munlock"); }
void segment::synchronize_file() { require(::msync(data(), parts_->mapped.bytes, MS_SYNC), "msync"); }

std::shared_ptr<segment> find_segment(const void* address)
{
  std::shared_ptr<segment> found;  // before the lock: should it be the last to hold on, it dies after the lock
  const std::lock_guard lock(segments().mutex);
  auto after = segments().by_address.upper_bound(static_cast<const std::byte*>(address));
  if (after == segments().by_address.begin()) {
    return nullptr;
  }
  found = std::prev(after)->second.lock();
  const bool inside = found && static_cast<const std::byte*>(address) < found->data() + pages_for(found->size_bytes());
  return inside ? found : nullptr;
}

std::vector<std::shared_ptr<segment>> living_segments()
{
  std::vector<std::shared_ptr<segment>> out;  // before the lock, as above
  const std::lock_guard lock(segments().mutex);
  for (const auto& [address, held] : segments().by_address) {
    if (auto alive = held.lock()) {
      out.push_back(std::move(alive));
    }
  }
  return out;
}

std::shared_ptr<segment> make_segment(segment_parts&& parts)
{
  auto made = std::make_shared<segment>(std::move(parts));
  const std::lock_guard lock(segments().mutex);
  segments().by_address[made->data()] = made;
  return made;
}

}  // namespace nodeshare
