"""The guided teacher's paths from noise to token, computed once: training a few-step head then costs the student only.

python trajectories.py --model ../models/nextstep-emoji64 --conditions runs/vanilla.safetensors --out runs/paths-0.safetensors

For every pair of conditions (caption's, empty prompt's) and every noise drawn for it: the states at STATES of dx/dt = v(x, t), where v is the
teacher's velocity under guidance, v = v_empty + w (v_caption - v_empty). Deterministic, so the path from a noise is a function a student can learn.
"""
import argparse

import torch

import few_step
import safetensors_io
from run_log import device, use_threads
from sample import Pipeline

STATES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Teacher:
    """The model's flow head with guidance inside: two rows a token.

    TransDiff's decoder too, with pictures for tokens (transdiff_few_step.py).
    """

    def __init__(self, net, scale):
        self.net, self.scale = net.eval().requires_grad_(False), scale

    def velocity(self, x, t, c, empty):
        """x (N, D), t a number or (N,), c and empty (N, H) -> (N, D) float32."""
        t = t if torch.is_tensor(t) else torch.full((len(x),), t, device=x.device)
        if self.scale == 1:
            return self.net(x, t, c).float()
        caption, other = self.net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([c, empty])).float().chunk(2)
        return other + self.scale * (caption - other)

    def heun(self, x, t, r, c, empty, steps, first=None):
        """From time t to r, numbers, in `steps` steps of second order, two calls each; first: the velocity at t, if it is known."""
        h = (r - t) / steps
        for k in range(steps):
            now = t + k * h
            first = self.velocity(x, now, c, empty) if k or first is None else first
            second = self.velocity(x + h * first, now + h, c, empty)
            x = x + h * (first + second) / 2
        return x

    @torch.no_grad()
    def path(self, noise, c, empty, substeps=2):
        """-> states (N, len(STATES), D), noise first, token last; velocities (N, len(STATES) - 1, D) at all but the last."""
        states, velocities = [noise], []
        for t, r in zip(STATES, STATES[1:]):
            velocities.append(self.velocity(states[-1], t, c, empty))
            states.append(self.heun(states[-1], t, r, c, empty, substeps, velocities[-1]))
        return torch.stack(states, 1), torch.stack(velocities, 1)


def compute(teacher, c, empty, seed, batch=4096, bf16=True):
    """c, empty (N, H) float16 -> states, velocities of one noise for each, float16."""
    where = next(teacher.net.parameters()).device
    generator, width, parts = torch.Generator().manual_seed(seed), few_step.sizes(teacher.net)[0], []
    for begin in range(0, len(c), batch):
        part = slice(begin, begin + batch)
        noise = torch.randn(len(c[part]), width, generator=generator)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
            states, velocities = teacher.path(noise.to(where), c[part].float().to(where), empty[part].float().to(where))
        parts.append((states.half().cpu(), velocities.half().cpu()))
    return tuple(torch.cat(half) for half in zip(*parts))


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--conditions", required=True, help="a file of rollouts.py")
    parser.add_argument("--out", required=True, help="the conditions again, a row a token, with states and velocities")
    parser.add_argument("--noises", type=int, default=1, help="for every condition")
    parser.add_argument("--guidance-scale", type=float, help="the model's default otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    pipeline = Pipeline.load(args.model)
    scale = args.guidance_scale or pipeline.defaults["guidance_scale"]
    teacher = Teacher(pipeline.network.image_head.net.to(device()), scale)
    stored = {name: tensor.flatten(0, 1) for name, tensor in safetensors_io.load(args.conditions).items()}
    runs = [compute(teacher, stored["c"], stored["empty"], args.seed + i) for i in range(args.noises)]
    states, velocities = (torch.cat(part) for part in zip(*runs))
    repeated = {name: tensor.repeat(args.noises, 1) for name, tensor in stored.items()}
    safetensors_io.save(dict(repeated, states=states, velocities=velocities), args.out, dict(guidance_scale=str(scale)))
    print(f"{args.out}: {len(states)} paths")


if __name__ == "__main__":
    main()
