"""Cuts sample_data/ out of the whole set: 200 pictures, same files, new ids. For the smoke test; far too few to train on.

python make_sample.py --data DIR --out sample_data
"""
import argparse
import json
import os
import shutil

import numpy as np
from PIL import Image

import data
from sample import sheet


def pick(rows, count=200):
    """Popular concepts, all styles of each, so that style and concept can both be told apart; a few held-out pictures among them."""
    random = np.random.default_rng(7)
    by_base = {}
    for row in rows:
        if row["popular"] and not row["skin_tone"]:
            by_base.setdefault(row["base"], []).append(row)
    held_out = lambda group: any(row["style_split"] != "train" for row in group)
    groups = [by_base[base] for base in sorted(by_base)]
    groups = [groups[i] for i in random.permutation(len(groups))]
    chosen = [group for group in groups if held_out(group)][:24] + [group for group in groups if not held_out(group)]
    flat = [row for group in chosen for row in group][:count]
    return sorted(flat, key=lambda row: row["id"])


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    os.makedirs(args.out, exist_ok=True)
    rows, pictures = data.load(args.data)
    chosen = pick(rows)
    Image.fromarray(sheet(pictures[[row["id"] for row in chosen]], 32)).save(os.path.join(args.out, "rgb_00.png"), optimize=True)
    with open(os.path.join(args.out, "captions.jsonl"), "w") as file:
        for new_id, row in enumerate(chosen):
            file.write(json.dumps(dict(row, id=new_id), separators=(",", ":")) + "\n")
    for name in sorted(os.listdir(args.data)):
        if name == "NOTICE" or name.startswith("LICENSE"):
            shutil.copyfile(os.path.join(args.data, name), os.path.join(args.out, name))
    print({style: sum(row["style"] == style for row in chosen) for style in data.STYLES},
          {split: sum(row["style_split"] == split for row in chosen) for split in ("train", "val", "test")})


if __name__ == "__main__":
    main()
