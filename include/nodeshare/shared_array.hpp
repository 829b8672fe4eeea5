// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// One array on each node, seen by all ranks of the node.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "nodeshare/add.hpp"
#include "nodeshare/checksum.hpp"
#include "nodeshare/error.hpp"
#include "nodeshare/node.hpp"
#include "nodeshare/reduce.hpp"
#include "nodeshare/replicate.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"
#include "nodeshare/view.hpp"
#include "nodeshare/work.hpp"

namespace nodeshare {

/// How an array is made.
struct options {
  bool reserve = true;             ///< make every page present now; without it a full system is a SIGBUS at a touch
  nodeshare::layout layout = nodeshare::layout::right;
  content holds = content::zeros;  ///< unspecified: spares the time to zero memory that is used again
};

/// One array of `T` on each node, zero at first unless asked otherwise, on a page boundary, seen by all of the node's ranks.
///
/// Move-only. A rank lets go of the memory when its array dies: local, in any order, also after MPI_Finalize.
template <class T, std::size_t Dims = 1>
class shared_array {
  static_assert(std::is_trivially_copyable_v<T>, "shared memory holds plain data only: no pointers to other memory");

 public:
  using value_type = T;
  using extents_type = std::array<std::size_t, Dims>;

  /// Collective over the communicator. `extents` in elements. Throws `out_of_shared_memory`, `mismatch`,
  /// `peer_error`: the same on every rank, or none.
  explicit shared_array(const topology& where, const extents_type& extents, options how = {},
                        std::source_location place = std::source_location::current())
      : topology_(where), extents_(extents), layout_(how.layout)
  {
    const std::string arguments = text_of(extents, sizeof(T), how.layout) + (how.reserve ? "" : ", reserve=false") +
                                  (how.holds == content::zeros ? "" : ", content::unspecified");
    memory_ = node::of(where)->create(
        call("shared_array", arguments, place),
        {.bytes = bytes_of(extents, sizeof(T)), .reserve = how.reserve, .holds = how.holds});
  }
  explicit shared_array(MPI_Comm comm, const extents_type& extents, options how = {},
                        std::source_location place = std::source_location::current())
      : shared_array(topology(comm, place), extents, how, place)
  {
  }
  /// Local. An array in memory that was made otherwise, on all ranks alike, and has room for it.
  shared_array(const topology& where, const extents_type& extents, nodeshare::layout order,
               std::shared_ptr<segment> memory)
      : topology_(where), extents_(extents), layout_(order), memory_(std::move(memory))
  {
  }
  ~shared_array() = default;
  shared_array(const shared_array&) = delete;
  shared_array& operator=(const shared_array&) = delete;
  shared_array(shared_array&& other) noexcept = default;
  shared_array& operator=(shared_array&& other) noexcept = default;

  /// Local. The whole array; this rank's rows of it, or those of another rank.
  [[nodiscard]] array_view<T, Dims> view() const noexcept
  {
    return {data(), extents_, array_view<T, Dims>::strides_of(extents_, layout_)};
  }
  [[nodiscard]] array_view<T, Dims> local() const noexcept { return part(topology_.rank()); }
  [[nodiscard]] array_view<T, Dims> part(int rank) const
  {
    const auto [first, last] = rows(rank);
    return view().rows(first, last);
  }

  /// Local. The block of rows [first, last) of this rank, or of another, counted among the ranks of its own node.
  /// Throws `invalid_argument` if there is no such rank.
  [[nodiscard]] std::pair<std::size_t, std::size_t> rows() const { return rows(topology_.rank()); }
  [[nodiscard]] std::pair<std::size_t, std::size_t> rows(int rank) const
  {
    const auto ranks = topology_.ranks_on(topology_.node_of(rank));
    std::size_t place = 0;
    while (ranks[place] != rank) {
      ++place;
    }
    return block_of(extents_[0], place, ranks.size());
  }

  /// Local.
  [[nodiscard]] T* data() const noexcept { return reinterpret_cast<T*>(memory_->data()); }
  [[nodiscard]] const extents_type& extents() const noexcept { return extents_; }
  [[nodiscard]] nodeshare::layout order() const noexcept { return layout_; }
  [[nodiscard]] std::size_t size() const noexcept { return view().size(); }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return memory_->size_bytes(); }
  [[nodiscard]] const topology& where() const noexcept { return topology_; }
  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }

  /// Local. Adds to an element that other ranks of the node may `add` to at the same time: see `nodeshare::add`.
  /// `index` is unchecked.
  void add(const extents_type& index, const T& value) const noexcept
  {
    nodeshare::add(std::apply(view(), index), value);
  }

  /// Collective over the node. Every write before it is seen by all after it. Throws `mismatch`, `peer_error`.
  void sync(std::source_location place = std::source_location::current()) const
  {
    memory_->home()->meet(call("sync", memory_->id(), memory_->description(), place));
  }

  /// Collective over the communicator. The bytes of the node of rank `root`, to every node.
  /// Throws `invalid_argument` if there is no such rank, `mismatch`, `peer_error`, `mpi_error`.
  void bcast(int root = 0, std::source_location place = std::source_location::current()) const
  {
    nodeshare::bcast(memory_, root, place);
  }

  /// Collective over the communicator. Each row from the node of the rank whose `topology::local_range` holds it.
  void allgather(std::source_location place = std::source_location::current()) const
  {
    nodeshare::allgather(call("allgather", memory_->id(), memory_->description(), place), memory_, row_shape(),
                         default_owners(*memory_->home(), extents_[0]));
  }

  /// Collective over the communicator. Each row from the node that did it. Throws `error` if the work is not finished.
  void allgather(const work& done, std::source_location place = std::source_location::current()) const
  {
    nodeshare::allgather(call("allgather", memory_->id(), memory_->description(), place), memory_, row_shape(), done);
  }

  /// Collective over the communicator. Every rank's private elements (as many, in the same order), combined, into every
  /// node's array: the same bits everywhere. `how` is an `operation`, or an MPI_Op.
  /// Throws `invalid_argument` when there is no such operation on `T`, or `mine` has another number of elements or
  /// overlaps the array without being it; and like `nodeshare::allreduce`.
  template <class How = operation>
  void allreduce(std::span<const T> mine, How how = operation::sum,
                 std::source_location place = std::source_location::current()) const
  {
    const reduction by(element_of<T>(), how);
    nodeshare::allreduce(call("allreduce", text_of_reduction(by), place), memory_, {0, size()}, by,
                         {std::as_bytes(mine), {}});
  }

  /// Collective over the communicator. Each element from the copies of all nodes, combined, on every node.
  template <class How = operation>
  void allreduce_copies(How how = operation::sum, std::source_location place = std::source_location::current()) const
  {
    const reduction by(element_of<T>(), how);
    nodeshare::allreduce_copies(call("allreduce_copies", text_of_reduction(by), place), memory_, {0, size()}, by);
  }

  /// Collective over the communicator. A digest of the bytes that all nodes agree on; the same on any number of ranks.
  /// Throws `mismatch` when nodes differ, and like `nodeshare::checksum`.
  [[nodiscard]] std::uint64_t checksum(std::source_location place = std::source_location::current()) const
  {
    return nodeshare::checksum(call("checksum", whole_text(), place), memory_, 0, size_bytes());
  }

 private:
  [[nodiscard]] std::string whole_text() const
  {
    return "array " + std::to_string(memory_->id()) + " of " + memory_->description();
  }
  [[nodiscard]] std::string text_of_reduction(const reduction& how) const
  {
    return std::string("op=") + name_of(how) + ", " + whole_text();
  }

  [[nodiscard]] row_layout row_shape() const noexcept
  {
    const std::size_t elements = extents_[0] == 0 ? 0 : size() / extents_[0];
    return layout_ == layout::right ? row_layout{extents_[0], elements * sizeof(T), 1}
                                    : row_layout{extents_[0], sizeof(T), elements};
  }

  topology topology_;
  extents_type extents_;
  layout layout_;
  std::shared_ptr<segment> memory_;
};

}  // namespace nodeshare
