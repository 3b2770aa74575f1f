"""Makes a model folder's quality/ from the data set: everything quality.py needs, so that figures need no data outside the repository.

python quality_pack.py --data DIR --out ../models/nextstep-emoji64/quality
python quality_pack.py --data DIR --out ../models/transdiff-emoji64/quality --classes --features ../models/nextstep-emoji64/quality

--classes: for a model of classes. Prompts are their names, and FD's reference is all their 3d pictures: it draws nothing else, so a distance to pictures of
five styles would mostly measure that. The concepts of adherence are the same 200.
"""
import argparse
import json
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import data
import safetensors_io
import transdiff_data
from quality import embed, features, thumbnails
from run_log import use_threads

WIDTHS, FEATURES = (3, 24, 48, 64, 96), 48


class Classifier(nn.Module):
    """The CNN of quality.embed with heads for subgroup and style, which are dropped afterwards."""

    def __init__(self, subgroups, styles):
        super().__init__()
        for i in range(4):
            self.add_module(f"conv{i}", nn.Conv2d(WIDTHS[i], WIDTHS[i + 1], 3, stride=2, padding=1))
        self.linear = nn.Linear(WIDTHS[-1], FEATURES)
        self.heads = nn.ModuleList([nn.Linear(FEATURES, subgroups), nn.Linear(FEATURES, styles)])

    def forward(self, x):
        h = F.relu(embed(dict(self.named_parameters()), x))
        return [head(h) for head in self.heads]


def train_cnn(rows, pictures, epochs, batch=64):
    """Concept groups: the Unicode subgroup (about 90), and the style. Random shifts keep it from reading single pixels."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    subgroups = sorted({row["subgroup"] for row in rows})
    labels = torch.tensor([[subgroups.index(row["subgroup"]), data.STYLES.index(row["style"])] for row in rows])
    net = Classifier(len(subgroups), len(data.STYLES))
    steps = epochs * (len(rows) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    loss_schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    for step in range(steps):
        ids = random.integers(0, len(rows), batch)
        x = torch.from_numpy(pictures[ids]).permute(0, 3, 1, 2).float() / 127.5 - 1
        dx, dy = random.integers(-4, 5, 2)
        x = F.pad(x, (4, 4, 4, 4), value=1.0)[:, :, 4 + dy:68 + dy, 4 + dx:68 + dx]
        group, style = net(x)
        loss = F.cross_entropy(group, labels[ids, 0]) + 0.3 * F.cross_entropy(style, labels[ids, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_schedule.step()
        if step % 200 == 0:
            hit = float((group.argmax(1) == labels[ids, 0]).float().mean())
            print(f"step {step} of {steps}  loss {float(loss.detach()):.3f}  subgroup right {hit:.2f}", flush=True)
    return {name: p.detach() for name, p in net.named_parameters() if not name.startswith("heads")}


def pick_concepts(rows, styled=True, count=200):
    """`count` popular base concepts in 3d, drawn once; if `styled`, every other one is asked with its style."""
    random, first = np.random.default_rng(2024), {}
    for row in rows:
        if row["popular"] and row["style"] == "3d" and not row["skin_tone"] and row["base"] not in first:
            first[row["base"]] = row
    chosen = [list(first.values())[i] for i in random.permutation(len(first))[:count]]
    return [dict(prompt=row["name"] + (", 3d style" if styled and i % 2 else ""), base=row["base"], picture=row["id"], seed=1000 + i)
            for i, row in enumerate(chosen)]


def pick_fd_prompts(reference, styled=True, count=2000):
    """Name and style of the reference pictures, drawn once, so that a perfect model would make the reference's distribution."""
    random = np.random.default_rng(2025)
    chosen = [reference[i] for i in random.integers(0, len(reference), count)]
    return [dict(prompt=row["captions"][0] + (f", {data.style_words(row)}" if styled else ""), seed=100000 + i) for i, row in enumerate(chosen)]


def thumbnail_sheet(tiles, columns=84):
    rows = -(-len(tiles) // columns)
    size = tiles.shape[1]
    sheet = np.full((rows * columns, size, size, 3), 255, np.uint8)
    sheet[:len(tiles)] = tiles
    return sheet.reshape(rows, columns, size, size, 3).transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)


def reference_ids(rows, train, classes):
    """Held-out pictures and as many of the training part; of a model of classes all that it may draw."""
    if classes:
        return [row["id"] for row in transdiff_data.class_rows(rows)]
    held_out = [row["id"] for row in rows if row["style_split"] != "train"]
    return held_out + np.random.default_rng(2023).permutation(train)[:len(held_out)].tolist()


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--classes", action="store_true", help="for a model of classes (transdiff_data.py)")
    parser.add_argument("--features", help="another model's quality/ whose feature network is taken, scale and all, instead of training one")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    from PIL import Image
    use_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)
    rows, pictures = data.load(args.data)
    ids = data.train_ids(rows)
    train = [rows[i] for i in ids]
    Image.fromarray(thumbnail_sheet(thumbnails(pictures[ids]))).save(os.path.join(args.out, "thumbnails.png"), optimize=True)
    write(dict(size=16, bases=[row["base"] for row in train]), args.out, "thumbnails.json")

    reference = reference_ids(rows, ids, args.classes)
    if args.features:
        cnn = {k: v for k, v in safetensors_io.load(os.path.join(args.features, "features.safetensors")).items() if k not in ("mean", "covariance")}
    else:
        cnn = train_cnn(train, pictures[ids], args.epochs)
        scale = 1.0 / features(cnn, pictures[reference]).std(0).mean()    # features of std about 1, so that FD has a scale
        cnn["linear.weight"], cnn["linear.bias"] = cnn["linear.weight"] * scale, cnn["linear.bias"] * scale
    f = features(cnn, pictures[reference])
    tensors = dict(cnn, mean=torch.from_numpy(f.mean(0)).float(), covariance=torch.from_numpy(np.cov(f.T)).float())
    safetensors_io.save(tensors, os.path.join(args.out, "features.safetensors"))
    write(pick_concepts(train, not args.classes), args.out, "concepts.json")
    write(pick_fd_prompts([rows[i] for i in reference], not args.classes), args.out, "fd_prompts.json")
    print(f"{len(train)} thumbnails, {len(reference)} reference pictures,",
          f"{sum(os.path.getsize(os.path.join(args.out, n)) for n in os.listdir(args.out)) / 1e6:.1f} MB")


def write(value, *path):
    """One entry a line, so that the files can be read and compared."""
    with open(os.path.join(*path), "w") as file:
        if isinstance(value, list):
            file.write("[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]\n")
        else:
            json.dump(value, file, separators=(",", ":"))
            file.write("\n")


if __name__ == "__main__":
    main()
