"""Conditions of the flow head on pictures that a model draws by itself, for training captions: what a few-step head will be asked.

python rollouts.py --data EMOJI64 --model ../models/nextstep-emoji64 --pictures 3000 --out runs/vanilla.safetensors
python rollouts.py ... --few-step 1 --few-step-head runs/few/few_step.safetensors --seed 1 --out runs/own.safetensors

A student that only ever saw the teacher's pictures meets other conditions once its own tokens are fed back, and 64 small errors add up; so it is
trained on rollouts of its own as well, with the teacher's answer to each (DAgger, Ross et al. 2011).
The file: c and empty (pictures, tokens, H) float16, the caption's and the empty prompt's conditions, of the same tokens.
"""
import argparse
import json

import numpy as np
import torch

import data
import few_step
import safetensors_io
from run_log import device, use_threads
from sample import Pipeline
from train import STYLES


def captions(rows, count, styles, popular, rest, random):
    """Training captions, drawn as train.py draws them, the empty one never."""
    ids = [i for i in data.train_ids(rows) if data.captions_of(rows[i])]
    weights = data.sampling_weights([rows[i] for i in ids], popular, rest, styles)
    drawn = []
    for i in random.choice(ids, count, p=weights):
        pairs = data.captions_of(rows[i])
        weight = np.array([w for _, w in pairs])
        drawn.append(pairs[random.choice(len(pairs), p=weight / weight.sum())][0])
    return drawn


def roll_out(pipeline, prompts, seeds, batch=128, bf16=True, **options):
    """-> c, empty (pictures, tokens, H) float16."""
    parts, where = [], next(pipeline.network.parameters()).device
    for begin in range(0, len(prompts), batch):
        steps = []
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
            pipeline.tokens(prompts[begin:begin + batch], seeds[begin:begin + batch], record=lambda c: steps.append(c.half().cpu()), **options)
        parts.append(torch.stack(steps, 1).chunk(2))
    return tuple(torch.cat(half) for half in zip(*parts))


def arguments(parser, pictures):
    """Which captions are drawn, and by what."""
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--pictures", type=int, default=pictures)
    parser.add_argument("--few-step", type=int, default=0, choices=(0, *few_step.JUMPS))
    parser.add_argument("--few-step-head")
    parser.add_argument("--seed", type=int, default=0, help="of the captions; noise is drawn far from the seeds of the quality figures")
    parser.add_argument("--styles", default=STYLES)
    parser.add_argument("--popular", type=float, default=8.0)
    parser.add_argument("--rest", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=2)


def prepare(args):
    """-> the pipeline where it is to run, and the captions."""
    use_threads(args.threads)
    prompts = captions(data.load_rows(args.data), args.pictures, json.loads(args.styles), args.popular, args.rest, np.random.default_rng(args.seed))
    pipeline = Pipeline.load(args.model, args.few_step_head)
    for part in (pipeline.network, pipeline.few_step_head):
        if part is not None:
            part.to(device())
    return pipeline, prompts


def main(argv=None):
    parser = argparse.ArgumentParser()
    arguments(parser, pictures=3000)
    args = parser.parse_args(argv)
    pipeline, prompts = prepare(args)
    c, empty = roll_out(pipeline, prompts, list(range(2 ** 32 + args.seed * 2 ** 20, 2 ** 32 + args.seed * 2 ** 20 + len(prompts))), few_step=args.few_step)
    safetensors_io.save(dict(c=c, empty=empty), args.out)
    print(f"{args.out}: {len(prompts)} pictures")


if __name__ == "__main__":
    main()
