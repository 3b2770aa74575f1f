"""How far a draft model is from its target, before any engine runs it: what acceptance and speed are to be expected.

python draft_report.py --model ../models/nextstep-emoji64 --draft runs/draft --few-step runs/few --drawn runs/held-few.safetensors
python draft_report.py ... --sampler --drawn runs/held-vanilla.safetensors

Rounds are played at several places of pictures that training has not seen: pairs with the target's features up to the newest token, then drafts,
then the target's conditions on these very drafts. Per draft: the distance that acceptance is decided by (docs/speculation.md), which is the
RMS distance of the two tokens from one noise for a few-step head, and the path gap D for the model's own sampler.
From them: tokens a round, and by the costs of the parts, tokens a millisecond.
"""
import argparse
import csv
import math
import os

import numpy as np
import torch
from torch.nn import functional as F

import draft_model
import few_step
import model as nextstep
from draft_data import Features, load_drawn, rotary
from draft_losses import SamplerB, guided
from draft_model import attention_entropy
from run_log import device, use_threads
from sample import Pipeline

DRAFTING, TOLERANCES = ("sequential", "parallel"), (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
# ms, batch 1, on two cores: a plain backbone row, more rows of it, the few-step head and its batch, the draft's pass and its batch of 8.
COSTS = dict(backbone=0.135, row=0.02, head=0.05, heads=0.09, draft=0.03, drafts=0.06)


class FewStepDraws:
    """One jump a token; the statistic is the RMS distance of the tokens."""

    def __init__(self, head):
        self.head = head

    def draw(self, c, noise):
        """-> the token as the head gives it, and what judge needs."""
        x = few_step.draw(self.head, noise[0], c, 1)
        return x, (noise[0], x)

    def judge(self, drawn, c, empty):
        noise, x = drawn
        return (few_step.draw(self.head, noise, c, 1) - x).pow(2).mean(-1).sqrt()


class SamplerDraws:
    """Sampler B by the draft head; the statistic is D = sqrt(sum_k |b_k (v_p - v_q) / gamma_k|^2), unclamped, at the draft's states."""

    def __init__(self, target, draft_head, sampler, scale):
        self.target, self.head, self.sampler, self.scale = target, draft_head, sampler, scale

    def draw(self, c, noise):
        x, states, velocities = noise[0], [], []
        for k, (t, dt) in enumerate(zip(self.sampler.t, self.sampler.dt)):
            v = self.head(x, t.to(x.device).expand(len(x)), c).float()
            states.append(x)
            velocities.append(v)
            x = x + ((1 + t) * v - x) * dt + (2 * (1 - t) * dt) ** 0.5 * noise[1 + k]
        return x, (states, velocities)

    def judge(self, drawn, c, empty):
        total = 0
        for t, weight, x, v in zip(self.sampler.t, self.sampler.weight, *drawn):
            total = total + weight * (guided(self.target, x, t.to(x.device).expand(len(x)), c, empty, self.scale) - v).pow(2).sum(-1)
        return total.sqrt()


class Rounds:
    """Pictures of `data` with their first `known` tokens drawn; the newest of them is the pending one, consumed by draft and target alike."""

    def __init__(self, target, draft, data, index, known, where):
        self.target, self.draft, self.known, self.begin, self.where = target, draft, known, data.begin, where
        self.text = target.embed_tokens(data.ids[index].to(where))
        self.tokens = data.tokens[index, :known].to(where).float()
        self.valid = data.valid[index]
        self.features = data.features[index, :data.begin + known].to(where).float()

    def pairs(self, count):
        """(B, 1, T, T) mask and rotary table of that many pairs."""
        own = torch.ones(len(self.valid), count - self.valid.shape[1], dtype=torch.bool)
        return nextstep.causal_mask(torch.cat([self.valid, own], 1).to(self.where)), rotary(self.target.config, count, self.where)

    def guess(self, features, inputs, last):
        """The draft's features behind the last pairs."""
        mask, table = self.pairs(features.shape[1])
        return self.draft(features, inputs, table, mask)[0][:, -last:]

    def drafts(self, kind, count, draws, noise):
        """noise (count, vectors a token, B, D) -> conditions, tokens as fed back (B, count, .), what judge needs of each."""
        target, tokens, drawn = self.target, [], []
        inputs = torch.cat([self.text, target.image_in_projector(self.tokens)], 1)[:, 1:]
        features = self.features
        if kind == "parallel":
            last = features[:, -1:].expand(-1, count - 1, -1)
            asked = self.draft.mask_token.expand(len(inputs), count - 1, -1)
            guesses = self.guess(torch.cat([features, last], 1), torch.cat([inputs, asked], 1), count)
        for j in range(count):
            guess = guesses[:, j] if kind == "parallel" else self.guess(features, inputs, 1)[:, 0]
            x, record = draws.draw(target.image_out_projector(guess), noise[j])
            token = F.layer_norm(x, x.shape[-1:], eps=1e-6)
            features = torch.cat([features, guess[:, None].float()], 1)
            inputs = torch.cat([inputs, target.image_in_projector(token)[:, None]], 1)
            tokens.append(token)
            drawn.append(record)
        return torch.stack(tokens, 1), drawn

    def conditions(self, text, valid, drafts):
        """The target's conditions (B, count, H) of the drafted tokens, given the drafts before them."""
        fed = torch.cat([self.tokens, drafts[:, :-1]], 1)
        x = torch.cat([text, self.target.image_in_projector(fed)], 1)
        seen = torch.cat([valid, torch.ones(fed.shape[:2], dtype=torch.bool)], 1)
        return self.target.image_out_projector(self.target.hidden(x, nextstep.causal_mask(seen.to(self.where))))[:, -drafts.shape[1]:]


@torch.no_grad()
def distances(pipeline, draft, data, draws, kind, count, places, guided_rows, seed=0, bf16=True):
    """-> (pictures x places, count) the statistic of each draft, whether or not those before it would have been accepted."""
    net, where, out = pipeline.network, next(pipeline.network.parameters()).device, []
    width, vectors = data.tokens.shape[-1], 1 + pipeline.defaults["timesteps"]
    empty_ids = torch.tensor([pipeline.tokenizer.prompt(pipeline.defaults["negative_prompt"])])
    with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
        for known in places:
            rounds = Rounds(net, draft, data, torch.arange(len(data.tokens)), known, where)
            generator = torch.Generator().manual_seed(seed + known)
            noise = torch.randn(count, vectors, len(data.tokens), width, generator=generator).to(where)
            tokens, drawn = rounds.drafts(kind, count, draws, noise)
            c = rounds.conditions(rounds.text, rounds.valid, tokens)
            empty = torch.zeros_like(c)
            if guided_rows:
                text = net.embed_tokens(empty_ids.to(where)).expand(len(tokens), -1, -1)
                empty = rounds.conditions(text, torch.ones(text.shape[:2], dtype=torch.bool), tokens)
            out.append(torch.stack([draws.judge(drawn[j], c[:, j], empty[:, j]) for j in range(count)], 1).float().cpu())
    return torch.cat(out)


@torch.no_grad()
def entropies(pipeline, draft, data, bf16=True):
    """Mean attention entropy of each draft layer on true pairs, by image position: (layers, tokens - 1)."""
    net, where = pipeline.network, next(pipeline.network.parameters()).device
    with torch.autocast(where.type, dtype=torch.bfloat16, enabled=bf16):
        rounds = Rounds(net, draft, data, torch.arange(len(data.tokens)), data.length - 1, where)
        inputs = torch.cat([rounds.text, net.image_in_projector(rounds.tokens)], 1)[:, 1:]
        mask, table = rounds.pairs(inputs.shape[1])
        x, out = draft.fuse(rounds.features, inputs), []
        for layer in draft.layers:
            out.append(attention_entropy(layer, x, table, mask, data.begin, data.length - 1).float().mean(0).cpu())
            x = layer(x, table, mask)
    return torch.stack(out)


def accepted(distance, tolerance):
    """(rounds, count) -> mean accepted drafts for every γ = 1 … count: of a prefix, as every distance in it is small enough."""
    return torch.cumprod((distance <= tolerance).float(), 1).mean(0).cumsum(0)


def overlap(gap):
    """Acceptance of a path with gap D: the overlap of two Gaussians that far apart, 2 Phi(-D/2)."""
    return torch.erfc(gap / (2 * math.sqrt(2)))


def round_ms(kind, count, c=COSTS):
    """The pending token is known from the verification of the round before, or is drawn by it: one head call more, weighed in by half."""
    draft = c["draft"] * count + c["head"] * count
    if kind == "parallel":
        draft = c["draft"] + (c["drafts"] - c["draft"]) * (count - 1) / 7 + c["head"] + (c["heads"] - c["head"]) * (count - 1) / 7
    verify = c["head"] + (c["heads"] - c["head"]) * (count - 1) / 7
    return draft + c["backbone"] + c["row"] * count + verify


def table(rows, path):
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if path:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


def few_step_rows(distance, kind):
    plain = 1 / (COSTS["backbone"] + COSTS["head"])
    for j in range(distance.shape[1]):
        column = distance[:, j]
        yield dict(mode="few_step:1", drafting=kind, figure="distance", draft=j + 1, mean=float(column.mean()), median=float(column.median()),
                   ninety=float(column.quantile(0.9)))
    for tolerance in TOLERANCES:
        taken = accepted(distance, tolerance)
        rates = [(1 + float(taken[n - 1])) / round_ms(kind, n) / plain for n in range(1, len(taken) + 1)]
        best = int(np.argmax(rates))
        yield dict(mode="few_step:1", drafting=kind, figure="tokens a round", tolerance=tolerance, all_drafts=1 + float(taken[-1]), best_gamma=best + 1,
                   at_best=1 + float(taken[best]), times_plain=rates[best])


def sampler_rows(gap, kind):
    chance = overlap(gap)
    for j in range(gap.shape[1]):
        yield dict(mode="sampler", drafting=kind, figure="gap", draft=j + 1, mean=float(gap[:, j].mean()), median=float(gap[:, j].median()),
                   ninety=float(gap[:, j].quantile(0.9)), acceptance=float(chance[:, j].mean()))
    yield dict(mode="sampler", drafting=kind, figure="tokens a round", all_drafts=1 + float(torch.cumprod(chance, 1).mean(0).sum()))


def measure(args, pipeline, draft, prompts, tokens):
    data = Features(pipeline, prompts, tokens)
    places = [int(p) for p in np.linspace(1, data.length - args.drafts, args.places)]
    net, defaults, rows = pipeline.network, pipeline.defaults, []
    for kind in DRAFTING:
        if args.sampler:
            draws = SamplerDraws(net.image_head.net, draft.head.net, SamplerB(defaults["timesteps"], defaults["timestep_shift"]), defaults["guidance_scale"])
        else:
            draws = FewStepDraws(pipeline.few_step_head)
        found = distances(pipeline, draft, data, draws, kind, args.drafts, places, args.sampler)
        rows += (sampler_rows if args.sampler else few_step_rows)(found, kind)
    for i, profile in enumerate(entropies(pipeline, draft, data)):
        rows.append(dict(mode="sampler" if args.sampler else "few_step:1", figure="entropy", layer=i, mean=float(profile[1:].mean()),
                         target=float(data.entropy[1:].mean())))
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--draft", required=True)
    parser.add_argument("--few-step")
    parser.add_argument("--drawn", required=True, help="pictures that training has not seen, drawn by the sampler that is measured")
    parser.add_argument("--sampler", action="store_true", help="the model's own sampler in place of the few-step head")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--places", type=int, default=8, help="rounds a picture")
    parser.add_argument("--drafts", type=int, default=8)
    parser.add_argument("--out", help="CSV")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    pipeline = Pipeline.load(args.model)
    if args.few_step:
        pipeline.few_step_head = few_step.load(args.few_step)
    draft = draft_model.load(args.draft, pipeline.network.config)
    for part in (pipeline.network, pipeline.few_step_head, draft):
        if part is not None:
            part.to(device())
    prompts, tokens = load_drawn([args.drawn])
    rows = measure(args, pipeline, draft, prompts[:args.pictures], tokens[:args.pictures])
    table(rows, args.out)


if __name__ == "__main__":
    main()
