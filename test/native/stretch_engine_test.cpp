// What the engines promise of their stretches (backend/stretch.h): when a key comes again, the same ops come with it, on the same
// memory, and nothing is uploaded, downloaded or allocated on the way. A backend that keeps stretches relies on it.
#include "support/mixed_drawing.h"
#include "support/tracing_backend.h"

namespace ardiff::testing_support {
namespace {

class StretchEngine : public testing::Test {
 protected:
  std::unique_ptr<Backend> reference_ = make_backend({"reference", "float32", 1});
  TracingBackend traced_{*reference_};
};

TEST_F(StretchEngine, EqualKeysAreEqualOps) {
  for (const bool with_drafts : {false, true}) {
    const int64_t seen = traced_.seen(), repeated = traced_.repeated();
    EXPECT_EQ(draw_in_turns(traced_, with_drafts), draw_in_turns(*reference_, with_drafts));
    // Drafts come in more shapes: how many there are changes from round to round.
    EXPECT_GT((with_drafts ? 2 : 1) * (traced_.repeated() - repeated), traced_.seen() - seen) << "hardly any stretch came again";
  }
  EXPECT_GT(traced_.repeated_ops(), 20 * traced_.repeated()) << "stretches are short";
}

// Another engine in the same place, with other weights.
TEST_F(StretchEngine, EnginesOnOneBackendAreToldApart) {
  for (int turn = 0; turn < 3; ++turn) draw_in_turns(traced_, turn == 1);
}

TEST_F(StretchEngine, OfAClassModel) {
  const AcceleratedClassModel model;
  EXPECT_EQ(draw_classes(traced_, model), draw_classes(*reference_, model));
  EXPECT_GT(traced_.repeated(), traced_.seen());
  EXPECT_GT(traced_.repeated_ops(), 15 * traced_.repeated());
}

}  // namespace
}  // namespace ardiff::testing_support
