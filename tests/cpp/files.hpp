// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What tests of files share: a folder of their own, and what is in it.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support.hpp"

namespace nodeshare::test {

namespace fs = std::filesystem;

/// One folder for all ranks, gone at the end of the scope.
class folder {
 public:
  folder()
  {
    const char* shared = std::getenv("NODESHARE_TEST_FOLDER");  // by hosts that each have a /tmp
    const fs::path place = shared != nullptr ? fs::path(shared) : fs::temp_directory_path();
    std::string name = (place / "nodeshare-files-XXXXXX").string();
    name.resize(std::max<std::size_t>(name.size(), 512));
    if (world().rank() == 0) {
      BOOST_CHECK(::mkdtemp(name.data()) != nullptr);
    }
    MPI_Bcast(name.data(), 512, MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = name.c_str();
  }
  ~folder()
  {
    MPI_Barrier(MPI_COMM_WORLD);
    if (world().rank() == 0) {
      fs::remove_all(path_);
    }
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  /// Collective. Names of all that is there.
  std::vector<std::string> names() const
  {
    MPI_Barrier(MPI_COMM_WORLD);
    std::vector<std::string> out;
    for (const auto& one : fs::directory_iterator(path_)) {
      out.push_back(one.path().filename());
    }
    std::ranges::sort(out);
    MPI_Barrier(MPI_COMM_WORLD);
    return out;
  }

 private:
  fs::path path_;
};

/// Collective. Rank 0 writes the file.
inline void write(const std::string& path, const std::string& content)
{
  if (world().rank() == 0) {
    std::ofstream(path, std::ios::binary) << content;
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

/// Collective. What is in it.
inline std::string read(const std::string& path)
{
  MPI_Barrier(MPI_COMM_WORLD);
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace nodeshare::test
