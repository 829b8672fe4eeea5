// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/npy.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string_view>

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "nodeshare/file.hpp"
#include "nodeshare/node.hpp"

namespace nodeshare {
namespace {

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t alignment = 64;  // of the data, in the file

/// Reads the header's dictionary, as far as arrays of numbers need Python's grammar.
class dictionary {
 public:
  explicit dictionary(std::string_view text) : text_(text) {}

  npy_header read()
  {
    npy_header out;
    int found = 0;
    for (need('{'); !take('}'); take(',')) {
      const std::string_view key = quoted();
      need(':');
      if (key == "descr") {
        out.type = type();
      } else if (key == "fortran_order") {
        out.layout = word("True") ? layout::left : layout::right;
        if (out.layout == layout::right && !word("False")) {
          damaged();
        }
      } else if (key == "shape") {
        out.extents = extents();
      } else {
        damaged();
      }
      ++found;
    }
    if (found != 3) {
      damaged();
    }
    return out;
  }

 private:
  [[noreturn]] static void damaged() { throw invalid_argument("has a damaged header"); }

  void blanks() { text_.remove_prefix(std::min(text_.find_first_not_of(" \t\n"), text_.size())); }
  bool word(std::string_view wanted)
  {
    blanks();
    if (!text_.starts_with(wanted)) {
      return false;
    }
    text_.remove_prefix(wanted.size());
    return true;
  }
  bool take(char one) { return word({&one, 1}); }
  void need(char one)
  {
    if (!take(one)) {
      damaged();
    }
  }

  std::string_view quoted()
  {
    const char quote = take('\'') ? '\'' : '"';
    if (quote == '"') {
      need('"');
    }
    const std::size_t end = text_.find(quote);
    if (end == std::string_view::npos) {
      damaged();
    }
    const std::string_view out = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return out;
  }

  /// A record's as it stands, up to its last bracket: for the message that there is none here.
  std::string type()
  {
    if (!take('[')) {
      return std::string(quoted());
    }
    std::size_t end = 0;
    for (int depth = 1; depth > 0; ++end) {
      if (end == text_.size()) {
        damaged();
      }
      depth += text_[end] == '[' ? 1 : text_[end] == ']' ? -1 : 0;
    }
    const std::string out = std::string("[").append(text_.substr(0, end));
    text_.remove_prefix(end);
    return out;
  }

  std::vector<std::size_t> extents()
  {
    std::vector<std::size_t> out;
    for (need('('); !take(')'); take(',')) {
      blanks();
      std::size_t one = 0;
      const auto [end, code] = std::from_chars(text_.data(), text_.data() + text_.size(), one);
      if (code != std::errc{}) {
        damaged();
      }
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      take('L');  // as Python 2 wrote long integers
      out.push_back(one);
    }
    return out;
  }

  std::string_view text_;
};

/// A file that is open as long as this lives.
class input {
 public:
  explicit input(const std::string& path)
  {
    struct stat found {};
    file_.path = path;
    file_.descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_.descriptor < 0 || ::fstat(file_.descriptor, &found) != 0) {
      const int why = errno;
      close();
      throw file_error(path, why);
    }
    bytes_ = static_cast<std::size_t>(found.st_size);
    file_.modified = std::int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec;
  }
  ~input() { close(); }
  input(const input&) = delete;
  input& operator=(const input&) = delete;

  [[nodiscard]] const open_file& file() const noexcept { return file_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  /// The next bytes; fewer where the file ends.
  std::string next(std::size_t bytes)
  {
    std::string out(std::min(bytes, bytes_ - std::min(bytes_, at_)), '\0');
    const auto got = linux_api::read_at(file_.descriptor, reinterpret_cast<std::byte*>(out.data()), out.size(), at_);
    if (!got) {
      throw file_error(file_.path, errno);
    }
    out.resize(*got);
    at_ += *got;
    return out;
  }
  [[nodiscard]] std::size_t at() const noexcept { return at_; }

 private:
  void close() const
  {
    if (file_.descriptor >= 0) {
      ::close(file_.descriptor);
    }
  }

  open_file file_;
  std::size_t bytes_ = 0;
  std::size_t at_ = 0;
};

std::size_t number(std::string_view little_endian)
{
  std::size_t out = 0;
  for (std::size_t i = little_endian.size(); i-- > 0;) {
    out = out << 8 | static_cast<unsigned char>(little_endian[i]);
  }
  return out;
}

/// Local. Leaves `from` where the data begin.
npy_header read_header(input& from)
{
  const std::string begin = from.next(8);
  const char version = begin.size() == 8 ? begin[6] : '\0';
  if (!begin.starts_with(magic) || version < 1 || version > 3) {
    throw invalid_argument("is no .npy file of format 1.0 to 3.0");
  }
  const std::size_t length = number(from.next(version == 1 ? 2 : 4));
  return dictionary(from.next(length)).read();
}

/// Of all elements; the largest value there is if they overflow.
std::size_t bytes_of(const npy_header& header)
{
  const std::size_t digits = header.type.find_first_of("0123456789");
  std::size_t bytes = 0;
  if (digits != std::string::npos) {
    std::from_chars(header.type.data() + digits, header.type.data() + header.type.size(), bytes);
  }
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  if (std::ranges::count(header.extents, std::size_t{0}) > 0) {
    return 0;
  }
  for (const std::size_t extent : header.extents) {
    bytes = bytes > most / extent ? most : bytes * extent;
  }
  return bytes;
}

std::string shape_of(const npy_header& header)
{
  std::string out = "(";
  for (const std::size_t extent : header.extents) {
    out += (out.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return out + (header.extents.size() == 1 ? ",)" : ")");
}

std::string text_of(const npy_header& header)
{
  return "'" + header.type + "', shape " + shape_of(header) + (header.layout == layout::left ? ", layout::left" : "");
}

void check(const npy_header& found, const input& from, const std::string& type, std::size_t dims)
{
  if (found.type != type) {
    throw invalid_argument("holds elements of type '" + found.type + "', but '" + type +
                           "' is asked for: load it as that type, or convert the file with NumPy");
  }
  if (found.extents.size() != dims) {
    throw invalid_argument("has shape " + shape_of(found) + ", but " + count_of(dims, "dimension") + " is asked for");
  }
  const std::size_t have = from.bytes() - std::min(from.bytes(), from.at());
  if (const std::size_t needed = bytes_of(found); have < needed) {
    throw invalid_argument("is truncated: " + std::to_string(needed) + " bytes of data are missing but for " +
                           std::to_string(have));
  }
}

std::string npy_name(const std::string& path) { return path.ends_with(".npy") ? path : path + ".npy"; }

}  // namespace

npy_array load_npy(const std::string& path, const topology& where, const std::string& type, std::size_t dims,
                   std::source_location place)
{
  const std::shared_ptr<node> home = node::of(where);
  const std::string name = "\"" + path + "\"";
  npy_array out;
  std::unique_ptr<input> from;
  try {
    from = std::make_unique<input>(path);
    try {
      out.header = read_header(*from);
      check(out.header, *from, type, dims);
    } catch (const invalid_argument& why) {
      throw invalid_argument(path + " " + why.what());
    }
  } catch (const error& why) {  // for the others, who come to an agreement next
    home->fail(call("load", name, place), why.what());
    throw;
  }
  const std::string arguments = name + ": " + text_of(out.header);
  const call what("load", arguments, place);
  out.memory = home->create(what, {.bytes = bytes_of(out.header), .holds = content::unspecified}, true);
  read_file(what, out.memory, from->file(), from->at());
  return out;
}

void save_npy(const std::string& path, const std::shared_ptr<segment>& memory, const npy_header& header,
              std::source_location place)
{
  std::string text = "{'descr': '" + header.type +
                     "', 'fortran_order': " + (header.layout == layout::left ? "True" : "False") +
                     ", 'shape': " + shape_of(header) + ", }";
  const std::size_t before = magic.size() + 4;  // version and length
  text.resize((before + text.size() + alignment) / alignment * alignment - before, ' ');
  text.back() = '\n';
  const char version_and_length[] = {1, 0, static_cast<char>(text.size() % 256), static_cast<char>(text.size() / 256)};
  const std::string arguments = "\"" + path + "\", " + memory->description();
  write_file(call("save", arguments, place), memory, 0, bytes_of(header), npy_name(path),
             std::string(magic) + std::string(version_and_length, 4) + text);
}

}  // namespace nodeshare
