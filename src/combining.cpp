// SPDX-License-Identifier: BSD-3-Clause
#include "combining.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "copying.hpp"
#include "half.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t fold_bytes = 8192;  // what lies between two steps of a fold stays in the first cache

template <class T>
struct complex {
  T real, imaginary;
};

template <class T>
constexpr bool is_complex = false;
template <class T>
constexpr bool is_complex<complex<T>> = true;
template <class T>
constexpr bool is_floating = std::is_floating_point_v<T> || std::is_same_v<T, half>;

/// Which operations there are for which elements: MPI-3.1, 5.9.2.
template <class T, operation By>
constexpr bool is_allowed = [] {
  constexpr bool arithmetic = By == operation::sum || By == operation::prod;
  constexpr bool order = By == operation::min || By == operation::max;
  constexpr bool logical = By == operation::land || By == operation::lor || By == operation::lxor;
  if (std::is_same_v<T, bool>) {
    return logical;
  }
  return is_complex<T> ? arithmetic : is_floating<T> ? arithmetic || order : true;
}();

template <class T>
bool is_nan(T number) noexcept
{
  if constexpr (std::is_floating_point_v<T>) {
    return std::isnan(number);
  } else {
    return false;
  }
}

template <operation By, class T>
T combined(T a, T b) noexcept
{
  if constexpr (std::is_same_v<T, half>) {
    return half(combined<By>(static_cast<float>(a), static_cast<float>(b)));
  } else if constexpr (is_complex<T> && By == operation::sum) {
    return {a.real + b.real, a.imaginary + b.imaginary};
  } else if constexpr (is_complex<T> && By == operation::prod) {
    return {a.real * b.real - a.imaginary * b.imaginary, a.real * b.imaginary + a.imaginary * b.real};
  } else if constexpr (By == operation::sum || By == operation::prod) {
    if constexpr (std::is_integral_v<T>) {  // wraps around
      using bits = std::make_unsigned_t<T>;
      const auto wide_a = static_cast<std::uint64_t>(static_cast<bits>(a));
      const auto wide_b = static_cast<std::uint64_t>(static_cast<bits>(b));
      return static_cast<T>(By == operation::sum ? wide_a + wide_b : wide_a * wide_b);
    } else {
      return By == operation::sum ? a + b : a * b;
    }
  } else if constexpr (By == operation::min) {
    return a < b || is_nan(a) ? a : b;
  } else if constexpr (By == operation::max) {
    return a > b || is_nan(a) ? a : b;
  } else if constexpr (By == operation::band) {
    return static_cast<T>(a & b);
  } else if constexpr (By == operation::bor) {
    return static_cast<T>(a | b);
  } else if constexpr (By == operation::bxor) {
    return static_cast<T>(a ^ b);
  } else if constexpr (By == operation::land) {
    return static_cast<T>(a != 0 && b != 0);
  } else if constexpr (By == operation::lor) {
    return static_cast<T>(a != 0 || b != 0);
  } else {
    return static_cast<T>((a != 0) != (b != 0));
  }
}

/// The x87's numbers of 80 bits lie in more bytes. The others would keep what was there, and a checksum counts them.
template <class T>
void clear_padding([[maybe_unused]] T& number) noexcept
{
  if constexpr (is_complex<T>) {
    clear_padding(number.real);
    clear_padding(number.imaginary);
  } else if constexpr (std::is_same_v<T, long double> && std::numeric_limits<T>::digits == 64) {
    constexpr std::size_t used = 10;
    std::memset(reinterpret_cast<std::byte*>(&number) + used, 0, sizeof number - used);
  }
}

template <class T, operation By>
void combine_all(const std::byte* left, const std::byte* right, std::byte* out, std::size_t count)
{
  const auto* __restrict a = reinterpret_cast<const T*>(left);
  const auto* __restrict b = reinterpret_cast<const T*>(right);
  auto* __restrict to = reinterpret_cast<T*>(out);
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = combined<By>(a[i], b[i]);
    clear_padding(to[i]);
  }
}

using kernel = void (*)(const std::byte*, const std::byte*, std::byte*, std::size_t);
constexpr std::size_t operations = 10;
constexpr std::array<const char*, operations> operation_names = {"sum", "prod", "min",  "max", "band",
                                                                 "bor", "bxor", "land", "lor", "lxor"};

struct element_facts {
  const char* name;
  std::size_t bytes;
  MPI_Datatype type;
  std::array<kernel, operations> kernels;  ///< null: there is no such operation
};

template <class T, operation By>
constexpr kernel kernel_of()
{
  if constexpr (is_allowed<T, By>) {
    return combine_all<T, By>;
  } else {
    return nullptr;
  }
}

template <class T, std::size_t... By>
constexpr std::array<kernel, operations> kernels_of(std::index_sequence<By...>)
{
  return {kernel_of<T, static_cast<operation>(By)>()...};
}

template <class T>
element_facts facts(const char* name, MPI_Datatype type)
{
  return {name, sizeof(T), type, kernels_of<T>(std::make_index_sequence<operations>())};
}

const element_facts& facts_of(element type)
{
  static const element_facts all[] = {
      facts<bool>("bool", MPI_C_BOOL),
      facts<std::int8_t>("int8", MPI_INT8_T),
      facts<std::int16_t>("int16", MPI_INT16_T),
      facts<std::int32_t>("int32", MPI_INT32_T),
      facts<std::int64_t>("int64", MPI_INT64_T),
      facts<std::uint8_t>("uint8", MPI_UINT8_T),
      facts<std::uint16_t>("uint16", MPI_UINT16_T),
      facts<std::uint32_t>("uint32", MPI_UINT32_T),
      facts<std::uint64_t>("uint64", MPI_UINT64_T),
      facts<half>("float16", MPI_DATATYPE_NULL),
      facts<float>("float32", MPI_FLOAT),
      facts<double>("float64", MPI_DOUBLE),
      facts<long double>("long double", MPI_LONG_DOUBLE),
      facts<complex<float>>("complex64", MPI_C_FLOAT_COMPLEX),
      facts<complex<double>>("complex128", MPI_C_DOUBLE_COMPLEX),
      facts<complex<long double>>("complex long double", MPI_C_LONG_DOUBLE_COMPLEX),
  };
  return all[static_cast<int>(type)];
}

/// The operation that a predefined handle of MPI's stands for.
bool find_predefined(MPI_Op op, operation& out)
{
  const std::pair<MPI_Op, operation> known[] = {{MPI_SUM, operation::sum},   {MPI_PROD, operation::prod},
                                                {MPI_MIN, operation::min},   {MPI_MAX, operation::max},
                                                {MPI_BAND, operation::band}, {MPI_BOR, operation::bor},
                                                {MPI_BXOR, operation::bxor}, {MPI_LAND, operation::land},
                                                {MPI_LOR, operation::lor},   {MPI_LXOR, operation::lxor}};
  const auto* found = std::ranges::find(known, op, &std::pair<MPI_Op, operation>::first);
  if (found == std::end(known)) {
    return false;
  }
  out = found->second;
  return true;
}

bool is_predefined_without_meaning_here(MPI_Op op)
{
  return op == MPI_OP_NULL || op == MPI_MAXLOC || op == MPI_MINLOC || op == MPI_REPLACE || op == MPI_NO_OP;
}

std::string allowed_text(const element_facts& type)
{
  std::string out;
  for (std::size_t i = 0; i < operations; ++i) {
    if (type.kernels[i] != nullptr) {
      out += out.empty() ? "" : " ";
      out += operation_names[i];
    }
  }
  return out;
}

}  // namespace

std::size_t bytes_of(element type) noexcept { return facts_of(type).bytes; }

reduction::reduction(element type, MPI_Op how) noexcept : of(type), own(how), made_by_user(!find_predefined(how, by)) {}

const char* name_of(const reduction& how) noexcept
{
  return how.made_by_user ? "an MPI_Op" : operation_names[static_cast<std::size_t>(how.by)];
}

combiner::combiner(const reduction& how) noexcept : element_bytes_(bytes_of(how.of))
{
  const element_facts& type = facts_of(how.of);
  const auto refuse = [&](const std::string& why) { objection_ = {failure_kind::invalid_argument, why}; };
  if (!how.made_by_user) {
    kernel_ = type.kernels[static_cast<std::size_t>(how.by)];
    if (kernel_ == nullptr) {
      refuse(std::string("there is no ") + name_of(how) + " of " + type.name + ": allowed are " + allowed_text(type) +
             (type.type == MPI_DATATYPE_NULL ? "" : ", and an MPI_Op of your own"));
    }
    return;
  }
  if (is_predefined_without_meaning_here(how.own)) {
    refuse(std::string("this MPI_Op (null, or one for pairs or windows) does not combine elements: allowed for ") +
           type.name + " are " + allowed_text(type) + ", and an MPI_Op of your own");
    return;
  }
  if (type.type == MPI_DATATYPE_NULL) {
    refuse(std::string("MPI has no type for ") + type.name +
           ", so an MPI_Op of your own can't combine it: allowed are " + allowed_text(type));
    return;
  }
  own_ = how.own;
  type_ = type.type;
  int commutes = 1;
  MPI_Op_commutative(own_, &commutes);
  commutes_ = commutes != 0;
}

void combiner::combine(const std::byte* left, const std::byte* right, std::byte* out, std::size_t count) const
{
  if (kernel_ != nullptr) {
    kernel_(left, right, out, count);
    return;
  }
  std::memcpy(out, right, count * element_bytes_);
  check_mpi(MPI_Reduce_local(left, out, static_cast<int>(count), type_, own_), "MPI_Reduce_local");
}

void combiner::fold(std::span<const std::byte* const> from, std::size_t count, std::byte* to, bool past_cache) const
{
  alignas(64) std::byte blocks[2][fold_bytes];
  const std::size_t step = fold_bytes / element_bytes_;
  for (std::size_t first = 0; first < count; first += step) {
    const std::size_t now = std::min(step, count - first);
    const std::size_t offset = first * element_bytes_;
    const std::byte* result = from[0] + offset;
    for (std::size_t i = 1; i < from.size(); ++i) {
      std::byte* next = blocks[i % 2];
      combine(result, from[i] + offset, next, now);
      result = next;
    }
    if (past_cache) {
      stream(to + offset, result, now * element_bytes_);
    } else if (result != to + offset) {
      std::memcpy(to + offset, result, now * element_bytes_);
    }
  }
}

}  // namespace nodeshare
