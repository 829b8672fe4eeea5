// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// One copy of a large array per node, a view of it for every rank.
#pragma once

#include "nodeshare/add.hpp"
#include "nodeshare/arena.hpp"
#include "nodeshare/barrier.hpp"
#include "nodeshare/checksum.hpp"
#include "nodeshare/counter.hpp"
#include "nodeshare/error.hpp"
#include "nodeshare/file.hpp"
#include "nodeshare/heap.hpp"
#include "nodeshare/hooks.hpp"
#include "nodeshare/mutex.hpp"
#include "nodeshare/node.hpp"
#include "nodeshare/npy.hpp"
#include "nodeshare/reduce.hpp"
#include "nodeshare/replicate.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/shared_array.hpp"
#include "nodeshare/shared_mutex.hpp"
#include "nodeshare/topology.hpp"
#include "nodeshare/view.hpp"
#include "nodeshare/work.hpp"
