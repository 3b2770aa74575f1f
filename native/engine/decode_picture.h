// A latent picture -> RGB, for every family: alone, so that its bytes cannot depend on who shares the step.
#pragma once

#include "backend/backend.h"
#include "backend/scratch.h"
#include "engine/step_plan.h"
#include "model/vae.h"

namespace ardiff {

// tokens: (grid_height w, C patch²) f32, raster order, in the model's latent scale. `sequence` and `tokens` of the result
// are the caller's to fill in. The scratch may be reset to before the call afterwards.
DecodedImage decode_picture(Backend& backend, Scratch& scratch, const Vae& vae, const TensorView& tokens, int64_t grid_height, int64_t patch);

}  // namespace ardiff
