"""One few-step head whose weights are the weighted mean of several's that were trained on from one another.

python average_heads.py runs/a/few_step.safetensors=0.5 runs/b/few_step.safetensors=0.5 --out runs/mean

Trajectory matching keeps FD, distribution matching raises adherence and with it FD; between two heads of one training both move smoothly, so the
mean is a choice between them that costs no run (model soups, Wortsman et al. 2022).
"""
import argparse
import os

import torch

import few_step
import safetensors_io


def average(states, weights):
    """-> tensors of the first one's names and dtypes; the sum is float32. Weights are divided by their sum."""
    for state in states[1:]:
        if {name: t.shape for name, t in state.items()} != {name: t.shape for name, t in states[0].items()}:
            raise ValueError("the heads differ in the names or shapes of their tensors")
    total = sum(weights)
    return {name: sum(w / total * state[name].float() for w, state in zip(weights, states)).to(tensor.dtype) for name, tensor in states[0].items()}


def weighted(text):
    """FILE=WEIGHT -> (path, weight)."""
    path, _, weight = text.rpartition("=")
    if not path or float(weight) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not FILE=WEIGHT with a weight above 0")
    return path, float(weight)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("heads", nargs="+", type=weighted, metavar="FILE=WEIGHT")
    parser.add_argument("--out", required=True, help=f"folder; {few_step.FILE} is written there")
    args = parser.parse_args(argv)
    paths, weights = zip(*args.heads)
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, few_step.FILE)
    with torch.no_grad():
        safetensors_io.save(average([safetensors_io.load(p) for p in paths], weights), path)
    print(path)


if __name__ == "__main__":
    main()
