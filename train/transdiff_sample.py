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
import transdiff_few_step
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


def in_passes(net, rows, count, draw, record=None):
    """Pass by pass, each on the pictures of those before -> (B, count, N, 16).

    rows: B labels, or 2B, the null class's behind. draw(i, z): the picture (B, N, 16) of pass i under the condition z of all rows.
    record: called with each pass's transformer features (B or 2B, m, D).
    """
    caches, features, drawn, picture = [[] for _ in net.encoder_blocks], [], [], None
    for i in range(count):
        features.append(net.next_features(rows, picture, caches))
        if record:
            record(features[-1])
        drawn.append(draw(i, net.positioned(torch.cat(features, 1))))
        picture = transdiff.patches(drawn[-1], net.config)
        picture = picture.repeat(len(rows) // len(picture), 1, 1)
    return torch.stack(drawn, 1)


class Pipeline:
    """A model folder, ready to draw. defaults: sampling.json."""

    def __init__(self, network, autoencoder, defaults, few_step_decoder=None):
        self.network, self.vae, self.defaults, self.few_step_decoder = network.eval(), autoencoder.eval(), defaults, few_step_decoder

    @classmethod
    def load(cls, folder, few_step_path=None):
        """few_step_path: a few-step decoder elsewhere than in the folder's accelerator/."""
        with open(os.path.join(folder, "config.json")) as file:
            network = transdiff.TransDiff(json.load(file))
        load_into(network, safetensors_io.load(os.path.join(folder, "model.safetensors")))
        few_step_path = few_step_path or os.path.join(folder, "accelerator", transdiff_few_step.FILE)
        decoder = transdiff_few_step.load(few_step_path, network.config) if os.path.exists(few_step_path) else None
        with open(os.path.join(folder, "sampling.json")) as file:
            return cls(network, vae.load(folder), json.load(file), decoder)

    def draw(self, labels, seeds, batch=64, **options):
        """-> (len(labels), 64, 64, 3) uint8: the last pass's pictures."""
        return np.concatenate([self.decode(self.latents(labels[i:i + batch], seeds[i:i + batch], **options)[:, -1]) for i in range(0, len(labels), batch)])

    @torch.no_grad()
    def decode(self, latents):
        """(B, N, 16) -> (B, 64, 64, 3) uint8."""
        side = transdiff.side_of(self.network.config)
        return vae.to_uint8(self.vae.decode(latents.transpose(1, 2).unflatten(2, (side, side)) / self.network.config["vae_scale"]))

    @torch.no_grad()
    def latents(self, labels, seeds, few_step=0, record=None, **options):
        """-> (B, passes, N, 16). few_step: jumps a pass, by the few-step decoder, whose weights hold the guidance: one row a picture; 0 = the sampler."""
        o = dict(self.defaults, **{k: v for k, v in options.items() if v is not None})
        net, c = self.network, self.network.config
        tokens, cfg, where = transdiff.side_of(c) ** 2, 1.0 if few_step else o["guidance_scale"], net.fake_latent.device
        rows = torch.tensor(list(labels) + ([-1] * len(labels) if cfg > 1 else []), device=where)
        start = initial_noise(seeds, tokens, c["vae_channels"]).to(where)

        def sampled(i, z):
            noise = step_noise(seeds, o["timesteps"], i, tokens, c["vae_channels"]).to(where)
            decoder = net.diffdecoder.net
            return integrate(decoder, decoder.condition(z), start, lambda k: noise[k], o["timesteps"], cfg, o["scale_0"], o["scale_1"])

        def jumped(_, z):
            return transdiff_few_step.draw(self.few_step_decoder, start, z, few_step)

        return in_passes(net, rows, c["ar_steps"], jumped if few_step else sampled, record)


class NamePipeline:
    """Draws classes by name or synonym."""

    def __init__(self, folder, few_step_path=None):
        self.pipeline, self.labels = Pipeline.load(folder, few_step_path), {}
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
    parser.add_argument("--few-step", type=int, default=0, choices=(0, *transdiff_few_step.JUMPS), help="jumps a pass by the few-step decoder, instead of the sampler")
    parser.add_argument("--few-step-head", help="its weights, if not in the folder's accelerator/")
    parser.add_argument("--passes", action="store_true", help="show the reference passes too")
    parser.add_argument("--out", default="sample.png")
    args = parser.parse_args(argv)
    from PIL import Image
    named = NamePipeline(args.model, args.few_step_head)
    names = read_prompts(args.names) if args.names else [args.name] * args.n
    seeds = [args.seed] * len(names) if args.names else [args.seed + i for i in range(args.n)]
    latents = named.pipeline.latents([named.labels[name] for name in names], seeds, timesteps=args.timesteps, guidance_scale=args.guidance_scale,
                                     few_step=args.few_step)
    passes = latents.shape[1] if args.passes else 1
    Image.fromarray(sheet(named.pipeline.decode(latents[:, -passes:].flatten(0, 1)), passes * min(8 // passes, len(names)))).save(args.out)


if __name__ == "__main__":
    main()
