"""What a draft is trained on (docs/speculation.md): features, attention entropy, and what acceptance is decided by.

    L_reg  = mean SmoothL1(h_draft, h)
    L_ent  = -mean E (max: the paper's), or mean max(0, E_target - E)^2 (align: raised to the target's own profile only)
    L_vel  = E_k 1/2 K w_k |v_q - v_p|^2 / D,  w_k = min((b_k / gamma_k)^2, 400): 1/2 of the path gap's square, per number
    L_jump = mean |u(noise, 0, 1, c_draft) - u(noise, 0, 1, c)|^2 / 2: the same for the few-step head's single jump
"""
import torch
from torch.nn import functional as F

from sample import time_grid

MAX_WEIGHT = 400.0


def entropy_loss(entropy, profile, kind):
    """entropy (B, N), profile (N,) of the target; row 0 sees one key and has none."""
    if kind == "none":
        return entropy.new_zeros(())
    if kind == "max":
        return -entropy[:, 1:].mean()
    return (profile[1:] - entropy[:, 1:]).clamp_min(0).pow(2).mean()


class SamplerB:
    """Times and gap weights of the model's own sampler: x' = a x + b v + gamma z with b = (1 + t) dt, gamma^2 = 2 (1 - t) dt."""

    def __init__(self, timesteps, shift):
        grid = torch.tensor(time_grid(timesteps, shift))
        t, dt = grid[:-1], grid.diff()
        self.t, self.dt = t.float(), dt.float()
        self.weight = ((1 + t) ** 2 * dt / (2 * (1 - t))).clamp_max(MAX_WEIGHT).float()


def guided(net, x, t, c, empty, scale):
    """The target's guided velocity, as the sampler mixes it."""
    v, u = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([c, empty])).float().chunk(2)
    return u + scale * (v - u)


def velocity_loss(target, draft_head, sampler, tokens, c, empty, guess, scale):
    """tokens (N, D) drawn ones, c, empty (N, H) their conditions, guess (N, H) the draft's c."""
    k = torch.randint(len(sampler.t), (len(tokens),))
    t, weight = sampler.t[k].to(c.device), sampler.weight[k].to(c.device)
    x = t[:, None] * tokens + (1 - t[:, None]) * torch.randn_like(tokens)
    with torch.no_grad():
        v = guided(target, x, t, c, empty, scale)
    gap = (draft_head(x, t, guess).float() - v).pow(2).mean(-1)
    return 0.5 * len(sampler.t) * (weight * gap).mean()


def jump_loss(few_step, c, guess, width):
    """Through the frozen few-step head into the guess."""
    noise = torch.randn(len(c), width, device=c.device)
    zero, one = torch.zeros(len(c), device=c.device), torch.ones(len(c), device=c.device)
    with torch.no_grad():
        u = few_step(noise, zero, one, c).float()
    return 0.5 * (few_step(noise, zero, one, guess).float() - u).pow(2).mean()


def regression(guess, feature):
    return F.smooth_l1_loss(guess, feature)
