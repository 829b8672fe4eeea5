// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Making a control page: the only steps on which ranks agree by plain MPI, as there is no page yet.
#include "control_page.hpp"

#include <unistd.h>

#include <cstdio>
#include <random>
#include <string>

#include "linux.hpp"
#include "topology_state.hpp"

namespace nodeshare {
namespace {

/// While there is no page to meet through: the first trouble of any rank of the communicator, by plain MPI.
void agree_by_mpi(const topology_state& where, const failure& mine)
{
  struct {
    int bad, rank;
  } worst{mine ? 1 : 0, where.rank}, found{};
  check_mpi(MPI_Allreduce(&worst, &found, 1, MPI_2INT, MPI_MAXLOC, where.all), "MPI_Allreduce");
  if (found.bad == 0) {
    return;
  }
  struct {
    failure_kind kind;
    char text[1024];
  } told{};
  if (where.rank == found.rank) {
    told.kind = mine.kind;
    std::snprintf(told.text, sizeof told.text, "rank %d on %s: %s", where.rank, where.host.c_str(), mine.text.c_str());
  }
  check_mpi(MPI_Bcast(&told, sizeof told, MPI_BYTE, found.rank, where.all), "MPI_Bcast");
  raise(told.kind == failure_kind::out_of_shared_memory ? told.kind : failure_kind::other,
        "the control page of a node could not be made: " + std::string(told.text));
}

/// Collective over the node, in MPI's sense.
failure come_to_memory(const topology_state& where, memory_kind kind, std::size_t bytes, mapping& out)
{
  struct {
    descriptor offered;
    bool refused = false;
  } told;
  const provider& source = provider_of(kind);
  const bool leads = where.node_rank == 0;
  failure trouble;
  if (leads) {
    trouble = source.offer(bytes, told.offered);
    told.refused = static_cast<bool>(trouble);
  }
  check_mpi(MPI_Bcast(&told, sizeof told, MPI_BYTE, 0, where.node), "MPI_Bcast");
  return told.refused ? trouble : source.map(where.node, leads, told.offered, bytes, out);
}

/// The folder of the file behind a window, empty if that is none.
std::string folder_of_window(const std::byte* address)
{
  const std::string file = linux_api::file_of(address);
  const auto slash = file.rfind('/');
  return file.empty() || file[0] != '/' || slash == 0 ? "" : file.substr(0, slash);
}

}  // namespace

memory_kind preferred_memory(const topology_state& where)
{
  if (where.node_size() == 1 || where.chosen.memory == memory_setting::memfd) {
    return memory_kind::memfd;
  }
  return where.chosen.memory == memory_setting::held_window ? memory_kind::held_window : memory_kind::window;
}

std::shared_ptr<control_page> make_page(topology_state& where, std::string& window_directory)
{
  const int ranks = where.node_size();
  const bool leads = where.node_rank == 0;
  const std::size_t bytes = control_page::bytes(ranks);
  memory_kind kind = preferred_memory(where);
  failure trouble;
  if (kind != memory_kind::memfd) {
    trouble = provider_of(kind).look(bytes, "/dev/shm");  // where most MPIs keep them; this window tells us for sure
    int possible = trouble ? 0 : 1;
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &possible, 1, MPI_INT, MPI_MIN, where.node), "MPI_Allreduce");
    if (possible == 0 && where.chosen.memory == memory_setting::automatic) {
      trouble = {};
      kind = memory_kind::memfd;
    }
  }
  if (kind == memory_kind::memfd && leads && !trouble) {
    trouble = memfd_provider.look(bytes, "");
  }
  agree_by_mpi(where, trouble);

  mapping memory;
  trouble = come_to_memory(where, kind, bytes, memory);
  if (kind != memory_kind::memfd && where.chosen.memory == memory_setting::automatic) {
    // MPICH has no windows for spawned ranks that were merged, XPMEM none that can be aliased
    int refused = trouble ? 1 : 0;
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &refused, 1, MPI_INT, MPI_MAX, where.node), "MPI_Allreduce");
    if (refused == 1) {
      unmap(memory);
      kind = memory_kind::memfd;
      trouble = come_to_memory(where, kind, bytes, memory);
    }
  }
  auto page = std::make_shared<control_page>(memory, ranks);
  if (!trouble && leads) {
    trouble = linux_api::populate(memory.address, control_page::words_at(ranks));
    if (!trouble) {
      page->header().token = std::random_device{}() | (std::uint64_t{std::random_device{}()} << 32) | 1;
    }
  }
  agree_by_mpi(where, trouble);
  if (memory.file >= 0) {
    ::close(memory.file);
    page->mapped.file = -1;
  }
  linux_api::advise(memory.address, memory.bytes);
  if (kind != memory_kind::memfd) {
    window_directory = folder_of_window(memory.address);
  }

  // a token that node rank 0 wrote and all read proves that memory is shared
  std::uint64_t token = page->header().token;
  check_mpi(MPI_Bcast(&token, 1, MPI_UINT64_T, 0, where.node), "MPI_Bcast");
  rank_record& mine = page->record(where.node_rank);
  mine.pid = ::getpid();
  mine.start_time = linux_api::start_time(mine.pid);
  mine.processors = linux_api::processors();
  if (token != page->header().token) {
    trouble = {failure_kind::other, "it does not see what node rank 0 writes, although MPI says that they share memory"};
  }
  agree_by_mpi(where, trouble);  // and every record is written now
  return page;
}

}  // namespace nodeshare
