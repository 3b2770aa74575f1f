"""Two figures for a set of generated pictures, from the model folder's quality/ alone (docs/contract.md, Quality).

adherence: share of 200 popular concepts whose picture has the asked base concept among its 5 nearest training pictures
           (L2 on 16x16 RGB over white).
FD:        Frechet distance of 48 features of a small CNN to those of real pictures, with a bootstrap 95 % interval.

python quality.py --model ../models/nextstep-emoji64                        draws by itself (slow) and scores
python quality.py --model ... --list adherence > prompts.tsv                id, seed, prompt of what must be drawn
python quality.py --model ... --pictures DIR --fd-pictures DIR              scores DIR/<id>.png, or one .npz/.npy of (N, 64, 64, 3) uint8
"""
import argparse
import json
import os

import numpy as np
import torch
from torch.nn import functional as F

import safetensors_io
from run_log import device


class Pack:
    """quality/: thumbnails.png + thumbnails.json, features.safetensors, concepts.json, fd_prompts.json."""

    def __init__(self, folder):
        from PIL import Image
        about = json.load(open(os.path.join(folder, "thumbnails.json")))
        self.bases, size = about["bases"], about["size"]
        sheet = np.asarray(Image.open(os.path.join(folder, "thumbnails.png")).convert("RGB"))
        columns, rows = sheet.shape[1] // size, sheet.shape[0] // size
        tiles = sheet.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 3)
        self.thumbnails = tiles[:len(self.bases)]
        tensors = safetensors_io.load(os.path.join(folder, "features.safetensors"))
        self.reference = tensors.pop("mean").double().numpy(), tensors.pop("covariance").double().numpy()
        self.cnn = {name: tensor.float() for name, tensor in tensors.items()}
        self.concepts = json.load(open(os.path.join(folder, "concepts.json")))
        self.fd_prompts = json.load(open(os.path.join(folder, "fd_prompts.json")))


def features(cnn, pictures, batch=256):
    """(N, 64, 64, 3) uint8 -> (N, 48). Four convolutions (3x3, stride 2, padding 1) with ReLU, mean over positions, one linear layer."""
    parts = []
    with torch.no_grad():
        for begin in range(0, len(pictures), batch):
            x = torch.from_numpy(pictures[begin:begin + batch]).permute(0, 3, 1, 2).float() / 127.5 - 1
            parts.append(embed(cnn, x))
    return torch.cat(parts).double().numpy()


def embed(cnn, x):
    for i in range(4):
        x = F.relu(F.conv2d(x, cnn[f"conv{i}.weight"], cnn[f"conv{i}.bias"], stride=2, padding=1))
    return F.linear(x.mean((2, 3)), cnn["linear.weight"], cnn["linear.bias"])


def thumbnails(pictures, size=16):
    """(N, 64, 64, 3) uint8 -> (N, size, size, 3) uint8 by averaging, rounded half to even."""
    n, h, w, _ = pictures.shape
    return np.round(pictures.reshape(n, size, h // size, size, w // size, 3).mean((2, 4))).astype(np.uint8)


def nearest_has_base(drawn, known, bases, asked, k=5):
    """drawn (B, 16, 16, 3), known (N, 16, 16, 3) uint8; bases (N), asked (B) -> (B,) bool: asked[b] among the k nearest."""
    a, b = drawn.reshape(len(drawn), -1).astype(np.float64), known.reshape(len(known), -1).astype(np.float64)
    distance = (b * b).sum(1)[None] - 2 * a @ b.T
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.array([asked[i] in {bases[j] for j in nearest[i]} for i in range(len(a))])


def adherence(pack, pictures):
    return nearest_has_base(thumbnails(pictures), pack.thumbnails, pack.bases, [c["base"] for c in pack.concepts])


def frechet(mean, covariance, reference):
    """|m - m'|^2 + tr(C + C' - 2 sqrt(C' C)); the root by the symmetric form sqrt(sqrt(C') C sqrt(C'))."""
    other_mean, other = reference
    values, vectors = np.linalg.eigh(other)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root).clip(0)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other) - 2 * cross)


def fd(pack, pictures, resamples=200):
    """-> FD and its bootstrap 95 % interval."""
    f = features(pack.cnn, pictures)
    random = np.random.default_rng(0)
    values = []
    for _ in range(resamples):
        sample = f[random.integers(0, len(f), len(f))]
        values.append(frechet(sample.mean(0), np.cov(sample.T), pack.reference))
    return frechet(f.mean(0), np.cov(f.T), pack.reference), np.percentile(values, [2.5, 97.5])


def fd_difference(pack, pictures, others, resamples=200):
    """FD of pictures minus that of others, drawn for the same prompts and resampled together, with its 95 % interval."""
    f, g = (features(pack.cnn, p) for p in (pictures, others))
    at = lambda rows: frechet(rows.mean(0), np.cov(rows.T), pack.reference)
    random, values = np.random.default_rng(0), []
    for _ in range(resamples):
        index = random.integers(0, len(f), len(f))
        values.append(at(f[index]) - at(g[index]))
    return at(f) - at(g), np.percentile(values, [2.5, 97.5])


def read_pictures(path, count):
    from PIL import Image
    if path.endswith((".npz", ".npy")):
        loaded = np.load(path)
        return (loaded if path.endswith(".npy") else loaded[loaded.files[0]])[:count]
    return np.stack([np.asarray(Image.open(os.path.join(path, f"{i}.png")).convert("RGB")) for i in range(count)])


def pipeline_of(folder, few_step_head):
    """What draws prompts with this folder's model: for a model of classes, their names."""
    if os.path.exists(os.path.join(folder, "classes.json")):
        from transdiff_sample import NamePipeline
        named = NamePipeline(folder, few_step_head)
        parts = named.pipeline.network, named.pipeline.vae, named.pipeline.few_step_decoder
    else:
        from sample import Pipeline
        named = Pipeline.load(folder, few_step_head)
        parts = named.network, named.vae, named.few_step_head
    for part in parts:
        if part is not None:
            part.to(device())
    return named


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--list", choices=["adherence", "fd"])
    parser.add_argument("--pictures", help="pictures of the 200 concepts, drawn elsewhere")
    parser.add_argument("--fd-pictures", help="pictures of the FD prompts, drawn elsewhere")
    parser.add_argument("--fd-count", type=int, default=0, help="FD prompts to draw here (2000 for the figure; each takes about 0.2 s)")
    parser.add_argument("--batch", type=int, default=64, help="pictures drawn at once")
    parser.add_argument("--timesteps", type=int)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--few-step", type=int, default=0, choices=(0, 1, 2, 4), help="jumps a token, or a pass, by the few-step network instead of the sampler")
    parser.add_argument("--few-step-head", help="its weights, if not in the folder's accelerator/")
    parser.add_argument("--save", help="write what was drawn here as .npz")
    parser.add_argument("--save-fd", help="the same for FD's pictures")
    parser.add_argument("--versus", help="FD's pictures drawn in another way for the same prompts: print the difference too")
    args = parser.parse_args(argv)
    pack = Pack(os.path.join(args.model, "quality"))
    listed = dict(adherence=pack.concepts, fd=pack.fd_prompts)
    if args.list:
        for i, entry in enumerate(listed[args.list]):
            print(i, entry["seed"], entry["prompt"], sep="\t")
        return

    pipeline = None if args.pictures or args.fd_pictures else pipeline_of(args.model, args.few_step_head)

    def drawn(entries):
        few_step = dict(few_step=args.few_step) if args.few_step else {}
        return pipeline.draw([e["prompt"] for e in entries], [e["seed"] for e in entries], batch=args.batch, timesteps=args.timesteps, guidance_scale=args.guidance_scale,
                             **few_step)

    if pipeline or args.pictures:
        pictures = read_pictures(args.pictures, len(pack.concepts)) if args.pictures else drawn(pack.concepts)
        hits = adherence(pack, pictures)
        bare = np.array(["style" not in c["prompt"] for c in pack.concepts])
        forms = "" if bare.all() else f"bare captions {hits[bare].mean():.3f}, with a style {hits[~bare].mean():.3f}, "
        print(f"adherence {hits.mean():.3f}  ({forms}{len(hits)} concepts)")
        if args.save:
            np.savez_compressed(args.save, pictures=pictures)
    if args.fd_pictures or args.fd_count:
        pictures = read_pictures(args.fd_pictures, len(pack.fd_prompts)) if args.fd_pictures else drawn(pack.fd_prompts[:args.fd_count])
        value, (low, high) = fd(pack, pictures)
        print(f"FD {value:.3f}  (95 % {low:.3f} to {high:.3f}, {len(pictures)} pictures)")
        if args.versus:
            value, (low, high) = fd_difference(pack, pictures, read_pictures(args.versus, len(pictures)))
            print(f"FD difference {value:.3f}  (95 % {low:.3f} to {high:.3f}, the same prompts)")
        if args.save_fd:
            np.savez_compressed(args.save_fd, pictures=pictures)


if __name__ == "__main__":
    main()
