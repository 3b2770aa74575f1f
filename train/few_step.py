"""The few-step head: a flow head that jumps. One network call takes a token from time t to time r.

u(x, t, r, c) is the mean of the guided teacher's velocity along its path from (x, t) to time r, so that
    x_r = x_t + (r - t) u(x_t, t, r, c)
and a token is n jumps on the grid 0, 1/n, ..., 1 from noise; nothing random in between. It knows the caption's condition only: guidance is
in its weights. The networks differ in one embedding, of r - t, added to that of t; its last layer starts at zero and everything else at the
teacher's weights, so that u(x, t, r, c) is the teacher's conditional velocity before any training.
"""
import os

import torch
from torch import nn
from torch.nn import functional as F

import model as nextstep
import safetensors_io

FILE, PREFIX, JUMPS = "few_step.safetensors", "image_head.net.", (1, 2, 4)


class FewStepNet(nextstep.FlowNet):
    prefix = PREFIX

    def __init__(self, d, h, w, blocks):
        super().__init__(d, h, w, blocks)
        self.interval_embed = nextstep.TimeEmbed(w)
        nn.init.zeros_(self.interval_embed.mlp[2].weight)
        nn.init.zeros_(self.interval_embed.mlp[2].bias)

    def forward(self, x, t, r, c):
        """x (N, D) at time t (N,), r (N,) where to, c (N, H) -> mean velocity (N, D)."""
        return self.blocks(x, F.silu(self.time_embed(t) + self.interval_embed(r - t) + self.cond_embed(c)))


def sizes(net):
    """(token, condition, width, blocks) of a flow head, from its shapes."""
    w, d = net.input_proj.weight.shape
    return d, net.cond_embed.weight.shape[1], w, len(net.res_blocks)


def from_teacher(net):
    return start_from(FewStepNet(*sizes(net)), net)


def start_from(student, net):
    """The teacher's weights in a student of its shape."""
    missing, unexpected = student.load_state_dict(net.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("interval_embed.") for name in missing)
    return student


def save(net, path, metadata=None):
    """In bfloat16, under the names that the model has for what `net` replaces."""
    safetensors_io.save({net.prefix + name: tensor.to(torch.bfloat16) for name, tensor in net.state_dict().items()}, path, metadata)


def read(path, prefix):
    """-> the tensors, by their names in the network. path: a file, or a folder that holds FILE."""
    stored = safetensors_io.load(os.path.join(path, FILE) if os.path.isdir(path) else path)
    return {name[len(prefix):]: tensor.float() for name, tensor in stored.items()}


def load(path):
    state = read(path, PREFIX)
    w, d = state["input_proj.weight"].shape
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("res_blocks."))
    net = FewStepNet(d, state["cond_embed.weight"].shape[1], w, blocks)
    net.load_state_dict(state)
    return net.eval()


def jump(net, x, t, r, c):
    """t, r (N,) -> the state at time r, and the mean velocity, both float32."""
    u = net(x, t, r, c).float()
    return x + (r - t)[:, None] * u, u


def draw(net, noise, c, n):
    """noise (N, D), c (N, H) -> tokens (N, D) by n jumps, before normalisation."""
    x = noise
    for i in range(n):
        t = torch.full((len(x),), i / n, device=x.device)
        x, _ = jump(net, x, t, torch.full_like(t, (i + 1) / n), c)
    return x
