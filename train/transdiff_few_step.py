"""TransDiff's few-step decoder: a diffusion decoder that jumps (docs/transdiff.md 10.5), as few_step.py's head does for a token.

Training sees it, the teacher and the fake network as it sees NextStep's heads (few_step_losses.py): time t from noise (0) to data (1), velocity
data - noise, a picture as one token of N 16 numbers, and a condition that is one tensor of a row each, `conditions`. The weights are the released
decoder's, whose time and velocity run the other way.
"""
import torch
from torch import nn

import few_step
import transdiff_model as transdiff
from few_step import FILE, JUMPS  # noqa: F401

PREFIX = "diffdecoder.net."


def conditions(z, passes, block):
    """z (B, M, D) of all passes, passes (B,): which is drawn -> (B, M, D + 1): the last number says whether the pass sees the token, 1 or 0.

    block: tokens a pass.
    """
    seen = torch.arange(z.shape[1], device=z.device)[None] // block <= passes[:, None]
    return torch.cat([z, seen[..., None].to(z.dtype)], -1)


class PictureFlow(transdiff.DecoderNet):
    """The diffusion decoder, in the terms of few_step_losses.py."""

    def forward(self, x, t, c):
        """x (R, N 16), t (R,), c (R, M, D + 1) -> velocity data - noise (R, N 16)."""
        return self.flow(x, c, self.time_embed.time_embedder(1000 * (1 - t)))

    def flow(self, x, c, e):
        z, seen = c[..., :-1], c[..., -1]
        mask = ((seen - 1) * 1e4)[:, None, None]
        v = self.blocks(x.unflatten(1, self.diffusion_pos_embed_learned.shape[1:2] + (-1,)), e, self.condition(z), mask)
        return -v.flatten(1)


class FewStepNet(PictureFlow):
    prefix = PREFIX

    def __init__(self, config):
        super().__init__(config)
        self.interval_embed = transdiff.TimestepEmbedder(config["width"])
        nn.init.zeros_(self.interval_embed.linear_2.weight)
        nn.init.zeros_(self.interval_embed.linear_2.bias)

    def embed(self, t, r):
        """t, r (R,), 1 at the noise, 0 at the data, r <= t -> e (R, D)."""
        return self.time_embed.time_embedder(1000 * t) + self.interval_embed(1000 * (t - r))

    def mean_velocity(self, x, t, r, condition):
        """The decoder's own terms: x (R, N, 16), times as in embed, condition() of the passes that are seen -> mean of noise - data (R, N, 16)."""
        return self.blocks(x, self.embed(t, r), condition)

    def forward(self, x, t, r, c):
        """As PictureFlow's, to time r >= t."""
        return self.flow(x, c, self.embed(1 - t, 1 - r))


def teacher_net(decoder, config):
    """The model's decoder in the terms of few_step_losses.py."""
    net = PictureFlow(config)
    net.load_state_dict(decoder.state_dict())
    return net


def from_teacher(decoder, config):
    return few_step.start_from(FewStepNet(config), decoder)


def load(path, config):
    """A file, or a folder that holds FILE."""
    net = FewStepNet(config)
    net.load_state_dict(few_step.read(path, PREFIX))
    return net.eval()


def draw(net, noise, z, n):
    """noise (B, N, 16), z (B, M, D) of the passes that are seen -> the picture (B, N, 16), in n jumps."""
    x, condition = noise, net.condition(z)
    for i in range(n):
        t = torch.full((len(x),), 1 - i / n, device=x.device)
        r = torch.full_like(t, 1 - (i + 1) / n)
        x = x + (r - t)[:, None, None] * net.mean_velocity(x, t, r, condition).float()
    return x
