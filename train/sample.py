"""Reference sampling: prompts and seeds -> image tokens -> pictures, in float32, with sampler B and the engine's own noise.

python sample.py --model ../models/nextstep-emoji64 --prompt "red apple, 3d style" --seed 1 --out apple.png
python sample.py ... --few-step 1                           by jumps of the few-step head in the folder's accelerator/
"""
import argparse
import json
import os

import numpy as np
import torch
from torch.nn import functional as F

import few_step as jumps
import model as nextstep
import philox
import safetensors_io
import vae
from tokenizer import PromptTokenizer


class Pipeline:
    """A model folder, ready to draw."""

    def __init__(self, network, autoencoder, tokenizer, defaults, few_step_head=None):
        self.network, self.vae, self.tokenizer, self.defaults = network.eval(), autoencoder.eval(), tokenizer, defaults
        self.few_step_head = few_step_head

    @classmethod
    def load(cls, folder, few_step_path=None):
        """few_step_path: a few-step head elsewhere than in the folder's accelerator/."""
        network = nextstep.NextStep(json.load(open(os.path.join(folder, "config.json"))))
        load_into(network, safetensors_io.load(os.path.join(folder, "model.safetensors")))
        autoencoder = vae.VAE(json.load(open(os.path.join(folder, "vae", "config.json"))))
        load_into(autoencoder, safetensors_io.load(os.path.join(folder, "vae", "model.safetensors")))
        defaults = json.load(open(os.path.join(folder, "sampling.json")))
        few_step_path = few_step_path or os.path.join(folder, "accelerator", jumps.FILE)
        few_step_head = jumps.load(few_step_path) if os.path.exists(few_step_path) else None
        return cls(network, autoencoder, PromptTokenizer(os.path.join(folder, "tokenizer.json")), defaults, few_step_head)

    def draw(self, prompts, seeds, batch=64, **options):
        """-> (len(prompts), 64, 64, 3) uint8."""
        pictures = []
        for begin in range(0, len(prompts), batch):
            tokens = self.tokens(prompts[begin:begin + batch], seeds[begin:begin + batch], **options)
            pictures.append(self.decode(tokens))
        return np.concatenate(pictures)

    @torch.no_grad()
    def decode(self, tokens, h=8, w=8):
        where = next(self.vae.parameters()).device
        z = vae.unpatchify(tokens.to(where), h, w)
        return vae.to_uint8(self.vae.decode(z / self.vae.config["scaling_factor"] + self.vae.config["shift_factor"]))

    @torch.no_grad()
    def tokens(self, prompts, seeds, h=8, w=8, negative=None, few_step=0, record=None, **options):
        """-> (B, h w, D). The rows of a picture, its caption's and the negative prompt's, see the same image tokens.

        few_step: jumps a token, by the few-step head, whose weights hold the guidance: one row a picture; 0 = sampler B.
        record: called with each token's conditions; a few-step picture then has its second row too.
        """
        o = dict(self.defaults, **{k: v for k, v in options.items() if v is not None})
        negative = o["negative_prompt"] if negative is None else negative
        guided = record is not None if few_step else o["guidance_scale"] > 1
        rows = [self.tokenizer.prompt(p, h, w) for p in prompts] + ([self.tokenizer.prompt(negative, h, w)] * len(prompts) if guided else [])
        net = self.network
        where = net.embed_tokens.weight.device
        ids, valid = left_pad(rows, self.tokenizer.pad)
        ids, valid = ids.to(where), valid.to(where)
        caches = [[] for _ in net.layers]
        hidden = net.hidden(net.embed_tokens(ids), nextstep.causal_mask(valid), caches=caches)[:, -1]
        drawn, length = [], h * w
        for n in range(length):
            conditions = net.image_out_projector(hidden)
            if record is not None:
                record(conditions)
            if few_step:
                token = jumps.draw(self.few_step_head, initial_noise(net, seeds, n), conditions[:len(prompts)], few_step)
            else:
                scale = guidance_at(n, length, o["guidance_scale"], o["guidance_schedule"])
                token = sample_token(net, conditions, seeds, n, o["timesteps"], o["timestep_shift"], scale if guided else 1.0)
            if o["use_norm"]:
                token = F.layer_norm(token, token.shape[-1:], eps=1e-6)
            drawn.append(token)
            if n + 1 == length:
                break
            position = ids.shape[1] + n
            valid = torch.cat([valid, torch.ones_like(valid[:, :1])], 1)
            mask = torch.zeros(valid.shape, device=where).masked_fill(~valid, -1e4)[:, None, None]
            embedding = net.image_in_projector(torch.cat([token, token]) if guided else token)[:, None]
            hidden = net.hidden(embedding, mask, position, caches)[:, -1]
        return torch.stack(drawn, 1)


def load_into(module, tensors):
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


def left_pad(rows, pad):
    """Rotary positions are relative and padded keys are masked, so this equals every row alone from position 0."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    valid = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return ids, valid


def guidance_at(n, length, scale, schedule):
    return 1 + (scale - 1) * (length - n) / length if schedule == "linear" else scale


def time_grid(timesteps, shift):
    """Grid B: sh(k / N) for k < N, then 1."""
    t = np.arange(timesteps + 1, dtype=np.float64) / timesteps
    return np.append((t / (shift - (shift - 1) * t))[:-1], 1.0)


def initial_noise(net, seeds, token):
    """-> (B, D): what token number `token` of each picture starts from."""
    weight = net.image_in_projector.weight
    return torch.from_numpy(philox.normals(seeds, philox.INITIAL, [0], token, weight.shape[1])[:, 0]).to(weight.device)


def sample_token(net, conditions, seeds, token, timesteps, shift, scale):
    """Sampler B. conditions (B or 2B, H): captions, then negatives -> (B, D)."""
    count, width = len(seeds), net.image_in_projector.weight.shape[1]
    where, head, grid = conditions.device, net.image_head.net, time_grid(timesteps, shift)
    x = initial_noise(net, seeds, token)
    noise = torch.from_numpy(philox.normals(seeds, philox.TIMESTEP, range(timesteps), token, width)).to(where)
    for k in range(timesteps):
        t, dt = grid[k], grid[k + 1] - grid[k]
        time = torch.full((len(conditions),), t, dtype=torch.float32, device=where)
        v = head(torch.cat([x, x]) if len(conditions) > count else x, time, conditions).float()
        if len(conditions) > count:
            v = v[count:] + scale * (v[:count] - v[count:])
        x = x + ((1 + t) * v - x) * dt + (2 * (1 - t) * dt) ** 0.5 * noise[:, k]
    return x


def sheet(pictures, columns):
    """(N, H, W, 3) -> one picture, row by row, white where there are none."""
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    out = np.full((rows * columns, h, w, 3), 255, np.uint8)
    out[:n] = pictures
    return out.reshape(rows, columns, h, w, 3).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3)


def read_prompts(path):
    """Lines of kind<TAB>prompt<TAB>picture id, as eval_prompts.txt has them, or plain prompts; # begins a comment."""
    lines = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8") if line.strip() and not line.startswith("#")]
    return [parts[1] if len(parts) > 1 else parts[0] for parts in lines]


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", default="red apple, 3d style")
    parser.add_argument("--prompts", help="a file of prompts, all drawn with --seed, into one sheet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=1, help="pictures of --prompt, seeds counting up")
    parser.add_argument("--timesteps", type=int)
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--few-step", type=int, default=0, choices=(0, *jumps.JUMPS), help="jumps a token; 0: sampler B")
    parser.add_argument("--few-step-head", help="weights elsewhere than in the folder's accelerator/")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--out", default="sample.png")
    args = parser.parse_args(argv)
    from PIL import Image
    prompts = read_prompts(args.prompts) if args.prompts else [args.prompt] * args.n
    seeds = [args.seed] * len(prompts) if args.prompts else [args.seed + i for i in range(args.n)]
    pictures = Pipeline.load(args.model, args.few_step_head).draw(prompts, seeds, timesteps=args.timesteps, guidance_scale=args.guidance_scale,
                                                                     few_step=args.few_step)
    Image.fromarray(sheet(pictures, min(args.columns, len(prompts)))).save(args.out)


if __name__ == "__main__":
    main()
