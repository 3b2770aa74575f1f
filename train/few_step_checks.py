"""What must hold of few-step heads and their losses, on toys, in seconds. smoke.py runs it; so does python few_step_checks.py.

Every check names the mistake that it would show.
"""
import os
import time

import torch

import dynamic_schedule
import few_step
import few_step_losses as losses
import model as nextstep
from run_log import Clock, mean_of, minutes_left, progress, work
from trajectories import STATES, Teacher

HERE = os.path.dirname(os.path.abspath(__file__))


def toy_teacher(scale=2.0, d=6, h=8):
    """A small head with random weights whose velocity depends on time and condition as much as on the token."""
    torch.manual_seed(4)
    net = nextstep.FlowNet(d, h, 48, 2)
    for p in net.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    return Teacher(net, scale)


def conditions(count, teacher):
    h = few_step.sizes(teacher.net)[1]
    return torch.randn(count, h), torch.zeros(count, h)


def untrained_student_is_the_teacher():
    """Shows an interval embedding that is not zero at first, or weights left behind."""
    teacher = toy_teacher()
    c, _ = conditions(32, teacher)
    x, t, r = torch.randn(32, 6), torch.rand(32), torch.rand(32)
    with torch.no_grad():
        error = (few_step.from_teacher(teacher.net)(x, t, r, c) - teacher.net(x, t, c)).abs().max()
    assert error < 1e-6, float(error)


def dmd_gradient_vanishes_at_the_teacher():
    """Student law = teacher law and phi = v_T: nothing to do. Shows guidance or a time applied to one side only."""
    teacher = toy_teacher(scale=1.0)
    fake = few_step.from_teacher(teacher.net)                        # another object with the same function
    c, empty = conditions(256, teacher)
    token, time = torch.randn(256, 6), 0.02 + 0.96 * torch.rand(256)
    noised = time[:, None] * token + (1 - time[:, None]) * torch.randn(256, 6)
    with torch.no_grad():
        gradient = losses.dmd_gradient(token, noised, time, teacher.velocity(noised, time, c, empty), fake(noised, time, time, c))
    assert gradient.abs().max() < 1e-6, float(gradient.abs().max())


def gaussian_velocity(x, t, mean, std):
    """The exact velocity of data N(mean, std^2) under x_t = t x_1 + (1 - t) noise."""
    t = t[:, None]
    data = mean + t * std ** 2 / (t ** 2 * std ** 2 + (1 - t) ** 2) * (x - t * mean)
    return (data - x) / (1 - t)


def dmd_descends():
    """Tokens of N(1, 0.3^2) under a teacher of N(0, 0.5^2): steps along the loss's derivative bring mean and spread. Shows a wrong sign."""
    torch.manual_seed(5)
    token = 1 + 0.3 * torch.randn(2000, 4)
    for _ in range(400):
        token.requires_grad_(True)
        with torch.no_grad():
            time = 0.02 + 0.96 * torch.rand(len(token))
            noised = time[:, None] * token + (1 - time[:, None]) * torch.randn_like(token)
            fake = gaussian_velocity(noised, time, token.mean(), token.std())
            gradient = losses.dmd_gradient(token, noised, time, gaussian_velocity(noised, time, 0.0, 0.5), fake)
        loss = losses.dmd_loss(token, gradient) * token.numel()                 # so that the derivative is the gradient itself
        derivative, = torch.autograd.grad(loss, token)
        assert torch.allclose(derivative, gradient, atol=1e-6)
        token = (token - 0.02 * derivative).detach()
    assert abs(token.mean()) < 0.05 and abs(token.std() - 0.5) < 0.1, (float(token.mean()), float(token.std()))


def losses_vanish_on_a_straight_path():
    """A velocity that is constant on its path needs no training at any budget. Shows a wrong index, span or division."""
    class Straight(torch.nn.Module):
        def forward(self, x, t, r, c):
            return c
    torch.manual_seed(6)
    noise, v = torch.randn(64, 5), torch.randn(64, 5)
    states = torch.stack([noise + t * v for t in STATES], 1)
    velocities = v[:, None].expand(-1, len(STATES) - 1, -1)
    begin, end = losses.segments(64)
    seg, token = losses.segment_loss(Straight(), states, velocities, v, begin, end)
    cd = losses.consistency_loss(Straight(), Straight(), states, v, torch.randint(losses.LAST, (64,)))
    error = max(float(seg), float(token), float(cd), float((few_step.draw(Straight(), noise, v, 4) - states[:, -1]).abs().max()))
    assert error < 1e-5, error


def segments_are_those_drawn_with():
    """Jumps of budget n begin and end on its grid, each about as often as BUDGETS says."""
    begin, end = losses.segments(20000, torch.Generator().manual_seed(7))
    counts = {(int(b), int(e)): int(n) for (b, e), n in zip(*torch.stack([begin, end], 1).unique(dim=0, return_counts=True))}
    expected = {(0, 4): 0.5, (0, 2): 0.1, (2, 4): 0.1, **{(i, i + 1): 0.05 for i in range(4)}, **{(i, i): 0.025 for i in range(4)}}
    assert counts.keys() == expected.keys() and all(abs(counts[k] / 20000 - share) < 0.012 for k, share in expected.items()), counts


def distilled_student_follows_the_teacher(steps=700, batch=256):
    """After a few seconds of training on a toy: the closer the jumps, the closer to the guided teacher; at r = t its very velocity."""
    teacher = toy_teacher()
    student = few_step.from_teacher(teacher.net)
    c, empty = conditions(4096, teacher)
    states, velocities = teacher.path(torch.randn(4096, 6), c, empty, substeps=4)
    optimizer = torch.optim.AdamW(student.parameters(), 4e-3, weight_decay=0.0)

    def errors():
        with torch.no_grad():
            x, t = states[:512, 1], torch.full((512,), STATES[1])
            still = (student(x, t, t, c[:512]) - velocities[:512, 1]).pow(2).mean() / velocities[:512, 1].pow(2).mean()
            return float(still), [float((few_step.draw(student, states[:512, 0], c[:512], n) - states[:512, -1]).pow(2).mean()) for n in few_step.JUMPS]

    before, _ = errors()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * dynamic_schedule.envelope(step / steps)
        index = 512 + torch.randint(4096 - 512, (batch,))
        begin, end = losses.segments(batch)
        loss, _ = losses.segment_loss(student, states[index], velocities[index], c[index], begin, end)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    still, by_jumps = errors()
    assert still < 0.5 * before, (before, still)
    assert by_jumps[0] > by_jumps[1] > by_jumps[2], by_jumps
    return still, by_jumps


def schedule_is_staged():
    assert dynamic_schedule.alpha(0) == 0.95 and dynamic_schedule.alpha(0.8) == 0 == dynamic_schedule.alpha(1)
    assert dynamic_schedule.beta(0.35) == 0 and dynamic_schedule.beta(0.6) == 1
    assert dynamic_schedule.loss_weights(0) == (1, 0) and dynamic_schedule.loss_weights(1) == (0.25, 1)
    draft, head = zip(*(dynamic_schedule.rates(s / 100, True) for s in range(101)))
    assert all(d >= h for d, h in zip(draft[:30], head)) and draft[80:] == (0.0,) * 21, "first the draft, then the head alone"


def budgets_are_kept():
    """Minutes of work, or a time of day: steps end there, and progress goes from 0 to 1."""
    clock = Clock(spent=30.0)
    assert minutes_left(clock, 2) == 1.5 and progress(clock, 2) == 0.25 and progress(Clock(), 2) == 0
    assert abs(minutes_left(clock, 2, time.time() + 90) - 1.5) < 0.01 and abs(progress(clock, 2, time.time() + 90) - 0.25) < 0.01
    assert progress(clock, 2, time.time() - 9) == 1 and list(work(clock, 2, lambda: None, 1, time.time() - 9)) == []
    saved = []
    assert len(list(zip(range(3), work(Clock(), 1, lambda: saved.append(1), 1)))) == 3 and not saved
    assert mean_of([1.0, torch.tensor(2.0)]) == 1.5 and mean_of([]) == 0


def main():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)                                        # toys: a second thread waits longer than it works
    untrained_student_is_the_teacher()
    dmd_gradient_vanishes_at_the_teacher()
    dmd_descends()
    losses_vanish_on_a_straight_path()
    segments_are_those_drawn_with()
    schedule_is_staged()
    budgets_are_kept()
    still, by_jumps = distilled_student_follows_the_teacher()
    torch.set_num_threads(threads)
    print(f"few-step checks passed: error at r = t {still:.4f}, of 1, 2 and 4 jumps " + ", ".join(f"{e:.4f}" for e in by_jumps))


if __name__ == "__main__":
    main()
