"""Stage 1: the picture autoencoder. Stage 4 (--decoder-only): the decoder again, with the encoder frozen.

python train_vae.py --data DIR --run runs/vae --minutes 15
python train_vae.py --data DIR --run runs/kl --kl --init ../models/nextstep-emoji64 --minutes 15        TransDiff's, from what fits of the other's
"""
import argparse
import json
import math
import os

import numpy as np
import torch
from torch.nn import functional as F

import data
import vae
from run_log import Clock, Log, device, plot, save_checkpoint, use_threads


def loss_of(output, target, pooled_weight=1.0, edge_weight=0.5):
    """L1 on pixels, on 4x4 averages (colours at a glance) and on neighbour differences (edges)."""
    loss = (output - target).abs().mean()
    loss = loss + pooled_weight * (F.avg_pool2d(output, 4) - F.avg_pool2d(target, 4)).abs().mean()
    d = output - target
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return loss + edge_weight * edges


class Spikes:
    """How far single pixels stick out of the decoder's last layers, beyond `bearable` standard deviations of their channel.

    With 32 groups a norm of 32 channels takes each channel alone, and the cheapest way around it is one huge pixel that sets the channel's
    scale (as in StyleGAN's droplets, Karras 2020): a coloured speck in the picture. Watches the inputs of the norms at full size; without
    a decoder, nothing.
    """

    def __init__(self, decoder, bearable=6.0):
        self.bearable, self.seen = bearable, []
        for module in (*decoder.up[0].modules(), decoder.norm_out) if decoder else ():
            if isinstance(module, torch.nn.GroupNorm):
                module.register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0]))

    def loss(self):
        """Since the last call."""
        parts, self.seen = self.seen, []
        return sum(self.excess(x.float()) for x in parts) / len(parts) if parts else torch.zeros(())

    def excess(self, x):
        std, mean = torch.std_mean(x, (2, 3), keepdim=True)
        return F.relu(((x - mean) / (std + 1e-4)).abs().amax((2, 3)) - self.bearable).mean()


def worst(output, target, share=0.01):
    """The share of 4x4 blocks that are furthest off: specks are few and hardly move a mean."""
    blocks = F.avg_pool2d((output - target).abs().mean(1, keepdim=True), 4, 2).flatten(1)
    return blocks.topk(max(1, int(share * blocks.shape[1])), 1).values.mean()


def one_cycle(progress, peak):
    """progress in [0, 1): 5 % warm-up, then a cosine to zero."""
    return peak * (progress / 0.05 if progress < 0.05 else 0.5 + 0.5 * math.cos(math.pi * (progress - 0.05) / 0.95))


def noisy(z, largest_std, normalise):
    """The decoder must forgive what sampling leaves: noise of a random size, half the time normalised again."""
    std = torch.rand(z.shape[0], 1, 1, 1, device=z.device) * largest_std
    z = z + std * torch.randn_like(z)
    again = (torch.rand(z.shape[0], 1, 1, 1, device=z.device) < 0.5).float()
    return again * normalise(z) + (1 - again) * z


def psnr(model, pictures, where):
    training = model.training
    model.eval()
    with torch.no_grad():
        target = vae.to_pixels(pictures).to(where)
        output = model.decode(model.encode(target)).clamp(-1, 1)
        model.train(training)
        return float((10 * torch.log10(4 / (output - target).pow(2).mean((1, 2, 3)))).mean())


def decoder_of(model):
    return [p for name, p in model.named_parameters() if name.startswith(("decoder.", "post_quant_conv."))]


def model_of(args):
    """--init may be of the other family: then only what has the same name and shape is taken over."""
    init = vae.load(args.init) if args.init else None
    config = dict(vae.KL_CONFIG if args.kl else init.config if init else vae.CONFIG, **json.loads(args.config))
    if init and dict(init.config) == config:
        return init
    model = vae.make(config)
    if init:
        print(f"{vae.start_from(model, init)} of {len(model.state_dict())} tensors from {args.init}", flush=True)
    return model


def save(model, optimizer, step, clock, path):
    save_checkpoint(dict(model=model.state_dict(), config=model.config, optimizer=optimizer.state_dict(), step=step, seconds=clock.spent), path)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--init", help="checkpoint or model folder to start from")
    parser.add_argument("--kl", action="store_true", help="TransDiff's: f8, normalised by channel (vae.KL)")
    parser.add_argument("--config", default="{}", help="JSON, over the autoencoder's config")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.35, help="largest std of the latent noise, of latents of std 1")
    parser.add_argument("--decoder-only", action="store_true")
    parser.add_argument("--spikes", type=float, default=0.02, help="weight of the loss on single pixels that stick out inside the decoder")
    parser.add_argument("--worst", type=float, default=0.1, help="weight of the loss on the blocks that are furthest off")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-bf16", action="store_true")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    checkpoint = os.path.join(args.run, "last.pt")
    log = Log(os.path.join(args.run, "log.csv"))

    rows, pictures = data.load(args.data)
    ids = np.asarray(data.train_ids(rows))
    weights = data.sampling_weights([rows[i] for i in ids], popular_boost=4.0, style_weights={"3d": 2.0, "flat": 1.0, "noto": 1.0, "blob": 1.0, "mono": 0.4})
    held_out = pictures[[i for i, row in enumerate(rows) if row["style_split"] == "val"][::6]]

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = model_of(args).to(where).train(not args.decoder_only)
    tokens = vae.encode_all(pictures, model) if args.decoder_only else None
    side = math.isqrt(tokens.shape[1]) if args.decoder_only else None
    spikes = Spikes(model.decoder if args.spikes else None)
    parameters = decoder_of(model) if args.decoder_only else model.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    step, clock = 0, Clock()
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, map_location=where)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
        random = np.random.default_rng(step)

    budget, mean, since = args.minutes * 60, np.zeros(2), 0
    seconds_before = clock.spent
    while clock.tick() < budget:
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(clock.spent / budget, args.lr)
        chosen = random.choice(ids, args.batch, p=weights)
        target = vae.to_pixels(pictures[chosen]).to(where)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=not args.no_bf16):
            latents = vae.unpatchify(tokens[chosen].float(), side, side).to(where) if args.decoder_only else model.encode(target)
            output = model.decode(noisy(latents.float(), args.noise, model.normalise))
        loss, spike = loss_of(output.float(), target) + args.worst * worst(output.float(), target), spikes.loss()
        optimizer.zero_grad()
        (loss + args.spikes * spike).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, since, mean = step + 1, since + 1, mean + (float(loss.detach()), float(spike.detach()))
        if since == 100:
            clock.tick()
            log.add(step=step, loss=mean[0] / since, spikes=mean[1] / since, psnr=psnr(model, held_out, where), minutes=clock.spent / 60,
                    pictures_per_second=since * args.batch / (clock.spent - seconds_before))
            mean, since, seconds_before, spikes.seen = np.zeros(2), 0, clock.spent, []
        if step % 500 == 0:
            save(model, optimizer, step, clock, checkpoint)
    if args.kl and not args.decoder_only:
        model.measure(pictures[ids])
    save(model, optimizer, step, clock, checkpoint)
    plot(log.path, ["loss", "psnr"], os.path.join(args.run, "log.png"))


if __name__ == "__main__":
    main()
