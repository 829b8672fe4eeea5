// SPDX-License-Identifier: BSD-3-Clause
#include "farewell.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "linux.hpp"

namespace nodeshare {
namespace {

/// What the ranks of a job on a machine have in common, and other jobs have not.
std::string prefix()
{
  const char* job = std::getenv("PMIX_NAMESPACE");
  const std::size_t hash = std::hash<std::string>{}(job != nullptr ? job : std::to_string(::getppid()));
  return "nodeshare/" + std::to_string(hash ^ linux_api::sharing_domain()) + '/';
}

bool belongs_to(int world_rank, MPI_Comm comm)
{
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group group = MPI_GROUP_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Comm_group(comm, &group);
  int size = 0;
  MPI_Group_size(world, &size);
  int translated = MPI_UNDEFINED;
  if (world_rank >= 0 && world_rank < size) {
    MPI_Group_translate_ranks(world, 1, &world_rank, group, &translated);
  }
  MPI_Group_free(&world);
  MPI_Group_free(&group);
  return translated != MPI_UNDEFINED;
}

}  // namespace

void leave_farewell(int world_rank, std::string_view how) noexcept
{
  if (linux_api::forked()) {
    return;
  }
  std::string name = prefix() + std::to_string(world_rank) + '/' + std::string(how);
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return std::isprint(c) == 0; }, ' ');
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.resize(std::min(name.size(), sizeof address.sun_path - 1));
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // a leading zero byte: no file
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket >= 0) {  // stays open: the process ends
    (void)::bind(socket, reinterpret_cast<sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size()));
  }
}

std::string farewell_of(MPI_Comm comm)
{
  const std::string wanted = '@' + prefix();
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    const auto found = line.find(wanted);
    if (found == std::string::npos) {
      continue;
    }
    const std::string word = line.substr(found + wanted.size());
    const int rank = std::atoi(word.c_str());
    if (belongs_to(rank, comm)) {
      return "rank " + std::to_string(rank) + " of MPI_COMM_WORLD has ended (" + word.substr(word.find('/') + 1) + ")";
    }
  }
  return "";
}

}  // namespace nodeshare
