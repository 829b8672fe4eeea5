// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/checksum.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "pending_failure.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t bytes_per_digest = std::size_t{1} << 20;

constexpr std::uint64_t prime_1 = 0x9e3779b185ebca87u;
constexpr std::uint64_t prime_2 = 0xc2b2ae3d27d4eb4fu;
constexpr std::uint64_t prime_3 = 0x165667b19e3779f9u;
constexpr std::uint64_t prime_4 = 0x85ebca77c2b2ae63u;
constexpr std::uint64_t prime_5 = 0x27d4eb2f165667c5u;

template <class Number>
Number read(const std::byte* from) noexcept
{
  static_assert(std::endian::native == std::endian::little, "XXH64 reads numbers in little-endian order");
  Number out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

constexpr std::uint64_t mixed(std::uint64_t sum, std::uint64_t number) noexcept
{
  return std::rotl(sum + number * prime_2, 31) * prime_1;
}

std::string hexadecimal(std::uint64_t number)
{
  char text[19];
  std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(number));
  return text;
}

/// Which nodes have which digest; empty if all have the same.
std::string differences(std::span<const std::uint64_t> of_nodes)
{
  std::map<std::uint64_t, std::string> nodes;
  for (std::size_t node = 0; node < of_nodes.size(); ++node) {
    std::string& list = nodes[of_nodes[node]];
    list += list.empty() ? "" : ", ";
    list += std::to_string(node);
  }
  std::string out;
  for (const auto& [digest, list] : nodes) {
    out += out.empty() ? "" : "; ";
    out += "checksum " + hexadecimal(digest) + " on node " + list;
  }
  return nodes.size() > 1 ? out : "";
}

}  // namespace

std::uint64_t xxh64(std::span<const std::byte> bytes) noexcept
{
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t sum = prime_5;
  if (left >= 32) {
    std::array<std::uint64_t, 4> lanes = {prime_1 + prime_2, prime_2, 0, 0 - prime_1};
    for (; left >= 32; left -= 32, at += 32) {
      for (std::size_t i = 0; i < 4; ++i) {
        lanes[i] = mixed(lanes[i], read<std::uint64_t>(at + 8 * i));
      }
    }
    sum = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
    for (const std::uint64_t lane : lanes) {
      sum = (sum ^ mixed(0, lane)) * prime_1 + prime_4;
    }
  }
  sum += bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    sum = std::rotl(sum ^ mixed(0, read<std::uint64_t>(at)), 27) * prime_1 + prime_4;
  }
  if (left >= 4) {
    sum = std::rotl(sum ^ read<std::uint32_t>(at) * prime_1, 23) * prime_2 + prime_3;
    left -= 4;
    at += 4;
  }
  for (; left > 0; --left, ++at) {
    sum = std::rotl(sum ^ static_cast<std::uint64_t>(*at) * prime_5, 11) * prime_1;
  }
  sum = (sum ^ sum >> 33) * prime_2;
  sum = (sum ^ sum >> 29) * prime_3;
  return sum ^ sum >> 32;
}

std::uint64_t checksum(const call& what, const std::shared_ptr<segment>& memory, std::size_t offset, std::size_t bytes)
{
  node& home = *memory->home();
  const topology_state& where = home.where();
  const auto nodes = static_cast<std::size_t>(where.node_count);
  const std::size_t blocks = (bytes + bytes_per_digest - 1) / bytes_per_digest;
  const std::size_t numbers = blocks + nodes;
  const auto shared =
      home.create(what, {.bytes = numbers * sizeof(std::uint64_t), .holds = content::unspecified}, true);
  const std::span digests(reinterpret_cast<std::uint64_t*>(shared->data()), blocks);
  const std::span of_nodes(digests.data() + blocks, nodes);
  const auto [first, last] =
      block_of(blocks, static_cast<std::size_t>(where.node_rank), static_cast<std::size_t>(where.node_size()));
  for (std::size_t block = first; block < last; ++block) {
    const std::size_t begin = block * bytes_per_digest;
    digests[block] = xxh64({memory->data() + offset + begin, std::min(bytes_per_digest, bytes - begin)});
  }
  home.meetings().agree(what, {}, scope::communicator, nodes > 1);
  const std::uint64_t here = xxh64(std::as_bytes(digests));
  if (nodes == 1) {
    return here;
  }
  pending_failure trouble;
  if (where.node_rank == 0) {
    trouble.run([&] {
      of_nodes[static_cast<std::size_t>(where.node_index)] = here;
      MPI_Request request = MPI_REQUEST_NULL;
      try {
        home.meetings().require_lanes();
        check_mpi(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_UINT64_T, of_nodes.data(), 1, MPI_UINT64_T, where.lane, &request),
                  "MPI_Iallgather");
        home.meetings().finish(request, what, "MPI_Iallgather");
      } catch (...) {
        (void)new std::shared_ptr<segment>(shared);  // MPI may still write into these pages: they stay for good
        throw;
      }
    });
  }
  trouble.agree(home.meetings(), what, false);
  if (const std::string text = differences(of_nodes); !text.empty()) {
    throw mismatch("the nodes hold different bytes of " + std::string(what.arguments) + ": " + text);
  }
  return here;
}

}  // namespace nodeshare
