"""Adherence of the styles that the figure of quality.py leaves out: its concepts, each in one of the other styles, in turn.

python style_adherence.py --data DIR --model ../models/nextstep-emoji64                     draws by itself (slow) and scores
python style_adherence.py --data DIR --model ... --list > prompts.tsv                       index, seed, prompt of what must be drawn
python style_adherence.py --data DIR --model ... --pictures DIR                             scores DIR/<index>.png, or one .npz/.npy
"""
import argparse
import os

import numpy as np

import data
import quality

SEED = 1


def prompts(rows, concepts):
    """-> (rows of the asked pictures, prompts); a concept that lacks its style is left out."""
    asked, others = [], [style for style in data.STYLES if style != "3d"]
    first = {}
    for row in rows:
        if row["popular"] and not row["skin_tone"]:
            first.setdefault((row["base"], row["style"]), row)
    for i, concept in enumerate(concepts):
        row = first.get((concept["base"], others[i % len(others)]))
        if row:
            asked.append(row)
    return asked, [f"{row['name']}, {data.style_words(row)}" for row in asked]


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--pictures")
    args = parser.parse_args(argv)
    pack = quality.Pack(os.path.join(args.model, "quality"))
    asked, texts = prompts(data.load_rows(args.data), pack.concepts)
    if args.list:
        for i, text in enumerate(texts):
            print(i, SEED, text, sep="\t")
        return
    if args.pictures:
        pictures = quality.read_pictures(args.pictures, len(asked))
    else:
        from sample import Pipeline
        pictures = Pipeline.load(args.model).draw(texts, [SEED] * len(texts))
    hits = quality.nearest_has_base(quality.thumbnails(pictures), pack.thumbnails, pack.bases, [row["base"] for row in asked])
    share = lambda of: f"{np.mean([hit for hit, row in zip(hits, asked) if of(row)] or [0]):.3f} of {sum(map(of, asked))}"
    print(f"adherence {hits.mean():.3f} of {len(hits)}; style seen with the concept {share(lambda row: row['style_split'] == 'train')}, held out "
          + share(lambda row: row["style_split"] != "train") + "; " + ", ".join(f"{s} {share(lambda row: row['style'] == s)}" for s in data.STYLES[1:]))


if __name__ == "__main__":
    main()
