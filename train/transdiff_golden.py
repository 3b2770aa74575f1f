"""TransDiff's golden cases: what this code computes for fixed seeds, stage by stage, for the engine to be held to.

python transdiff_golden.py --model ../models/transdiff-emoji64       writes manifest.json and fixtures.safetensors beside the weights
python transdiff_golden.py --random golden-transdiff                 writes a small model with random weights, and its cases

A few-step decoder in accelerator/ has its cases there, in the same two files.
A case of drawing also names its seeds, so that the engine's generator can be held to the recorded noise.
"""
import argparse
import os

import torch

import few_step
import safetensors_io
import transdiff_export
import transdiff_few_step
import transdiff_model as transdiff
import transdiff_sample
import vae
from export import bf16, write_json

# Not the released sizes anywhere: 3 passes of 4 tokens, 16 decoder tokens, heads of 12, 4 latent channels, a latent scale that is not 1.
TINY = dict(transdiff.CONFIG, image_size=8, width=24, num_heads=2, transformer_blocks=2, diffusion_blocks=1, num_classes=6, buffer_size=8, ar_steps=3,
            vae_channels=4, vae_ch_mult=[1, 1], vae_scale=0.2325)
TINY_VAE = dict(vae.KL_CONFIG, resolution=TINY["image_size"], ch_mult=TINY["vae_ch_mult"], z_channels=TINY["vae_channels"])


def write_random_model(folder):
    """Every parameter is drawn, those that training starts at zero too: a silent decoder would test nothing."""
    torch.manual_seed(1)
    network, autoencoder = transdiff.TransDiff(TINY).initialise(), vae.KL(TINY_VAE)
    for module in (network, autoencoder):
        for p in module.parameters():
            if p.dim() < 2 or not p.abs().max():
                p.data += 0.1 * torch.randn_like(p)
    for name, p in network.named_parameters():
        if name.endswith("scale_shift_table"):
            p.data += 0.3 * torch.randn_like(p)
    transdiff_export.write_weights(network, autoencoder.eval(), folder, dict(transdiff_export.SAMPLING, timesteps=6, scale_0=0.9, scale_1=0.93))
    # Pictures are only drawn of it, so the encoder stays behind.
    at = os.path.join(folder, "vae", "model.safetensors")
    safetensors_io.save(bf16({name: t for name, t in autoencoder.released().items() if name.startswith(("decoder.", "post_quant_conv."))}), at)
    student = transdiff_few_step.from_teacher(network.diffdecoder.net, TINY)
    for p in student.interval_embed.linear_2.parameters():
        p.data += 0.1 * torch.randn_like(p)
    os.makedirs(os.path.join(folder, "accelerator"), exist_ok=True)
    few_step.save(student, os.path.join(folder, "accelerator", few_step.FILE))


@torch.no_grad()
def call_cases(net):
    """The decoder alone, at the first pass's first timestep and at a later pass's, with a timestep that is no integer."""
    c, cases, tensors = net.config, [], {}
    n, m = transdiff.side_of(c) ** 2, transdiff.block_length(c)
    torch.manual_seed(2)
    for i, (rows, passes, tau) in enumerate(((2, 1, [1000.0, 1000.0]), (3, c["ar_steps"], [862.857142, 40.0, 437.5]))):
        x, z = torch.randn(rows, n, c["vae_channels"]), torch.randn(rows, passes * m, c["width"])
        t = torch.tensor(tau)
        v = net.diffdecoder.net.velocity(x, t, net.diffdecoder.net.condition(z))
        tensors.update({f"net{i}_x": x, f"net{i}_c": z, f"net{i}_t": t, f"net{i}_v": v})
        cases.append(dict(name=f"decoder call, {passes} passes", kind="decoder_call", x=f"net{i}_x", condition=f"net{i}_c", t_times_1000=f"net{i}_t",
                          expect={f"net{i}_v": 5e-4}))
    return cases, tensors


@torch.no_grad()
def picture_case(pipeline, key, labels, seeds, **params):
    """params: steps, cfg, scale_0, scale_1. Noise is (1, B, N, C) and (draws, B, N, C), pass by pass."""
    net, c = pipeline.network, pipeline.network.config
    side, features = transdiff.side_of(c), []
    latents = pipeline.latents(labels, seeds, record=features.append, timesteps=params["steps"], guidance_scale=params["cfg"],
                               scale_0=params["scale_0"], scale_1=params["scale_1"])
    draws = [transdiff_sample.step_noise(seeds, params["steps"], i, side ** 2, c["vae_channels"]) for i in range(c["ar_steps"])]
    last = latents[:, -1].transpose(1, 2).unflatten(2, (side, side))
    tensors = {f"{key}_labels": torch.tensor(labels).float(), f"{key}_noise": transdiff_sample.initial_noise(seeds, side ** 2, c["vae_channels"])[None],
               f"{key}_step_noise": torch.cat(draws), f"{key}_latents": last}
    tensors.update({f"{key}_z{i}": torch.cat(features[:i + 1], 1) for i in range(c["ar_steps"])})
    expect = {f"{key}_z{i}": 2e-4 for i in range(c["ar_steps"])}
    cases = [dict(name=f"{len(labels)} classes, guidance {params['cfg']}", kind="class_to_latent", labels=f"{key}_labels", seeds=seeds, noise=f"{key}_noise",
                  step_noise=f"{key}_step_noise", params=params, expect=dict(expect, **{f"{key}_latents": 3e-4}))]
    tensors[f"{key}_image"] = pipeline.vae.decode(last[:1] / c["vae_scale"])
    cases.append(dict(name=f"decode of {key}_latents[0]", kind="vae_decode", latent=f"{key}_latents", rows=1, params=dict(divide_by=c["vae_scale"]),
                      expect={f"{key}_image": 1e-4}))
    return cases, tensors


def write_cases(folder):
    pipeline = transdiff_sample.Pipeline.load(folder)
    last = pipeline.network.config["num_classes"] - 1
    cases, tensors = call_cases(pipeline.network)
    for more, added in (picture_case(pipeline, "guided", [1, last], [7, 2 ** 40 + 3], steps=6, cfg=1.3, scale_0=0.9, scale_1=0.93),
                        picture_case(pipeline, "plain", [0], [11], steps=4, cfg=1.0, scale_0=1.0, scale_1=1.0)):
        cases, tensors = cases + more, {**tensors, **added}
    safetensors_io.save(tensors, os.path.join(folder, "fixtures.safetensors"))
    write_json(dict(family="transdiff-mrar", vae="vae", tolerance="|a - b| <= tol * max(1, max|expected|)",
                    guidance_rows="conditional rows first, then unconditional; none where cfg is 1", cases=cases), folder, "manifest.json")


@torch.no_grad()
def few_step_cases(pipeline):
    """u(x, t, r, z) alone, in the first pass and in the last, and pictures drawn by jumps in every pass.

    Few rows and no z of the pictures, which are those of the model's own cases: an accelerator has a budget.
    """
    net, c, cases, tensors = pipeline.few_step_decoder, pipeline.network.config, [], {}
    n, m = transdiff.side_of(c) ** 2, transdiff.block_length(c)
    torch.manual_seed(3)
    for i, (passes, t, r) in enumerate(((1, [1.0, 0.3], [0.0, 0.3]), (c["ar_steps"], [0.75], [0.5]))):
        x, z = torch.randn(len(t), n, c["vae_channels"]), torch.randn(len(t), passes * m, c["width"])
        t, r = torch.tensor(t), torch.tensor(r)
        tensors.update({f"fs{i}_x": x, f"fs{i}_t": t, f"fs{i}_r": r, f"fs{i}_c": z, f"fs{i}_u": net.mean_velocity(x, t, r, net.condition(z))})
        cases.append(dict(name=f"few-step decoder, {passes} passes", kind="few_step", x=f"fs{i}_x", t=f"fs{i}_t", r=f"fs{i}_r", condition=f"fs{i}_c",
                          expect={f"fs{i}_u": 5e-4}))
    for jumps, labels, seeds in ((1, [1, c["num_classes"] - 1], [7, 2 ** 40 + 3]), (2, [0], [11]), (4, [2], [12])):
        latents = pipeline.latents(labels, seeds, few_step=jumps)
        key, side = f"few{jumps}", transdiff.side_of(c)
        tensors.update({f"{key}_labels": torch.tensor(labels).float(), f"{key}_noise": transdiff_sample.initial_noise(seeds, n, c["vae_channels"])[None],
                        f"{key}_latents": latents[:, -1].transpose(1, 2).unflatten(2, (side, side))})
        cases.append(dict(name=f"{jumps} jumps", kind="class_to_latent", labels=f"{key}_labels", seeds=seeds, noise=f"{key}_noise", params=dict(few_step=jumps),
                          expect={f"{key}_latents": 3e-4}))
    return cases, tensors


def write_accelerator_cases(folder):
    cases, tensors = few_step_cases(transdiff_sample.Pipeline.load(folder))
    safetensors_io.save(tensors, os.path.join(folder, "accelerator", "fixtures.safetensors"))
    write_json(dict(family="transdiff-mrar", vae="../vae", tolerance="|a - b| <= tol * max(1, max|expected|)", cases=cases), folder, "accelerator", "manifest.json")


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a model folder: only its cases are written")
    parser.add_argument("--random", metavar="FOLDER", help="write a small random model there first")
    parser.add_argument("--accelerator-only", action="store_true", help="leave the model's own cases as they are")
    args = parser.parse_args(argv)
    if args.random:
        write_random_model(args.random)
    folder = args.random or args.model
    if not args.accelerator_only:
        write_cases(folder)
    if os.path.exists(os.path.join(folder, "accelerator", few_step.FILE)):
        write_accelerator_cases(folder)


if __name__ == "__main__":
    main()
