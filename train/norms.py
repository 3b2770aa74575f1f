"""GroupNorm and LayerNorm that also run under bfloat16 autocast on a CPU with PyTorch 1.13."""
import torch
from torch import nn

# Before PyTorch 2 the CPU has no kernel for bfloat16 inputs with float32 weights, which is what autocast makes.
MIXED_KERNELS = int(torch.__version__.split(".")[0]) >= 2


class GroupNorm(nn.GroupNorm):
    def forward(self, x):
        return super().forward(x) if MIXED_KERNELS else super().forward(x.float()).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x) if MIXED_KERNELS else super().forward(x.float()).to(x.dtype)
