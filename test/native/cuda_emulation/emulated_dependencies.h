// The emulated device's order of launches, for tests of it. No other header of the emulation is needed.
#pragma once

namespace emulation {

// From now on, until a kernel that was launched as dependent waits for its predecessor, what that one has written is not a number, and
// who writes before the wait ends the process. Slow: all memory is compared around every launch.
void watch_dependencies(bool on);

}  // namespace emulation
