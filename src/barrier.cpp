// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/barrier.hpp"

#include <utility>

#include "meeting.hpp"
#include "owner.hpp"

namespace nodeshare {

barrier::barrier(const topology& where, std::source_location place)
    : barrier(call("barrier", "", place), node::of(where))
{}

barrier::barrier(const call& what, std::shared_ptr<node> home)
    : home_(std::move(home)), number_(home_->meetings().count()), description_(text_of(what))
{
  require_one_node(what, home_);
  home_->agree(what);
}

void barrier::meet(double seconds, std::source_location place) const
{
  call what("barrier.wait", number_, description_, place);
  what.timeout = seconds;
  home_->meet(what);
}

}  // namespace nodeshare
