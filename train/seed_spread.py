"""How much seeds change a class's picture, and how far ways of drawing lie from the model's own law, in levels of 255.

python seed_spread.py --model ../models/transdiff-emoji64

For each way the standard deviation of a pixel over the seeds of a class, meant over pixels and classes, and the mean absolute difference from the
sampler's picture of the same class and seed at 100 timesteps. Figures of docs/contract.md and README.md.
"""
import argparse
import os

import numpy as np

from quality import pipeline_of
from run_log import use_threads


def spread(pictures):
    """(classes, seeds, pixels) -> the mean over classes and pixels of the standard deviation over seeds."""
    return float(pictures.std(1).mean())


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--classes", type=int, default=20, help="that many, evenly from all")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[100, 12, 8, 4], help="the first is compared with")
    parser.add_argument("--few-step-head", help="its weights, if not in the folder's accelerator/")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    pipeline = pipeline_of(args.model, args.few_step_head).pipeline
    chosen = np.linspace(0, pipeline.network.config["num_classes"] - 1, args.classes).astype(int)
    labels, seeds = np.repeat(chosen, args.seeds).tolist(), list(range(args.seeds)) * args.classes
    ways = {f"{n} timesteps": dict(timesteps=n) for n in args.timesteps}
    if args.few_step_head or os.path.exists(os.path.join(args.model, "accelerator", "few_step.safetensors")):
        ways.update({f"few_step {n}": dict(few_step=n) for n in (1, 2, 4)})
    first = None
    for name, options in ways.items():
        pictures = pipeline.draw(labels, seeds, **options).astype(np.float32).reshape(args.classes, args.seeds, -1)
        first = pictures if first is None else first
        print(f"{name:14}  over seeds {spread(pictures):.2f}  from {next(iter(ways))} {np.abs(pictures - first).mean():.2f}", flush=True)


if __name__ == "__main__":
    main()
