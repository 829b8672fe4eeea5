// SPDX-License-Identifier: BSD-3-Clause
#include "lane_words.hpp"

#include <memory>
#include <vector>

#include "control_page.hpp"
#include "failure.hpp"
#include "nodeshare/error.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr int word_bytes = 512;  // small enough that every MPI sends it eagerly

struct message {
  char text[word_bytes];
};

std::vector<int> neighbours(const topology_state& where)
{
  std::vector<int> out;
  for (int bit = 1; bit < where.node_count * 2; bit *= 2) {
    if (const int node = where.node_index ^ bit; node < where.node_count) {
      out.push_back(node);
    }
  }
  return out;
}

}  // namespace

bool lane_words::can_speak() const noexcept { return where_.lane != MPI_COMM_NULL && may_call_mpi(); }

void lane_words::tell(word which, std::string_view how) const noexcept
{
  if (!can_speak()) {
    return;
  }
  for (const int node : neighbours(where_)) {
    auto sends = std::make_unique<message>();
    copy_text(sends->text, how);
    MPI_Request request = MPI_REQUEST_NULL;
    int sent = 0;
    if (MPI_Isend(sends->text, word_bytes, MPI_CHAR, node, static_cast<int>(which), where_.lane, &request) == MPI_SUCCESS) {
      for (int look = 0; look < 1000 && sent == 0; ++look) {
        MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
      }
    }
    if (sent == 0) {
      leave_to_mpi(std::move(sends));
    }
  }
}

bool lane_words::hear(word which, std::string& out)
{
  if (!receive(which, out)) {
    return false;
  }
  tell(which, out);
  return true;
}

bool lane_words::receive(word which, std::string& out)
{
  int there = 0;
  MPI_Status status;
  const int tag = static_cast<int>(which);
  if (where_.lane == MPI_COMM_NULL ||
      MPI_Iprobe(MPI_ANY_SOURCE, tag, where_.lane, &there, &status) != MPI_SUCCESS || there == 0) {
    return false;
  }
  message found{};
  check_mpi(MPI_Recv(found.text, word_bytes, MPI_CHAR, status.MPI_SOURCE, tag, where_.lane, MPI_STATUS_IGNORE), "MPI_Recv");
  out = found.text;
  ++received_;
  return true;
}

bool lane_words::hear_last() noexcept
{
  if (!can_speak()) {
    return true;
  }
  try {
    std::string ignored;
    while (receive(word::ended, ignored)) {
    }
  } catch (const error&) {
    return true;
  }
  return received_ >= static_cast<int>(neighbours(where_).size());
}

}  // namespace nodeshare
