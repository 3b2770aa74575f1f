// Prepared weights of the cpu backend: panels for the own kernels, or oneDNN's packing (dnnl_product.h).
#pragma once

#include <memory>
#include <vector>

#include "backend/cpu/dnnl_product.h"
#include "backend/cpu/panels.h"
#include "backend/ops.h"

namespace ardiff::cpu {

struct CpuLinear final : Linear {
  CpuLinear(const PanelShape& panel_shape) : Linear(panel_shape.depth, panel_shape.columns), shape(panel_shape) {}
  const PanelShape shape;
  Storage panels;            // empty where `product` does the work
  std::vector<float> bias;   // padded to whole panels, zeros where there is none
  std::unique_ptr<DnnlProduct> product;
};

}  // namespace ardiff::cpu
