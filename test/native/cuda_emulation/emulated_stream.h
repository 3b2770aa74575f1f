// What a stream of the emulation is, for a library that is loaded beside it: whoever has the handle can enqueue. No other header of the
// emulation is needed.
#pragma once

#include <functional>

struct emulation_stream {
  // Runs the work at once or, while the stream is captured, keeps it for the graph.
  void (*enqueue)(std::function<void()> work);
};
