"""Golden cases: what this code draws for fixed seeds, stage by stage, for the engine to be held to.

python golden.py --model ../models/nextstep-emoji64                     writes manifest.json and fixtures.safetensors beside the weights
python golden.py --random golden --tokenizer ../models/.../tokenizer.json   writes a small model with random weights, and its cases

What an accelerator/ adds has its cases there, in the same two files.

A case also names prompt and seed, so that the engine's tokenizer and generator can be held to the recorded ids and noise.
"""
import argparse
import json
import os
import shutil

import numpy as np
import torch

import draft_model
import few_step
import model as nextstep
import philox
import safetensors_io
import vae
from draft_data import rotary
from export import SAMPLING, bf16, config_of, write_json
from sample import Pipeline
from tokenizer import PromptTokenizer

TINY = dict(nextstep.CONFIG, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=32, fm_head_dim=64, fm_head_layers=2)
TINY_VAE = dict(vae.CONFIG, ch_mult=[1, 1, 1])


def write_random_model(folder, tokenizer_path):
    """Every parameter is drawn, those that training starts at zero too: a silent head would test nothing."""
    torch.manual_seed(1)
    os.makedirs(os.path.join(folder, "vae"), exist_ok=True)
    network, autoencoder = nextstep.NextStep(TINY).initialise(), vae.VAE(TINY_VAE)
    for module in (network, autoencoder):
        for p in module.parameters():
            if p.dim() < 2 or not p.abs().max():
                p.data += 0.1 * torch.randn_like(p)
    safetensors_io.save(bf16(network.state_dict()), os.path.join(folder, "model.safetensors"))
    safetensors_io.save(bf16(autoencoder.state_dict()), os.path.join(folder, "vae", "model.safetensors"))
    write_json(config_of(TINY, PromptTokenizer(tokenizer_path)), folder, "config.json")
    write_json(TINY_VAE, folder, "vae", "config.json")
    write_json(SAMPLING, folder, "sampling.json")
    student = few_step.from_teacher(network.image_head.net)
    for p in student.interval_embed.mlp[2].parameters():
        p.data += 0.1 * torch.randn_like(p)
    os.makedirs(os.path.join(folder, "accelerator"), exist_ok=True)
    few_step.save(student, os.path.join(folder, "accelerator", few_step.FILE))
    write_random_draft(network, os.path.join(folder, "accelerator"))
    shutil.copy(tokenizer_path, os.path.join(folder, "tokenizer.json"))


def write_random_draft(network, folder):
    """As training starts it, with something in all that starts at zero."""
    draft = draft_model.DraftModel(network.config, layers=2, head_width=48, head_blocks=2).initialise(network)
    for p in draft.parameters():
        p.data += 0.1 * torch.randn_like(p)
    draft_model.save(draft, os.path.join(folder, draft_model.FILE))


def noise_of(seed, tokens, timesteps, width):
    """(tokens * (timesteps + 1), width): per token the initial noise, then one vector a timestep."""
    rows = []
    for token in range(tokens):
        rows.append(philox.normals([seed], philox.INITIAL, [0], token, width)[0])
        rows.append(philox.normals([seed], philox.TIMESTEP, range(timesteps), token, width)[0])
    return torch.from_numpy(np.concatenate(rows))


def picture_case(pipeline, name, key, prompt, seed, grid, **params):
    params = dict(dict(sampler="B", timesteps=8, guidance_scale=2.5, guidance_schedule="constant", timestep_shift=1.0, use_norm=True), **params)
    h, w = grid
    rows = [pipeline.tokenizer.prompt(prompt, h, w)] + ([pipeline.tokenizer.prompt("", h, w)] if params["guidance_scale"] > 1 else [])
    options = {k: v for k, v in params.items() if k != "sampler"}
    tokens = pipeline.tokens([prompt], [seed], h, w, **options)
    with torch.no_grad():
        image = pipeline.vae.decode(vae.unpatchify(tokens, h, w))
    tensors = {f"{key}_row{i}_ids": torch.tensor(row).float() for i, row in enumerate(rows)}
    tensors.update({f"{key}_noise": noise_of(seed, h * w, params["timesteps"], tokens.shape[-1]), f"{key}_tokens": tokens[0], f"{key}_image": image[0]})
    case = dict(name=name, kind="text_to_image", prompt=prompt, negative_prompt="", seed=seed, rows=[f"{key}_row{i}_ids" for i in range(len(rows))],
                noise=f"{key}_noise", params=dict(params, grid=list(grid)), expect={f"{key}_tokens": 3e-4, f"{key}_image": 6e-4})
    return case, tensors


@torch.no_grad()
def stage_cases(pipeline):
    """The flow head, the decoder and the backbone alone."""
    net, c = pipeline.network, pipeline.network.config
    torch.manual_seed(2)
    d = net.image_in_projector.weight.shape[1]
    x, t, condition = torch.randn(5, d), torch.rand(5), torch.randn(5, c["hidden_size"])
    ids = pipeline.tokenizer.prompt("red apple, 3d style")
    z, step = torch.randn(1, c["latent_channels"], 8, 12), torch.randn(1, c["hidden_size"])
    caches = [[] for _ in net.layers]
    prefill = net.hidden(net.embed_tokens(torch.tensor([ids])), nextstep.causal_mask(torch.ones(1, len(ids), dtype=torch.bool)), caches=caches)
    step_out = net.hidden(step[None], torch.zeros(1, 1, 1, len(ids) + 1), len(ids), caches)
    tensors = dict(fm_x=x, fm_t=t, fm_c=condition, fm_out=net.image_head.net(x, t, condition), vae_z=z, vae_img=pipeline.vae.decode(z),
                   lm_ids=torch.tensor(ids).float(), lm_prefill=prefill[0], lm_step_in=step, lm_step_out=step_out[0])
    cases = [dict(name="flow head", kind="flow_head", x="fm_x", t="fm_t", condition="fm_c", expect=dict(fm_out=1e-5)),
             dict(name="vae decode, not square", kind="vae_decode", latent="vae_z", expect=dict(vae_img=5e-5)),
             dict(name="backbone", kind="backbone", ids="lm_ids", step_embedding="lm_step_in", expect=dict(lm_prefill=2e-5, lm_step_out=2e-5))]
    return cases, tensors


def write_cases(folder):
    pipeline = Pipeline.load(folder)
    cases, tensors = stage_cases(pipeline)
    for case, more in (
            picture_case(pipeline, "red apple, guidance 2.5", "apple", "red apple, 3d style", 7, (8, 8)),
            picture_case(pipeline, "no guidance, not square", "plain", "a castle", 2 ** 40 + 3, (4, 6), guidance_scale=1.0, timesteps=6),
            picture_case(pipeline, "linear guidance, shift 2, raw tokens", "linear", "dog, flat style", 11, (4, 4),
                         guidance_scale=3.0, guidance_schedule="linear", timestep_shift=2.0, use_norm=False, timesteps=5)):
        cases.append(case)
        tensors.update(more)
    safetensors_io.save(tensors, os.path.join(folder, "fixtures.safetensors"))
    write_json(dict(family="nextstep", vae="vae", tolerance="|a - b| <= tol * max(1, max|expected|)", cases=cases), folder, "manifest.json")


@torch.no_grad()
def few_step_cases(pipeline):
    """u(x, t, r, c) alone, and pictures drawn by jumps: one row, and noise of one vector a token."""
    torch.manual_seed(3)
    net = pipeline.few_step_head
    d, h, _, _ = few_step.sizes(net)
    x, t, condition = torch.randn(6, d), torch.tensor([0, 0, 0.5, 0.25, 0.75, 0.3]), torch.randn(6, h)
    r = torch.tensor([1, 0.5, 1, 0.5, 1, 0.3])
    tensors = dict(fs_x=x, fs_t=t, fs_r=r, fs_c=condition, fs_out=net(x, t, r, condition))
    cases = [dict(name="few-step head", kind="few_step", x="fs_x", t="fs_t", r="fs_r", condition="fs_c", expect=dict(fs_out=1e-5))]
    for n, prompt, seed, grid in ((1, "red apple, 3d style", 7, (8, 8)), (2, "a castle", 2 ** 40 + 3, (4, 6)), (4, "dog, flat style", 11, (4, 4))):
        key, (high, wide) = f"few{n}", grid
        tokens = pipeline.tokens([prompt], [seed], high, wide, few_step=n, use_norm=True)
        noise = np.concatenate([philox.normals([seed], philox.INITIAL, [0], token, d)[0] for token in range(high * wide)])
        tensors.update({f"{key}_row": torch.tensor(pipeline.tokenizer.prompt(prompt, high, wide)).float(), f"{key}_noise": torch.from_numpy(noise),
                        f"{key}_tokens": tokens[0], f"{key}_image": pipeline.vae.decode(vae.unpatchify(tokens, high, wide))[0]})
        cases.append(dict(name=f"{n} jumps", kind="text_to_image", prompt=prompt, negative_prompt="", seed=seed, rows=[f"{key}_row"], noise=f"{key}_noise",
                          params=dict(few_step=n, use_norm=True, grid=list(grid)), expect={f"{key}_tokens": 3e-4, f"{key}_image": 6e-4}))
    return cases, tensors


@torch.no_grad()
def draft_cases(network, draft):
    """The network on pairs and, behind them, mask rows with the last pair's feature: features and attention entropies; then its head.

    Pairs are at positions 0 on; entropies (rows from first_key on, layers) are over keys from first_key on, 0 where a row sees one.
    """
    torch.manual_seed(5)
    h, pairs, masked, first = network.config["hidden_size"], 9, 3, 4
    rows = pairs + masked
    features = network.norm(torch.randn(1, pairs, h))
    ids, tokens = torch.tensor([7, 300, 12, 5]), torch.randn(pairs - 4, network.image_in_projector.weight.shape[1])
    inputs = torch.cat([network.embed_tokens(ids), network.image_in_projector(tokens)])[None]
    mask, table = nextstep.causal_mask(torch.ones(1, rows, dtype=torch.bool, device=features.device)), rotary(network.config, rows, features.device)
    given = torch.cat([features, features[:, -1:].expand(-1, masked, -1)], 1)
    asked = torch.cat([inputs, draft.mask_token.expand(1, masked, -1)], 1)
    out, _ = draft(given, asked, table, mask)
    x, entropy = draft.fuse(given, asked), []
    for layer in draft.layers:
        entropy.append(draft_model.attention_entropy(layer, x, table, mask, first, rows - first)[0])
        x = layer(x, table, mask)
    tensors = dict(draft_features=features[0], draft_inputs=inputs[0], draft_out=out[0], draft_entropy=torch.stack(entropy, 1))
    cases = [dict(name="draft model, pairs and mask rows", kind="draft", features="draft_features", inputs="draft_inputs", masked=masked, first_key=first,
                  expect=dict(draft_out=2e-5, draft_entropy=2e-5))]
    if draft.head is not None:
        token_size = tokens.shape[1]
        x, t, condition = torch.randn(5, token_size), torch.rand(5), torch.randn(5, h)
        tensors.update(dh_x=x, dh_t=t, dh_c=condition, dh_out=draft.head.net(x, t, condition))
        cases.append(dict(name="draft head", kind="draft_head", x="dh_x", t="dh_t", condition="dh_c", expect=dict(dh_out=1e-5)))
    return cases, tensors


def write_accelerator_cases(folder):
    pipeline = Pipeline.load(folder)
    cases, tensors = few_step_cases(pipeline)
    if os.path.exists(os.path.join(folder, "accelerator", draft_model.FILE)):
        more, added = draft_cases(pipeline.network, draft_model.load(os.path.join(folder, "accelerator"), pipeline.network.config))
        cases, tensors = cases + more, {**tensors, **added}
    safetensors_io.save(tensors, os.path.join(folder, "accelerator", "fixtures.safetensors"))
    write_json(dict(family="nextstep", vae="../vae", tolerance="|a - b| <= tol * max(1, max|expected|)", cases=cases), folder, "accelerator", "manifest.json")


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a model folder: only its cases are written")
    parser.add_argument("--random", metavar="FOLDER", help="write a small random model there first")
    parser.add_argument("--tokenizer")
    parser.add_argument("--accelerator-only", action="store_true", help="leave the model's own cases as they are")
    args = parser.parse_args(argv)
    if args.random:
        write_random_model(args.random, args.tokenizer)
    folder = args.random or args.model
    if not args.accelerator_only:
        write_cases(folder)
    if os.path.exists(os.path.join(folder, "accelerator", few_step.FILE)):
        write_accelerator_cases(folder)


if __name__ == "__main__":
    main()
