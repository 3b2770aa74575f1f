"""The losses of a few-step head, over networks and tensors; no state, no data.

Times of the cached paths: trajectories.STATES, k / LAST. All losses are means over rows and over the D numbers of a token. TransDiff's whole
pictures are tokens here, and c is whatever its networks take as conditions, a row each. Nothing waits for the device.
"""
import torch
from torch.nn import functional as F

import few_step
from trajectories import STATES

LAST = len(STATES) - 1
BUDGETS = (0.5, 0.2, 0.2, 0.1)                   # of 1, 2 and 4 jumps a token, and of none: the teacher's velocity itself


def token_norm(x):
    """What a drawn token goes through before it is fed back (use_norm of sampling.json)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def segments(count, generator=None):
    """-> indices (count,), on the CPU, of the states that jumps of random budgets begin and end at."""
    budget = torch.multinomial(torch.tensor(BUDGETS), count, replacement=True, generator=generator)
    n = torch.tensor([*few_step.JUMPS, LAST])[budget]
    begin = (torch.rand(count, generator=generator) * n).long() * (LAST // n)
    return begin, begin + torch.where(budget == len(few_step.JUMPS), torch.zeros_like(n), LAST // n)


def segment_loss(net, states, velocities, c, begin, end, finish=token_norm):
    """L_seg = |x_t + (r - t) u(x_t, t, r, c) - x_r|^2 / (r - t)^2, which is |u - mean velocity|^2; at r = t the mean is v itself.

    states (N, len(STATES), D), velocities (N, len(STATES) - 1, D) at all but the last. -> loss, loss of finished tokens after `finish`.
    """
    row = torch.arange(len(states), device=states.device)
    t, r, x, target = begin / LAST, end / LAST, states[row, begin], states[row, end]
    still = (end == begin)[:, None]
    span = torch.where(still, torch.ones_like(x[:, :1]), (r - t)[:, None])
    mean_velocity = torch.where(still, velocities[row, begin.clamp(max=LAST - 1)], (target - x) / span)
    reached, u = few_step.jump(net, x, t, r, c)
    finished = ((end == LAST) & (end != begin)).float()
    token = (finish(reached) - finish(target)).pow(2).mean(1)
    return (u - mean_velocity).pow(2).mean(), (token * finished).sum() / finished.sum().clamp(min=1)


def consistency_loss(net, slow, states, c, begin, width=0.03):
    """L_cd: the token foreseen from a state equals the one that the slowly following copy foresees from the next state of the teacher's path.

    Pseudo-Huber sqrt(d^2 + width^2) - width of the error's root mean square; at the end of the path the token itself is the target.
    """
    row, one = torch.arange(len(states), device=states.device), torch.ones(len(states), device=states.device)
    token, _ = few_step.jump(net, states[row, begin], begin / LAST, one, c)
    with torch.no_grad():
        target, _ = few_step.jump(slow, states[row, begin + 1], (begin + 1) / LAST, one, c)
    distance = (token - target).pow(2).mean(1)
    return ((distance + width ** 2).sqrt() - width).mean()


def dmd_gradient(token, noised, time, v_real, v_fake, floor=1e-4):
    """Descent direction of KL(student || teacher) at a token, by the difference of the two data predictions at a noised copy of it.

    token, noised, v_real, v_fake (N, D), time (N,). g = (x_fake - x_real) / mean|token - x_real|, with x = noised + (1 - time) v.
    floor: of the divisor. Where teacher and student nearly agree, a small one blows up what is left, mostly the networks' own error.
    """
    left = (1 - time)[:, None]
    real, fake = noised + left * v_real, noised + left * v_fake
    return (fake - real) / (token - real).abs().mean(1, keepdim=True).clamp(min=floor)


def dmd_loss(token, gradient):
    """Its derivative by the token is `gradient`, over D."""
    return 0.5 * (token - (token - gradient).detach()).pow(2).sum(1).mean() / token.shape[1]


def flow_loss(net, token, c, generator=None):
    """Flow matching on given tokens: how the fake network learns the student's law."""
    t = torch.sigmoid(torch.randn(len(token), device=token.device, generator=generator))
    noise = torch.randn(token.shape, device=token.device, generator=generator)
    v = net(t[:, None] * token + (1 - t[:, None]) * noise, t, c).float()
    return (v - (token - noise)).pow(2).mean()
