// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/counter.hpp"

#include "owner.hpp"

namespace nodeshare {

counter::counter(const topology& where, std::source_location place)
    : counter(call("counter", "", place), node::of(where))
{}

counter::counter(const call& what, const std::shared_ptr<node>& home)
    : counter(make_words(what, home, sizeof(std::atomic<std::int64_t>)))
{}

counter::counter(std::shared_ptr<segment> memory)
    : memory_(std::move(memory)), number_(reinterpret_cast<std::atomic<std::int64_t>*>(memory_->data()))
{}

}  // namespace nodeshare
