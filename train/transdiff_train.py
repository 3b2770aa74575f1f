"""TransDiff's transformer and diffusion decoder on the frozen encoder's latents.

python transdiff_train.py --data DIR --vae runs/kl/last.pt --run runs/transdiff --minutes 90 --decay 12

A row of a batch is a class with the pictures of its four passes (transdiff_data.py). As train.py, it may be prolonged.
"""
import argparse
import json
import os
import time

import numpy as np
import torch
from torch import nn

import data
import transdiff_data
import transdiff_model as transdiff
import vae
from quality import nearest_has_base, thumbnails
from run_log import Log, device, use_threads
from train import Run, image_tokens, input_noise, work_through


class Trainee(nn.Module):
    """The network and, in training only, a linear guess of each pass's picture from the features it is drawn under (`mean`).

    Near t = 1/2 the noisy picture gives itself away, so that the flow loss alone tells the transformer little.
    forget: the share of rows whose references are mostly noise, so that the class must be read.
    """

    def __init__(self, config, noise, forget):
        super().__init__()
        self.net, self.noise, self.forget = transdiff.TransDiff(config).initialise(), noise, forget
        self.mean = nn.Linear(config["width"], 4 * config["vae_channels"])

    def features(self, labels, pictures):
        """-> (B, P, m, D), and the loss of the guess, over the rows with a class."""
        references = pictures[:, :-1]
        std = input_noise(len(labels), self.noise, self.forget, most=1.5).to(references.device)[..., None]
        f = self.net.features(labels, references + std * torch.randn_like(references))
        known = (labels >= 0).float()
        error = (self.mean(f).float() - pictures).pow(2).mean((1, 2, 3))
        return f, (error * known).sum() / known.sum().clamp(min=1)

    def forward(self, labels, pictures, passes):
        """labels (B,), -1: no class; pictures (B, P, m, 64); passes: those whose flow loss is taken -> flow, mean.

        All of a row's passes share its features; a mask keeps each from later ones.
        """
        net, (b, p, m, _) = self.net, pictures.shape
        f, mean = self.features(labels, pictures)
        chosen = torch.tensor(passes, device=f.device)
        data_ = transdiff.tokens(pictures[:, chosen].flatten(0, 1), net.config)                                    # (B P', N, 16)
        t = torch.sigmoid(torch.randn(len(data_), device=f.device))[:, None, None]                                 # logit-normal
        noise = torch.randn_like(data_)
        mask = transdiff.block_mask(chosen.repeat_interleave(data_.shape[1]), torch.arange(p, device=f.device).repeat_interleave(m))
        decoder = net.diffdecoder.net
        condition = decoder.condition(net.positioned(f.flatten(1, 2)))
        v = decoder.velocity((1 - t) * data_ + t * noise, 1000 * t[:, 0, 0], condition, mask)
        return (v - (noise - data_)).pow(2).mean(), mean


class Batches:
    """Rows (label, class) at random, every class as often as another; `drop` of the labels are -1."""

    def __init__(self, classes, size, seed, drop=0.1):
        self.classes, self.size, self.drop, self.random, self.ready = classes, size, drop, np.random.default_rng(seed), []

    def next(self):
        while len(self.ready) < self.size:
            self.ready += self.random.permutation(self.classes).tolist()
        index, self.ready = torch.tensor(self.ready[:self.size]), self.ready[self.size:]
        dropped = torch.from_numpy(self.random.random(self.size) < self.drop)
        return torch.where(dropped, -1, index), index


def draw_passes(random, draws, count):
    """The picture that was asked for is the last pass's: half of the draws and more are its."""
    return [count - 1 if random.random() < 0.5 else int(random.integers(0, count)) for _ in range(draws)]


def drawn_classes(pipeline, chosen, rows, pictures, count, path, **options):
    """`count` classes drawn, and the last pictures looked up among the training pictures: a rough adherence, and at `path` a sheet to look at."""
    from PIL import Image
    from sample import sheet
    labels = np.linspace(0, len(chosen) - 1, count).astype(int).tolist()
    latents = pipeline.latents(labels, list(range(count)), **options)
    drawn = np.stack([pipeline.decode(latents[:, i]) for i in range(latents.shape[1])], 1)
    train = data.train_ids(rows)
    hits = nearest_has_base(thumbnails(drawn[:, -1]), thumbnails(pictures[train]), [rows[i]["base"] for i in train], [rows[chosen[i][-1]]["base"] for i in labels])
    shown = np.concatenate([pictures[[chosen[i][-1] for i in labels]][:, None], drawn], 1).reshape(-1, 64, 64, 3)
    Image.fromarray(sheet(shown, 4 * (1 + latents.shape[1]))).save(path)
    return float(np.mean(hits))


def probe(run, autoencoder, chosen, rows, pictures, args, probes):
    from transdiff_sample import Pipeline
    start = time.time()
    pipeline = Pipeline(run.ema, autoencoder, dict(timesteps=8, guidance_scale=1.3, scale_0=1.0, scale_1=1.0))
    adherence = drawn_classes(pipeline, chosen, rows, pictures, args.probe_classes, os.path.join(args.run, f"probe_{run.step:06d}.png"))
    probes.add(step=run.step, minutes=run.clock.spent / 60, adherence=adherence, seconds=time.time() - start)
    run.ema.train()


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--vae", required=True, help="checkpoint of train_vae.py --kl, or a model folder")
    parser.add_argument("--run", required=True)
    parser.add_argument("--init", help="a model folder whose weights to start from")
    parser.add_argument("--config", default="{}", help="JSON, over transdiff_model.CONFIG")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--until", type=float, help="end at this time (seconds since 1970) instead of after --minutes; --decay then counts back from it")
    parser.add_argument("--warmup", type=float, default=1.5, help="minutes")
    parser.add_argument("--decay", type=float, default=12, help="minutes")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--draws", type=int, default=1, help="passes a row whose flow loss is taken")
    parser.add_argument("--read", type=int, default=32, help="rows a step of which the transformer's guess is trained only: a third of the work")
    parser.add_argument("--draw-from", type=int, default=0, help="step before which only the guess is trained")
    parser.add_argument("--lr", type=float, default=2.5e-3, help="Muon's")
    parser.add_argument("--adam-lr", type=float, default=1.5e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--noise", type=float, default=0.3, help="largest std of the noise on references, of latents of std 1")
    parser.add_argument("--forget", type=float, default=0.2, help="share of rows whose references are mostly noise")
    parser.add_argument("--mean-weight", type=float, default=1.0)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--probe-minutes", type=float, default=10)
    parser.add_argument("--probe-classes", type=int, default=48)
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile the blocks (torch 2, a C++ compiler)")
    parser.add_argument("--no-bf16", action="store_true")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    log, probes = Log(os.path.join(args.run, "log.csv")), Log(os.path.join(args.run, "probe.csv"))

    rows, pictures = data.load(args.data)
    chosen = transdiff_data.passes_of(rows)
    autoencoder = vae.load(args.vae).to(where).eval()
    side = transdiff.side_of(dict(transdiff.CONFIG, image_size=autoencoder.config["resolution"], vae_ch_mult=autoencoder.config["ch_mult"]))
    tokens = image_tokens(pictures, autoencoder, os.path.join(args.run, "tokens.pt"))[torch.tensor(chosen)]          # (classes, P, m, 64)
    config = dict(transdiff.CONFIG, num_classes=len(chosen), **json.loads(args.config))
    assert side == transdiff.side_of(config) and tokens.shape[1] == config["ar_steps"]
    torch.manual_seed(args.seed)
    run = Run(args, Trainee(config, args.noise, args.forget).to(where), where, transdiff.EDGES)
    if args.compile:
        for part in [*run.trainee.net.encoder_blocks, *run.trainee.net.diffdecoder.net.res_blocks]:
            part.forward = torch.compile(part.forward)
    batches = Batches(len(chosen), args.batch, args.seed + run.step)
    readings = Batches(len(chosen), args.read, args.seed + run.step + 1, drop=0.0) if args.read else None
    random, nothing = np.random.default_rng(args.seed + run.step), torch.zeros(())
    print(f"{sum(p.numel() for p in run.ema.parameters()) / 1e6:.2f}M parameters, {len(chosen)} classes, from step {run.step}", flush=True)

    def step():
        total, parts = 0.0, dict(flow=nothing, guess=nothing, read=nothing)
        if run.step >= args.draw_from:
            labels, index = batches.next()
            passes = draw_passes(random, args.draws, config["ar_steps"])
            parts["flow"], parts["guess"] = run.trainee(labels.to(where), tokens[index].to(where), passes)
            total = parts["flow"] + args.mean_weight * parts["guess"]
        if readings:
            labels, index = readings.next()
            parts["read"] = run.trainee.features(labels.to(where), tokens[index].to(where))[1]
            total = total + args.mean_weight * parts["read"]
        return total, parts

    work_through(run, args, where, log, step, lambda: probe(run, autoencoder, chosen, rows, pictures, args, probes), "rows_per_second", ["flow", "read"])


if __name__ == "__main__":
    main()
