"""What the draft model learns from: pictures that the target drew by itself, and the target's features on them.

python draft_data.py --data EMOJI64 --model ../models/nextstep-emoji64 --pictures 2000 --out runs/drawn-vanilla.safetensors
python draft_data.py ... --few-step 1 --seed 1 --out runs/drawn-few.safetensors

The file: tokens (pictures, tokens, D) float16 as they are fed back, and the captions.
"""
import argparse
import json

import torch

import model as nextstep
import safetensors_io
from draft_model import attention_entropy
from rollouts import arguments, prepare
from run_log import device
from sample import left_pad


def save_drawn(prompts, tokens, path):
    text = torch.frombuffer(bytearray(json.dumps(prompts).encode()), dtype=torch.uint8)
    safetensors_io.save(dict(tokens=tokens.half(), captions=text), path)


def load_drawn(paths):
    """-> captions, tokens of all files."""
    prompts, tokens = [], []
    for path in paths:
        stored = safetensors_io.load(path)
        prompts += json.loads(bytes(stored["captions"].numpy()))
        tokens.append(stored["tokens"])
    return prompts, torch.cat(tokens)


class Features:
    """The frozen target's features of all positions of drawn pictures, prompts padded on the left to one width.

    features (N, P + L, H) float16 of the caption's row; inputs are made again from ids and tokens; empty (N, L, H): features of the empty
    prompt's row from which tokens 1 … L are drawn. begin = P - 1: the position of the first token's feature.
    """

    @torch.no_grad()
    def __init__(self, pipeline, prompts, tokens, batch=128, grid=8):
        net, tokenizer = pipeline.network, pipeline.tokenizer
        where = net.embed_tokens.weight.device
        rows = [tokenizer.prompt(p, grid, grid) for p in prompts]
        self.ids, self.valid = left_pad(rows, tokenizer.pad)
        self.tokens, self.width, self.length = tokens, self.ids.shape[1], tokens.shape[1]
        self.begin = self.width - 1
        empty = torch.tensor([tokenizer.prompt(pipeline.defaults["negative_prompt"], grid, grid)])
        features, unguided, entropy = [], [], []
        layer = net.layers[-2]
        for at in range(0, len(prompts), batch):
            part = slice(at, at + batch)
            with torch.autocast(where.type, dtype=torch.bfloat16):
                drawn = net.image_in_projector(tokens[part].to(where).float())
                x = torch.cat([net.embed_tokens(self.ids[part].to(where)), drawn], 1)
                mask = nextstep.causal_mask(self.padded(part).to(where))
                h, before = net.hidden(x, mask, tap=len(net.layers) - 3)
                before = x if before is None else before                 # a target of two layers: the penultimate is the first
                features.append(h.half().cpu())
                table = rotary(net.config, x.shape[1], where)
                entropy.append(attention_entropy(layer, before, table, mask, self.width, self.length).float().cpu())
                own = net.embed_tokens(empty.to(where)).expand(len(drawn), -1, -1)
                u = net.hidden(torch.cat([own, drawn], 1), nextstep.causal_mask(torch.ones(1, own.shape[1] + self.length, dtype=torch.bool, device=where)))
                unguided.append(u[:, own.shape[1] - 1:-1].half().cpu())
        self.features, self.empty = torch.cat(features), torch.cat(unguided)
        # Per image token, the target's penultimate attention over the image tokens up to it.
        self.entropy = torch.cat(entropy).mean(0)

    def padded(self, part):
        valid = self.valid[part]
        return torch.cat([valid, torch.ones(len(valid), self.length, dtype=torch.bool)], 1)


def rotary(config, length, where):
    return nextstep.rope_table(0, length, config["head_dim"], config["rope_theta"], where)


def main(argv=None):
    parser = argparse.ArgumentParser()
    arguments(parser, pictures=2000)
    parser.add_argument("--batch", type=int, default=250)
    args = parser.parse_args(argv)
    pipeline, prompts = prepare(args)
    where = device()
    parts = []
    first = 2 ** 33 + args.seed * 2 ** 20
    for at in range(0, len(prompts), args.batch):
        seeds = list(range(first + at, first + min(at + args.batch, len(prompts))))
        with torch.autocast(where.type, dtype=torch.bfloat16):
            parts.append(pipeline.tokens(prompts[at:at + args.batch], seeds, few_step=args.few_step).float().cpu())
        save_drawn(prompts[:at + len(seeds)], torch.cat(parts), args.out)
        print(f"{args.out}: {at + len(seeds)} pictures", flush=True)


if __name__ == "__main__":
    main()
