// JavaScript values <-> plain structs. All copies between the two worlds are here. A value of the wrong type or
// range is kInvalidArgument with the path of the property.
#pragma once

#include <napi.h>

#include "backend/backend.h"
#include "engine/engine.h"
#include "engine/step_plan.h"

namespace ardiff::addon {

BackendOptions to_backend_options(const Napi::Value& value);
LoadOptions to_load_options(const Napi::Value& value);
StepPlan to_step_plan(const Napi::Value& value);
ProbeRequest to_probe_request(const Napi::Value& value);
uint32_t to_uint32(const Napi::Value& value, const char* path);

Napi::Object from_backend_info(Napi::Env env, const BackendInfo& info);
Napi::Object from_cuda_devices(Napi::Env env, const CudaDevices& found);
Napi::Object from_model_info(Napi::Env env, const ModelInfo& info);
// Moves the pictures' bytes into JavaScript without a copy where the runtime allows it.
Napi::Object from_step_result(Napi::Env env, StepResult&& result);
Napi::Object from_arrays(Napi::Env env, const HostArrays& arrays);

}  // namespace ardiff::addon
