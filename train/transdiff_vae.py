"""TransDiff's f8 autoencoder out of NextStep's f4 one, at a fraction of the work of training it on pixels.

python transdiff_vae.py --data DIR --from ../models/nextstep-emoji64 --run runs/kl --minutes 5

The outer levels, which see the most pixels, are taken over and stay as they are. The inner ones learn to pass on, through 16 numbers a place
instead of 64, what the f4 one has between its own outer levels: the features of 16x16 places that its last two levels make a picture of.
train_vae.py --decoder-only then trains the decoder on pixels.
"""
import argparse
import os

import numpy as np
import torch
from torch.nn import functional as F

import data
import vae
from run_log import Clock, Log, device, plot, save_checkpoint, use_threads
from train_vae import noisy, one_cycle, psnr

OUTER = 2                                                   # levels, of both, that stay


def outside(encoder, x):
    """Pixels -> what enters the first inner level."""
    h = encoder.conv_in(x)
    for level in encoder.down[:OUTER]:
        h = level(h)
    return h


def encode_inside(encoder, h):
    for level in encoder.down[OUTER:]:
        h = level(h)
    return encoder.conv_out(F.silu(encoder.norm_out(encoder.mid(h))))


def decode_inside(decoder, z):
    """Latents -> what the last inner level hands to its upsampling, which stays too."""
    h = decoder.mid(decoder.conv_in(z))
    for level in reversed(decoder.up[OUTER + 1:]):
        h = level(h)
    for block in decoder.up[OUTER].block:
        h = block(h)
    return h


def inner_parameters(model):
    stays = ("encoder.conv_in.", *(f"encoder.down.{l}." for l in range(OUTER)), *(f"decoder.up.{l}." for l in range(OUTER)), f"decoder.up.{OUTER}.upsample.",
             "decoder.norm_out.", "decoder.conv_out.")
    return [p for name, p in model.named_parameters() if not name.startswith(stays)]


@torch.no_grad()
def features_of(known, pictures, where, bf16, batch=64):
    """-> inputs and targets of the inner levels, (N, channels, 16, 16) in half precision."""
    inputs, targets = [], []
    for begin in range(0, len(pictures), batch):
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
            h = outside(known.encoder, vae.to_pixels(pictures[begin:begin + batch]).to(where))
            z = known.normalise(encode_inside(known.encoder, h)[:, :known.config["z_channels"]])
            target = decode_inside(known.decoder, z)
        inputs.append(h.half())
        targets.append(target.half())
    return torch.cat(inputs), torch.cat(targets)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--from", dest="source", required=True, help="model folder or checkpoint of the f4 autoencoder")
    parser.add_argument("--run", required=True)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.3, help="largest std of the latent noise, of latents of std 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-bf16", action="store_true")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where, bf16 = device(), not args.no_bf16
    os.makedirs(args.run, exist_ok=True)
    checkpoint, log = os.path.join(args.run, "last.pt"), Log(os.path.join(args.run, "log.csv"))

    rows, pictures = data.load(args.data)
    ids = np.asarray(data.train_ids(rows))
    weights = data.sampling_weights([rows[i] for i in ids], popular_boost=4.0, style_weights={"3d": 2.0, "flat": 1.0, "noto": 1.0, "blob": 1.0, "mono": 0.4})
    held_out = pictures[[i for i, row in enumerate(rows) if row["style_split"] == "val"][::6]]
    known = vae.load(args.source).to(where).eval()
    config = dict(vae.KL_CONFIG, ch=known.config["ch"], ch_mult=known.config["ch_mult"] + [2 * known.config["ch_mult"][-1]])

    inputs, targets = features_of(known, pictures[ids], where, bf16)
    scale = 1 / targets[::8].float().std((0, 2, 3), keepdim=True)

    torch.manual_seed(0)
    model = vae.KL(config).to(where).train()
    vae.start_from(model, known)
    parameters = inner_parameters(model)
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    step, clock = 0, Clock()
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, map_location=where)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
    random = np.random.default_rng(step)
    save = lambda: save_checkpoint(dict(model=model.state_dict(), config=model.config, optimizer=optimizer.state_dict(), step=step, seconds=clock.spent), checkpoint)

    budget, mean, since, mark = args.minutes * 60, 0.0, 0, clock.spent
    while clock.tick() < budget:
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(clock.spent / budget, args.lr)
        chosen = torch.from_numpy(random.choice(len(ids), args.batch, p=weights))
        entering = inputs[chosen].float().requires_grad_()      # not needed, but PyTorch 2.13's GroupNorm on the CPU crashes without
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
            z = model.normalised(encode_inside(model.encoder, entering))
            output = decode_inside(model.decoder, model.post_quant_conv(noisy(z, args.noise, model.normalise)))
        loss = ((output.float() - targets[chosen].float()) * scale).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, since, mean = step + 1, since + 1, mean + float(loss.detach())
        if since == 100:
            clock.tick()
            log.add(step=step, loss=mean / since, psnr=psnr(model, held_out, where), minutes=clock.spent / 60, pictures_per_second=since * args.batch / (clock.spent - mark))
            mean, since, mark = 0.0, 0, clock.tick()
        if step % 500 == 0:
            save()
    model.measure(pictures[ids])
    save()
    plot(log.path, ["loss", "psnr"], os.path.join(args.run, "log.png"))


if __name__ == "__main__":
    main()
