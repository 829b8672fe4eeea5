// SPDX-License-Identifier: BSD-3-Clause
#include "stored.hpp"

#include <cstring>

#include "copying.hpp"
#include "linux.hpp"
#include "nodeshare/error.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t small = 4096;  // bytes that are sooner copied than kept in place

struct stored_header {
  std::uint32_t key;     // bytes
  std::uint32_t pieces;  // whose sizes follow, 8 bytes each
};

/// Calls `use(i, offset)` for each piece. Where the last one ends.
template <class SizeOf, class Use>
std::size_t lay_out(std::size_t key, std::size_t pieces, const SizeOf& size_of, const Use& use)
{
  std::size_t end = sizeof(stored_header) + pieces * sizeof(std::uint64_t) + key;
  for (std::size_t i = 0; i < pieces; ++i) {
    end = i == 0 ? end : linux_api::round_up(end, heap::alignment);
    use(i, end);
    end += size_of(i);
  }
  return end;
}

template <class Number>
Number number_at(const_bytes from, std::size_t offset) noexcept
{
  Number out;
  std::memcpy(&out, from.data() + offset, sizeof out);
  return out;
}

void copy(std::byte* to, const_bytes from)
{
  if (!from.empty()) {
    copy_bytes(to, from.data(), from.size());
  }
}

}  // namespace

std::size_t stored::bytes_for(const parts& value)
{
  return lay_out(
      value.key.size(), value.pieces.size(), [&](std::size_t i) { return value.pieces[i].size(); },
      [](std::size_t, std::size_t) {});
}

void stored::write(std::byte* to, const parts& value)
{
  if (value.key.size() > UINT32_MAX) {
    throw invalid_argument("a key of " + std::to_string(value.key.size()) + " bytes: less than 4 GiB are possible");
  }
  const stored_header header{static_cast<std::uint32_t>(value.key.size()),
                             static_cast<std::uint32_t>(value.pieces.size())};
  std::memcpy(to, &header, sizeof header);
  std::byte* size = to + sizeof header;
  copy(size + value.pieces.size() * sizeof(std::uint64_t), value.key);
  lay_out(
      value.key.size(), value.pieces.size(), [&](std::size_t i) { return value.pieces[i].size(); },
      [&](std::size_t i, std::size_t offset) {
        const std::uint64_t bytes = value.pieces[i].size();
        std::memcpy(size, &bytes, sizeof bytes);
        size += sizeof bytes;
        copy(to + offset, value.pieces[i]);
      });
}

const_bytes stored::key() const noexcept
{
  return from_.subspan(sizeof(stored_header) + pieces() * sizeof(std::uint64_t),
                       number_at<std::uint32_t>(from_, offsetof(stored_header, key)));
}

std::size_t stored::pieces() const noexcept { return number_at<std::uint32_t>(from_, offsetof(stored_header, pieces)); }

std::vector<const_bytes> stored::all() const
{
  std::vector<const_bytes> out(pieces());
  const auto size_of = [&](std::size_t i) {
    return number_at<std::uint64_t>(from_, sizeof(stored_header) + i * sizeof(std::uint64_t));
  };
  lay_out(key().size(), out.size(), size_of,
          [&](std::size_t i, std::size_t offset) { out[i] = from_.subspan(offset, size_of(i)); });
  return out;
}

taken::taken(heap& of, heap::block one)
{
  const auto bytes = of.at(one);
  if (bytes.size() <= small) {
    copy_.assign(bytes.begin(), bytes.end());
  } else {
    view_ = of.view(one);
  }
}

bool overwrite(heap& in, heap::block one, const parts& value)
{
  const auto bytes = in.at(one);
  if (bytes.size() > small || bytes.size() != stored::bytes_for(value)) {
    return false;
  }
  stored::write(bytes.data(), value);
  return true;
}

new_block::new_block(heap& in, const parts& value) : in_(in), block_(in.allocate(stored::bytes_for(value)))
{
  stored::write(in.at(block_).data(), value);
}

new_block::~new_block()
{
  if (block_) {
    try {
      in_.release(block_);
    } catch (const error&) {  // the heap is of no more use to anybody
    }
  }
}

}  // namespace nodeshare
