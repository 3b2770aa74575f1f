"""Stage 2: backbone and flow head on the frozen encoder's tokens.

python train.py --data DIR --vae runs/vae/last.pt --tokenizer runs/tokenizer.json --run runs/main --minutes 100 --decay 15

The learning rate is constant and falls only in the last --decay minutes, so a run may be prolonged: start again with more --minutes.
"""
import argparse
import copy
import json
import os
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import data
import model as nextstep
import muon
import safetensors_io
import vae
from norms import LayerNorm
from quality import nearest_has_base, thumbnails
from run_log import Clock, Log, device, minutes_left, plot, save_checkpoint, use_threads
from sample import left_pad
from tokenizer import PromptTokenizer


STYLES = '{"3d": 6, "flat": 0.3, "noto": 0.3, "blob": 0.2, "mono": 0.15}'
AREA = 5                                             # ids of "<|image_area|>8*8" and begin-of-image


class Example:
    """Everything a step reads, in memory: tokens (N, 64, 64), thumbnails (N, 768), which tokens are blank, captions per picture."""

    def __init__(self, rows, pictures, autoencoder, tokenizer, cache):
        self.tokens = image_tokens(pictures, autoencoder, cache)
        patches = pictures.reshape(len(pictures), 8, 8, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(pictures), 64, -1)
        self.blank = torch.from_numpy((patches.min(-1) == 255))
        self.thumbnails = torch.from_numpy(thumbnails(pictures).reshape(len(pictures), -1)).float() / 127.5 - 1
        self.captions = []
        for row in rows:
            pairs = data.captions_of(row)
            weights = np.array([w for _, w in pairs])
            self.captions.append(([tokenizer.encode(c) for c, _ in pairs], weights / weights.sum()))
        self.area = tokenizer.area(8, 8)


def image_tokens(pictures, autoencoder, cache):
    if cache and os.path.exists(cache):
        return torch.load(cache).float()
    tokens = vae.encode_all(pictures, autoencoder)
    if cache:
        torch.save(tokens, cache)
    return tokens.float()


class Batches:
    """Endless batches of (prompt ids, valid, picture ids), captions of like length together; a tenth of them empty."""

    def __init__(self, example, ids, weights, tokenizer, size, seed, drop=0.1, together=8):
        self.example, self.ids, self.weights, self.pad = example, np.asarray(ids), weights, tokenizer.pad
        self.size, self.drop, self.together, self.random = size, drop, together, np.random.default_rng(seed)
        self.ready = []

    def next(self):
        if not self.ready:
            self.ready = self.draw()
        return self.ready.pop()

    def draw(self):
        pairs = []
        for picture in self.random.choice(self.ids, self.size * self.together, p=self.weights):
            captions, weights = self.example.captions[picture]
            caption = captions[self.random.choice(len(captions), p=weights)]
            pairs.append(([] if self.random.random() < self.drop else caption, picture))
        pairs.sort(key=lambda pair: len(pair[0]))
        batches = []
        for begin in range(0, len(pairs), self.size):
            part = pairs[begin:begin + self.size]
            ids, valid = left_pad([caption + self.example.area for caption, _ in part], self.pad)
            batches.append((ids, valid, torch.tensor([int(picture) for _, picture in part])))
        self.random.shuffle(batches)
        return batches


def input_noise(rows, usual, forget, most=2.5):
    """-> (rows, 1, 1): std of the noise on input tokens of std 1. Up to `usual`; up to `most` for the share `forget` of the rows."""
    std = torch.rand(rows, 1, 1)
    return torch.where(torch.rand(rows, 1, 1) < forget, usual + std * (most - usual), std * usual)


class Trainee(nn.Module):
    """The network and, in training only, two probes and a forgetful memory.

    aux:    at the boi position of a middle layer, it must know the whole picture (16x16 RGB). Without it the caption is learned
            last: given the true tokens before, the next one hardly needs it.
    mean:   a linear guess of the next token. Near t = 1/2 the noisy token gives itself away, so that the flow loss alone
            tells the backbone little.
    forget: the share of rows whose earlier tokens are noise mostly, so that the plan made from the caption must be read.
    settled: False while the probes, which no export keeps, are new on a trained network: they learn, it does not follow them.
    """

    def __init__(self, config, tap, forget):
        super().__init__()
        self.net, self.tap, self.forget, self.settled = nextstep.NextStep(config).initialise(), tap, forget, True
        h = config["hidden_size"]
        self.aux = nn.Sequential(LayerNorm(h), nn.Linear(h, 2 * h), nn.SiLU(), nn.Linear(2 * h, 768))
        self.mean = nn.Linear(h, config["latent_channels"] * config["latent_patch_size"] ** 2)

    def forward(self, ids, valid, tokens, thumbnails, blank, repeats, noise):
        """-> losses of flow, plan and mean. tokens (B, L, D); blank (B, L): tokens of pure background, a third of which is enough."""
        net, (b, length, d) = self.net, tokens.shape
        std = input_noise(b, noise, self.forget).to(tokens.device)
        seen = F.layer_norm(tokens[:, :-1] + std * torch.randn_like(tokens[:, :-1]), (d,), eps=1e-6)
        x = torch.cat([net.embed_tokens(ids), net.image_in_projector(seen)], 1)
        valid = torch.cat([valid, torch.ones(b, length - 1, dtype=torch.bool, device=valid.device)], 1)
        hidden, tapped = net.hidden(x, nextstep.causal_mask(valid), tap=self.tap)
        hidden = hidden[:, -length:].reshape(b * length, -1)
        c = net.image_out_projector(hidden)

        index, blank = torch.arange(b * length, device=c.device), blank.reshape(-1)
        index = torch.cat([index[blank][::3], index[~blank].repeat(repeats)])
        target = tokens.reshape(b * length, d)[index]
        t = torch.sigmoid(torch.randn(len(index), device=c.device))
        start = torch.randn_like(target)
        v = net.image_head.net(t[:, None] * target + (1 - t[:, None]) * start, t, c[index])
        flow = (v.float() - (target - start)).pow(2).mean()
        drawn = ~blank
        mean = self.mean((hidden if self.settled else hidden.detach())[drawn])
        mean = (mean.float() - tokens.reshape(b * length, d)[drawn]).pow(2).mean()
        return flow, self.plan_loss(tapped[:, ids.shape[1] - 1], valid[:, :ids.shape[1]], thumbnails), mean

    def read(self, ids, valid, thumbnails):
        """The probe's loss for captions alone: a tenth of the work of a picture, so many more of them fit into a step."""
        hidden = self.net.hidden(self.net.embed_tokens(ids), nextstep.causal_mask(valid), stop=self.tap + 1)
        return self.plan_loss(hidden[:, -1], valid, thumbnails)

    def plan_loss(self, at_boi, valid, thumbnails):
        captioned = valid.sum(1) > AREA                                    # an empty caption names no picture
        error = (self.aux(at_boi if self.settled else at_boi.detach()).float() - thumbnails).pow(2).mean(1)
        return (error * captioned).sum() / captioned.sum().clamp(min=1)


def schedule(clock, args):
    """Warm-up, constant, linear to zero."""
    return max(0.0, min(1.0, (clock.spent / 60 + 0.02) / args.warmup, minutes_left(clock, args.minutes, args.until) / max(args.decay, 1e-6)))


class Run:
    """Weights (trainee.net is what is exported), their EMA, two optimizers, and the clock; saved and found again as one file."""

    def __init__(self, args, trainee, where, edges=muon.EDGES):
        self.trainee = trainee
        if args.init:
            self.trainee.net.load_state_dict({k: v.float() for k, v in safetensors_io.load(os.path.join(args.init, "model.safetensors")).items()})
        inside, rest = muon.split(self.trainee, edges)
        self.optimizers = [muon.Muon(inside, args.lr, weight_decay=args.weight_decay),
                           torch.optim.AdamW(rest, args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]
        self.ema = copy.deepcopy(self.trainee.net).requires_grad_(False)
        self.fresh = not args.init                         # a trained network's EMA needs no quick start
        self.step, self.clock, self.path = 0, Clock(), os.path.join(args.run, "last.pt")
        if os.path.exists(self.path):
            state = torch.load(self.path, map_location=where)
            self.trainee.load_state_dict(state["trainee"], strict=False)
            self.ema.load_state_dict(state["ema"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            self.step, self.clock = state["step"], Clock(state["seconds"])
            torch.manual_seed(args.seed + self.step)

    def set_rates(self, *rates):
        for optimizer, rate in zip(self.optimizers, rates):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def move(self, loss, ema):
        """One step down the loss; the EMA follows."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.trainee.zero_grad(set_to_none=True)
        self.step += 1
        self.follow(ema)

    def save(self, path=None):
        self.clock.tick()
        save_checkpoint(dict(trainee=self.trainee.state_dict(), ema=self.ema.state_dict(), optimizers=[o.state_dict() for o in self.optimizers],
                             step=self.step, seconds=self.clock.spent, config=self.trainee.net.config), path or self.path)

    @torch.no_grad()
    def follow(self, decay):
        decay = min(decay, (1 + self.step) / (10 + self.step)) if self.fresh else decay
        for slow, fast in zip(self.ema.parameters(), self.trainee.net.parameters()):
            slow.lerp_(fast, 1 - decay)


def work_through(run, args, where, log, step, probe, pace, plotted):
    """The budget of args, step by step, with a row of the log every 50, and run saved and probed by the clock.

    step() -> the loss, and its parts by name, which the log has the means of; pace: the column that says how many rows of args.batch a second.
    """
    clock, sums, count, mark = run.clock, {}, 0, run.clock.spent
    saved = probed = clock.spent
    drawing = lambda: plot(log.path, [*plotted, pace], os.path.join(args.run, "log.png"))
    while minutes_left(clock, args.minutes, args.until) > 0:
        clock.tick()
        rate = schedule(clock, args)
        run.set_rates(args.lr * rate, args.adam_lr * rate)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=not args.no_bf16):
            loss, parts = step()
        run.move(loss, args.ema)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        if count == 50:
            clock.tick()
            log.add(step=run.step, **{name: value / count for name, value in sums.items()}, minutes=clock.spent / 60, lr=args.lr * rate,
                    **{pace: count * args.batch / (clock.spent - mark)})
            sums, count, mark = {}, 0, clock.spent
        if clock.spent - saved > args.save_minutes * 60:
            run.save()
            drawing()
            saved = clock.spent
        if clock.spent - probed > args.probe_minutes * 60:
            probe()
            probed = mark = clock.tick()
    run.save()
    probe()
    drawing()


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--vae", required=True, help="checkpoint of train_vae.py, or a model folder")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--init", help="a model folder whose weights to start from")
    parser.add_argument("--config", default="{}", help="JSON, over model.CONFIG")
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--until", type=float, help="end at this time (seconds since 1970) instead of after --minutes; --decay then counts back from it")
    parser.add_argument("--warmup", type=float, default=1.5, help="minutes")
    parser.add_argument("--decay", type=float, default=15, help="minutes")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2.5e-3, help="Muon's")
    parser.add_argument("--adam-lr", type=float, default=1.5e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--noise", type=float, default=0.3, help="largest std of the noise on input tokens, of tokens of std 1")
    parser.add_argument("--repeats", type=int, default=2, help="times drawn for a token that is not blank")
    parser.add_argument("--forget", type=float, default=0.35, help="share of rows whose earlier tokens are mostly noise")
    parser.add_argument("--aux-weight", type=float, default=1.0)
    parser.add_argument("--mean-weight", type=float, default=1.0)
    parser.add_argument("--captions", type=int, default=16, help="captions a step that are read only, for the probe")
    parser.add_argument("--tap", type=int, default=5)
    parser.add_argument("--settle", type=int, default=150, help="with --init: steps in which the new probes learn alone")
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--popular", type=float, default=8.0, help="weight of a popular concept; others have --rest")
    parser.add_argument("--rest", type=float, default=0.25)
    parser.add_argument("--styles", default=STYLES)
    parser.add_argument("--probe-minutes", type=float, default=15)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers and the head (torch 2, a C++ compiler): a quarter faster, a minute's start")
    parser.add_argument("--no-bf16", action="store_true")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    log, probes = Log(os.path.join(args.run, "log.csv")), Log(os.path.join(args.run, "probe.csv"))

    tokenizer = PromptTokenizer(args.tokenizer)
    rows, pictures = data.load(args.data)
    autoencoder = vae.load(args.vae).to(where)
    example = Example(rows, pictures, autoencoder, tokenizer, os.path.join(args.run if os.path.isdir(args.vae) else os.path.dirname(args.vae), "tokens.pt"))
    ids = [i for i in data.train_ids(rows) if example.captions[i][0]]
    weights = data.sampling_weights([rows[i] for i in ids], args.popular, args.rest, json.loads(args.styles))
    config = dict(nextstep.CONFIG, vocab_size=tokenizer.vocab_size, **json.loads(args.config))
    torch.manual_seed(args.seed)
    run = Run(args, Trainee(config, args.tap, args.forget).to(where), where)
    if args.compile:
        for part in [*run.trainee.net.layers, run.trainee.net.image_head.net]:
            part.forward = torch.compile(part.forward, dynamic=True)
    batches = Batches(example, ids, weights, tokenizer, args.batch, args.seed + run.step)
    captions = Batches(example, ids, weights, tokenizer, args.captions, args.seed + run.step + 1, drop=0.0, together=4)
    print(f"{sum(p.numel() for p in run.ema.parameters()) / 1e6:.2f}M parameters, {len(ids)} pictures, from step {run.step}", flush=True)

    def step():
        run.trainee.settled = run.fresh or run.step >= args.settle
        prompt, valid, picture = batches.next()
        flow, aux, guess = run.trainee(prompt.to(where), valid.to(where), example.tokens[picture].to(where), example.thumbnails[picture].to(where),
                                example.blank[picture].to(where), args.repeats, args.noise)
        if args.captions:
            prompt, valid, picture = captions.next()
            aux = 0.3 * aux + 0.7 * run.trainee.read(prompt.to(where), valid.to(where), example.thumbnails[picture].to(where))
        return flow + args.aux_weight * aux + args.mean_weight * guess, dict(flow=flow, aux=aux, mean=guess)

    work_through(run, args, where, log, step, lambda: probe(run, autoencoder, tokenizer, rows, pictures, args, probes), "pictures_per_second", ["flow", "aux"])


def probe(run, autoencoder, tokenizer, rows, pictures, args, probes):
    """40 popular concepts, the styles in turn, drawn and looked up among the training pictures: a rough adherence, and a sheet to look at."""
    from PIL import Image
    from sample import Pipeline, sheet
    start = time.time()
    asked, prompts = probe_prompts(rows)
    pipeline = Pipeline(run.ema, autoencoder, tokenizer, dict(timesteps=12, timestep_shift=1.0, guidance_scale=2.0, use_norm=True,
                                                              guidance_schedule="constant", negative_prompt=""))
    drawn = pipeline.draw(prompts, list(range(len(prompts))))
    train = data.train_ids(rows)
    hits = nearest_has_base(thumbnails(drawn), thumbnails(pictures[train]), [rows[i]["base"] for i in train], [r["base"] for r in asked])
    both = np.stack([pictures[[row["id"] for row in asked]], drawn], 1).reshape(-1, 64, 64, 3)
    Image.fromarray(sheet(both, 2 * len(data.STYLES))).save(os.path.join(args.run, f"probe_{run.step:06d}.png"))
    default = np.array([row["style"] == data.STYLES[0] for row in asked])
    probes.add(step=run.step, minutes=run.clock.spent / 60, adherence=float(np.mean(hits)), default_style=float(np.mean(hits[default])),
               seconds=time.time() - start)
    run.ema.train()


def probe_prompts(rows):
    """-> (rows, prompts): every 11th popular concept, in the next style each time; the default style by the bare name."""
    plain = [row for row in rows if row["popular"] and not row["skin_tone"]]
    found = {(row["base"], row["style"]): row for row in reversed(plain)}
    asked = []
    for i, row in enumerate([row for row in plain if row["style"] == data.STYLES[0]][::11][:40]):
        asked.append(found.get((row["base"], data.STYLES[i % len(data.STYLES)]), row))
    return asked, [row["name"] + (f", {data.style_words(row)}" if row["style"] != data.STYLES[0] else "") for row in asked]


if __name__ == "__main__":
    main()
