"""Reference sampling of TransDiff: classes and seeds -> latents of all passes -> pictures, in float32, with the engine's own noise.

python transdiff_sample.py --model ../models/transdiff-emoji64 --name "red apple" --seed 1 --out apple.png
python transdiff_sample.py --model ../models/transdiff-emoji64 --names eval_classes.txt --passes --out passes.png       four pictures of each
"""
import argparse
import json
import os

import numpy as np
import torch

import philox
import safetensors_io
import transdiff_model as transdiff
import vae
from sample import load_into, read_prompts, sheet

LAST_T = 0.04                                             # the last step goes from here to 0, without noise


def time_grid(steps):
    """t_0 = 1 down to t_{n-1} = 0.04 in equal steps, then 0: (steps + 1,) float32."""
    inner = np.linspace(1, LAST_T, steps) if steps > 1 else np.ones(1)
    return np.append(inner, 0.0).astype(np.float32)


def initial_noise(seeds, tokens, channels):
    """One noise for all passes of a picture: (B, N, 16)."""
    return torch.from_numpy(philox.normals(seeds, philox.INITIAL, [0], 0, tokens * channels)[:, 0]).unflatten(1, (tokens, channels))


def step_noise(seeds, steps, pass_, tokens, channels):
    """(steps - 1, B, N, 16)."""
    noise = torch.from_numpy(philox.normals(seeds, philox.TIMESTEP, range(steps - 1), pass_, tokens * channels))
    return noise.unflatten(2, (tokens, channels)).transpose(0, 1)


@torch.no_grad()
def integrate(decoder, condition, x, noise, steps, cfg, scale_0, scale_1):
    """Euler-Maruyama from t = 1 to 0. condition: of B rows, or of 2B, the null class's behind, if cfg > 1; x (B, N, 16); noise(i) -> (B, N, 16)."""
    grid, guided = time_grid(steps), cfg > 1
    for i in range(steps):
        t, dt = float(grid[i]), float(grid[i + 1] - grid[i])
        rows = torch.cat([x, x]) if guided else x
        v = decoder.velocity(rows, torch.full((len(rows),), 1000 * t, device=x.device), condition)
        drift = (2 - t) * v + rows
        if guided:
            with_class, without = drift.chunk(2)
            drift = without + cfg * (with_class - without)
        x = x + drift * dt if i == steps - 1 else x + scale_0 * dt * drift + scale_1 * (2 * t * -dt) ** 0.5 * noise(i)
    return x


class Pipeline:
    """A model folder, ready to draw. defaults: sampling.json."""

    def __init__(self, network, autoencoder, defaults):
        self.network, self.vae, self.defaults = network.eval(), autoencoder.eval(), defaults

    @classmethod
    def load(cls, folder):
        with open(os.path.join(folder, "config.json")) as file:
            network = transdiff.TransDiff(json.load(file))
        load_into(network, safetensors_io.load(os.path.join(folder, "model.safetensors")))
        with open(os.path.join(folder, "sampling.json")) as file:
            return cls(network, vae.load(folder), json.load(file))

    def draw(self, labels, seeds, batch=64, **options):
        """-> (len(labels), 64, 64, 3) uint8: the last pass's pictures."""
        return np.concatenate([self.decode(self.latents(labels[i:i + batch], seeds[i:i + batch], **options)[:, -1]) for i in range(0, len(labels), batch)])

    @torch.no_grad()
    def decode(self, latents):
        """(B, N, 16) -> (B, 64, 64, 3) uint8."""
        side = transdiff.side_of(self.network.config)
        return vae.to_uint8(self.vae.decode(latents.transpose(1, 2).unflatten(2, (side, side)) / self.network.config["vae_scale"]))

    @torch.no_grad()
    def latents(self, labels, seeds, record=None, **options):
        """-> (B, passes, N, 16). record: called with each pass's transformer features (B or 2B, m, D)."""
        o = dict(self.defaults, **{k: v for k, v in options.items() if v is not None})
        net, c = self.network, self.network.config
        side, cfg, count = transdiff.side_of(c), o["guidance_scale"], len(labels)
        where = net.fake_latent.device
        rows = torch.tensor(list(labels) + ([-1] * count if cfg > 1 else []), device=where)
        caches = [[] for _ in net.encoder_blocks]
        start = initial_noise(seeds, side ** 2, c["vae_channels"]).to(where)
        features, drawn, picture = [], [], None
        for i in range(c["ar_steps"]):
            features.append(net.next_features(rows, picture, caches))
            if record:
                record(features[-1])
            condition = net.diffdecoder.net.condition(net.positioned(torch.cat(features, 1)))
            noise = step_noise(seeds, o["timesteps"], i, side ** 2, c["vae_channels"]).to(where)
            x = integrate(net.diffdecoder.net, condition, start, lambda k: noise[k], o["timesteps"], cfg, o["scale_0"], o["scale_1"])
            drawn.append(x)
            picture = vae.patchify(x.transpose(1, 2).unflatten(2, (side, side)))
            picture = torch.cat([picture, picture]) if cfg > 1 else picture
        return torch.stack(drawn, 1)


class NamePipeline:
    """Draws classes by name or synonym."""

    def __init__(self, folder):
        self.pipeline, self.labels = Pipeline.load(folder), {}
        with open(os.path.join(folder, "classes.json")) as file:
            for entry in json.load(file)["classes"]:
                for name in (entry["name"], *entry["synonyms"]):
                    self.labels[name] = entry["index"]

    def draw(self, names, seeds, **options):
        return self.pipeline.draw([self.labels[name] for name in names], seeds, **options)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", default="red apple", help="a class's name")
    parser.add_argument("--names", help="a file of names, all drawn with --seed, into one sheet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1, help="pictures of --name, seeds counting up")
    parser.add_argument("--timesteps", type=int)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--passes", action="store_true", help="show the reference passes too")
    parser.add_argument("--out", default="sample.png")
    args = parser.parse_args(argv)
    from PIL import Image
    named = NamePipeline(args.model)
    names = read_prompts(args.names) if args.names else [args.name] * args.n
    seeds = [args.seed] * len(names) if args.names else [args.seed + i for i in range(args.n)]
    latents = named.pipeline.latents([named.labels[name] for name in names], seeds, timesteps=args.timesteps, guidance_scale=args.guidance_scale)
    passes = latents.shape[1] if args.passes else 1
    Image.fromarray(sheet(named.pipeline.decode(latents[:, -passes:].flatten(0, 1)), passes * min(8 // passes, len(names)))).save(args.out)


if __name__ == "__main__":
    main()
