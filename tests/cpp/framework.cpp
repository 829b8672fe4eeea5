// SPDX-License-Identifier: BSD-3-Clause
// Boost.Test itself, which takes longest to compile; the programs have a `main` of their own.
#include <boost/test/included/unit_test.hpp>
