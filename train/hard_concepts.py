"""Conditions of concepts that a few-step head draws wrongly, for another round of training on them.

python hard_concepts.py --data EMOJI64 --model ../models/nextstep-emoji64 --few-step-head runs/few/few_step.safetensors --seed 0 --out runs/hard-0.safetensors

A head that reads the caption's condition alone has to guess the empty prompt's. For most concepts the guess is good, for a few it is wrong every time, and
a random sample hardly holds them. So every popular concept of the training pictures is drawn, bare and "…, 3d style"; those that are not recognised
(quality.py, adherence) are drawn many times over, by the head itself and by the vanilla sampler. The file is that of rollouts.py.
The figures of quality.py ask 200 of the same concepts, with other seeds.
"""
import argparse

import torch

import data
import few_step
import quality
import safetensors_io
from rollouts import roll_out
from run_log import device, use_threads
from sample import Pipeline


def popular_concepts(rows):
    """-> [(base, name)], one for each popular base with a 3d training picture."""
    train, found = set(data.train_ids(rows)), {}
    for i, row in enumerate(rows):
        if i in train and row["popular"] and row["style"] == data.STYLES[0] and not row["skin_tone"]:
            found.setdefault(row["base"], row["name"])
    return list(found.items())


def forms(name):
    return name, f"{name}, {data.STYLES[0]} style"


def missed(pipeline, pack, concepts, draws, seed, n):
    """-> {name: the share of its pictures, `draws` of each form, that are not recognised}, those of 0 left out."""
    asked = [(base, name, prompt) for base, name in concepts for prompt in forms(name) for _ in range(draws)]
    with torch.autocast(device().type, dtype=torch.bfloat16):
        drawn = pipeline.draw([prompt for _, _, prompt in asked], [seed + i for i in range(len(asked))], batch=128, few_step=n)
    hits = quality.nearest_has_base(quality.thumbnails(drawn), pack.thumbnails, pack.bases, [base for base, _, _ in asked])
    shares = {}
    for (_, name, _), hit in zip(asked, hits):
        if not hit:
            shares[name] = shares.get(name, 0) + 1 / (2 * draws)
    return shares


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--few-step-head", required=True)
    parser.add_argument("--few-step", type=int, default=1, choices=few_step.JUMPS)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own", type=int, nargs=2, default=(9, 40), help="pictures of each form by the head: of concepts missed in at most half of the draws, in more")
    parser.add_argument("--vanilla", type=int, nargs=2, default=(6, 6), help="the same by the vanilla sampler")
    parser.add_argument("--draws", type=int, default=1, help="pictures of each form by which a concept counts as missed")
    parser.add_argument("--limit", type=int, help="concepts to look at, for a quick try")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    pipeline, pack = Pipeline.load(args.model, args.few_step_head), quality.Pack(f"{args.model}/quality")
    first = 2 ** 34 + args.seed * 2 ** 24  # far from the seeds of the quality figures
    concepts = popular_concepts(data.load_rows(args.data))[:args.limit]
    shares = missed(pipeline, pack, concepts, args.draws, first, args.few_step)
    often = {name for name, share in shares.items() if share > 0.5}
    print(f"{len(shares)} of {len(concepts)} concepts missed, {sum(shares.values()) / len(concepts):.4f} of all pictures; in more than half of their draws: {', '.join(often)}", flush=True)
    parts = []
    for copies, n in ((args.own, args.few_step), (args.vanilla, 0)):
        prompts = [prompt for name in shares for prompt in forms(name) for _ in range(copies[name in often])]
        if prompts:
            begin = first + 2 ** 20 * (1 + len(parts))
            parts.append(roll_out(pipeline, prompts, list(range(begin, begin + len(prompts))), few_step=n))
    if not parts:
        raise SystemExit("nothing was missed, so there is nothing to write")
    c, empty = (torch.cat(both) for both in zip(*parts))
    safetensors_io.save(dict(c=c, empty=empty), args.out)
    print(f"{args.out}: {len(c)} pictures")


if __name__ == "__main__":
    main()
