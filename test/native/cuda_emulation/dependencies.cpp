// Dependent launches run one after the other here, which would hide a read that comes too early. While they are watched, what the launch
// before has written is taken away until a block waits for it: a kernel that reads it too early reads what is not a number.
#include "dependencies.h"

#include <cstring>

#include "emulated_dependencies.h"
#include "emulation.h"

namespace emulation {
namespace {

struct Piece {
  std::byte* at;
  std::vector<std::byte> bytes;
};
using Memory = std::vector<Piece>;

bool watched = false;
Memory before_launch;  // all memory as the launch that runs found it
Memory written;        // by the launch before, as it left it
Memory taken_away;     // all memory in a block that has not waited yet

Memory copy_of_memory() {
  Memory out;
  for (const auto& [at, bytes] : device_memory()) out.push_back({at, {at, at + bytes}});
  return out;
}

// What differs now from `before`, whole runs of bytes.
Memory changes(const Memory& before) {
  Memory out;
  for (const Piece& piece : before) {
    if (std::memcmp(piece.at, piece.bytes.data(), piece.bytes.size()) == 0) continue;
    for (size_t i = 0; i < piece.bytes.size(); ++i) {
      if (piece.at[i] == piece.bytes[i]) continue;
      size_t end = i;
      while (end < piece.bytes.size() && piece.at[end] != piece.bytes[end]) ++end;
      out.push_back({piece.at + i, {piece.at + i, piece.at + end}});
      i = end;
    }
  }
  return out;
}

}  // namespace

void watch_dependencies(bool on) {
  watched = on;
  written.clear();
}

void forget_predecessor() { written.clear(); }

void begin_launch() {
  if (watched) before_launch = copy_of_memory();
}

void end_launch() {
  if (watched) written = changes(before_launch);
}

void predecessor_is_under_way() {
  if (!watched) return;
  for (const Piece& piece : written) std::memset(piece.at, 0xff, piece.bytes.size());
  taken_away = copy_of_memory();
}

void predecessor_arrives() {
  if (!watched) return;
  if (!changes(taken_away).empty()) stop("a kernel writes before it has waited for its predecessor");
  for (const Piece& piece : written) std::memcpy(piece.at, piece.bytes.data(), piece.bytes.size());
}

}  // namespace emulation
