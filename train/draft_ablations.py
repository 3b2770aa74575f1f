"""What each loss of the draft model is worth: the same short training with and without it, from one start, on the same batches.

python draft_ablations.py --model ../models/nextstep-emoji64 --few-step runs/few --drawn runs/drawn-few.safetensors --run runs/ablations --steps 500

Lengths are in steps, not minutes, so that the variants are equal on a machine with other work. The first --held-out pictures are the ones that
draft_report.py measures on. D is through the target's own head without guidance, because only some variants train a head of their own.
"""
import argparse
import os

import numpy as np
import torch

import draft_model
import draft_report as report
import few_step
import train_draft
from draft_data import Features, load_drawn
from draft_losses import SamplerB
from run_log import Log, device, use_threads
from sample import Pipeline

VARIANTS = {
    "reg": dict(entropy="none", velocity=0.0, jump=0.0),
    "reg, ent max": dict(entropy="max", velocity=0.0, jump=0.0),
    "reg, ent align": dict(entropy="align", velocity=0.0, jump=0.0),
    "reg, ent align, vel": dict(entropy="align", velocity=1.0, jump=0.0),
    "reg, jump": dict(entropy="none", velocity=0.0, jump=4.0),
    "reg, ent align, jump": dict(entropy="align", velocity=0.0, jump=4.0),
}


class Part:
    """The first `count` pictures of data."""

    def __init__(self, data, count):
        vars(self).update({name: value[:count] if isinstance(value, torch.Tensor) and name != "entropy" else value for name, value in vars(data).items()})


def train(pipeline, args, data, where):
    """-> the draft after args.steps steps, and the mean of the last tenth's numbers."""
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    trainer = train_draft.Trainer(pipeline, args, where)
    order, last, tail = np.random.default_rng(args.seed), {}, int(0.9 * args.steps)
    for step in range(args.steps):
        index = torch.from_numpy(order.choice(np.arange(args.held_out, len(data.tokens)), args.batch, replace=False))
        found = trainer.step(data, index, step / args.steps)
        if step >= tail:
            for name, value in found.items():
                last[name] = last.get(name, 0.0) + value / (args.steps - tail)
    return trainer.draft.eval(), last


def measure(pipeline, draft, data, args):
    """Distances of the few-step head, both ways of drafting; D of the first draft; entropies."""
    net, defaults, row = pipeline.network, pipeline.defaults, {}
    places = [int(p) for p in np.linspace(1, data.length - args.drafts, args.places)]
    for kind in report.DRAFTING:
        found = report.distances(pipeline, draft, data, report.FewStepDraws(pipeline.few_step_head), kind, args.drafts, places, False)
        row[f"{kind}_first"], row[f"{kind}_mean"] = float(found[:, 0].mean()), float(found.mean())
        for tolerance in (0.2, 0.3, 0.5):
            row[f"{kind}_tokens_{tolerance}"] = 1 + float(report.accepted(found, tolerance)[-1])
    head = net.image_head.net
    draws = report.SamplerDraws(head, head, SamplerB(defaults["timesteps"], defaults["timestep_shift"]), 1.0)
    gap = report.distances(pipeline, draft, data, draws, "parallel", 4, places[::2], False)
    row.update(gap_first=float(gap[:, 0].median()), gap_fourth=float(gap[:, 3].median()))
    profile = report.entropies(pipeline, draft, data)[max(0, len(draft.layers) - 2), 1:]
    row.update(entropy=float(profile.mean()), target=float(data.entropy[1:].mean()))
    return row


def main(argv=None):
    parser = argparse.ArgumentParser()
    train_draft.arguments(parser)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pictures", type=int, default=1500, help="the first ones of --drawn, held-out ones among them")
    parser.add_argument("--places", type=int, default=6)
    parser.add_argument("--drafts", type=int, default=8)
    parser.set_defaults(unroll_from=2.0, held_out=96)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    pipeline = Pipeline.load(args.model)
    pipeline.network.to(where)
    pipeline.few_step_head = few_step.load(args.few_step).to(where)
    prompts, tokens = load_drawn(args.drawn)
    data = Features(pipeline, prompts[:args.pictures], tokens[:args.pictures])
    log = Log(os.path.join(args.run, "ablations.csv"))
    for name, options in VARIANTS.items():
        draft, last = train(pipeline, argparse.Namespace(**{**vars(args), **options}), data, where)
        draft_model.save(draft, os.path.join(args.run, name.replace(", ", "-").replace(" ", "_") + ".safetensors"))
        log.add(losses=name, steps=args.steps, reg=last["reg"], **measure(pipeline, draft, Part(data, args.held_out), args))


if __name__ == "__main__":
    main()
