"""Every stage once, on the 200-picture sample, in under a minute: proves that the code runs, not that it learns.

Also checks what must hold without training: resuming, export and loading give the same network, figures come out.
"""
import csv
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch

import average_heads
import data as emoji
import draft_checks
import draft_data
import draft_model
import draft_report
import export
import few_step
import few_step_checks
import golden
import hard_concepts
import preview
import quality
import quality_pack
import rollouts
import safetensors_io
import style_adherence
import tokenizer
import train
import train_draft
import train_few_step
import train_joint
import train_vae
import trajectories
import transdiff_checks
import vae
from run_log import use_threads
from sample import Pipeline

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = json.dumps(dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, head_dim=16, fm_head_dim=64, fm_head_layers=1))


def check_files(folder):
    network = torch.load(os.path.join(folder, "run", "last.pt"), map_location="cpu")["ema"]
    stored = safetensors_io.load(os.path.join(folder, "model", "model.safetensors"))
    assert set(stored) == set(network) and all(torch.equal(stored[k], network[k].bfloat16()) for k in stored)
    ids = tokenizer.PromptTokenizer(os.path.join(folder, "tokenizer.json"))
    assert ids.prompt("a cat")[-5:] == ids.area(8, 8) and len(ids.area(12, 8)) == 6, "digits must not merge"


def check_sampling(folder):
    """A picture depends on prompt and seed only, not on its neighbours."""
    pipeline = Pipeline.load(os.path.join(folder, "model"))
    together = pipeline.tokens(["a cat", "red apple, 3d style"], [5, 9], 2, 3, timesteps=4)
    alone = pipeline.tokens(["a cat"], [5], 2, 3, timesteps=4)
    assert torch.allclose(together[:1], alone, atol=1e-4), float((together[:1] - alone).abs().max())


def distil(data, folder):
    """Rollouts of the model, the teacher's paths on them, a few-step head, rollouts of its own: every stage, both losses, a restart."""
    at, model = lambda *names: os.path.join(folder, *names), os.path.join(folder, "model")
    rollouts.main(["--data", data, "--model", model, "--pictures", "24", "--out", at("vanilla.safetensors")])
    trajectories.main(["--model", model, "--conditions", at("vanilla.safetensors"), "--out", at("paths.safetensors")])
    run = ["--model", model, "--paths", at("paths.safetensors"), "--run", at("few"), "--batch", "128", "--dmd-batch", "64", "--log-steps", "10",
           "--held-out", "256", "--lr", "3e-3"]
    train_few_step.main(run + ["--minutes", "0.04", "--trajectories-only"])
    first = torch.load(at("few", "last.pt"))
    train_few_step.main(run + ["--minutes", "0.08", "--begin", "0.5"])
    second = torch.load(at("few", "last.pt"))
    assert second["step"] > first["step"] > 0, "a second call resumes"
    fake = lambda state: state["distiller"]["fake"]["input_proj.weight"]
    assert not torch.equal(fake(first), fake(second)), "distribution matching trains the fake network"
    os.makedirs(at("model", "accelerator"), exist_ok=True)
    shutil.copy(at("few", "few_step.safetensors"), at("model", "accelerator"))
    rollouts.main(["--data", data, "--model", model, "--pictures", "4", "--few-step", "1", "--out", at("own.safetensors")])
    quality.main(["--model", model, "--few-step", "2", "--fd-count", "64"])
    # A model of a minute draws nothing that one recognises, so all of the few are missed.
    hard_concepts.main(["--data", data, "--model", model, "--few-step-head", at("few", "few_step.safetensors"), "--limit", "3", "--own", "1", "2", "--vanilla", "1", "1",
                        "--out", at("hard.safetensors")])
    assert 0 < len(safetensors_io.load(at("hard.safetensors"))["c"]) <= 18
    # The one head three parts, nothing (its tensors at zero) one part.
    head = safetensors_io.load(at("few", "few_step.safetensors"))
    safetensors_io.save({name: torch.zeros_like(tensor) for name, tensor in head.items()}, at("zero.safetensors"))
    average_heads.main([at("few", "few_step.safetensors") + "=3", at("zero.safetensors") + "=1", "--out", at("mean")])
    mean = safetensors_io.load(at("mean", "few_step.safetensors"))
    assert all(torch.equal(mean[name], (0.75 * tensor.float()).to(tensor.dtype)) for name, tensor in head.items())


def draft(data, folder):
    """Pictures drawn by jumps, a draft model on them (both ways of drafting, own features, a restart), its report by both samplers."""
    at, model = lambda *names: os.path.join(folder, *names), os.path.join(folder, "model")
    draft_data.main(["--data", data, "--model", model, "--few-step", "1", "--pictures", "40", "--out", at("drawn.safetensors")])
    run = ["--model", model, "--drawn", at("drawn.safetensors"), "--few-step", at("model", "accelerator"), "--run", at("draft"), "--batch", "8",
           "--held-out", "8", "--log-steps", "2", "--head-width", "32", "--head-rows", "128"]
    train_draft.main(run + ["--minutes", "0.03"])
    first = torch.load(at("draft", "last.pt"))["step"]
    train_draft.main(run + ["--minutes", "0.06", "--unroll-from", "0"])
    assert torch.load(at("draft", "last.pt"))["step"] > first > 0, "a second call resumes"
    shutil.copy(at("draft", draft_model.FILE), at("model", "accelerator"))
    report = ["--model", model, "--draft", at("model", "accelerator"), "--drawn", at("drawn.safetensors"), "--pictures", "8", "--places", "2", "--drafts", "3"]
    draft_report.main(report + ["--out", at("report.csv")])
    draft_report.main(report + ["--sampler"])
    assert os.path.getsize(at("report.csv")) > 0


def joint(folder):
    """Draft and head in one process: the rates that were set, the draft first and then the head alone, and both files."""
    at = lambda *names: os.path.join(folder, *names)
    config = dict(model=at("model"), paths=[at("paths.safetensors")], drawn=[at("drawn.safetensors")], minutes=0.06,
                  draft=dict(batch=4, head_width=32, held_out=8, anchors=2, group=3, head_rows=64),
                  head=dict(batch=64, dmd_batch=32, fake_updates=2, held_out=256))
    with open(at("joint.json"), "w") as file:
        json.dump(config, file)
    train_joint.main(["--config", at("joint.json"), "--run", at("joint"), "--log-steps", "2", "--drafted-pictures", "2", "--refresh", "20"])
    with open(at("joint", "log.csv")) as file:
        rows = [{k: float(v or 0) for k, v in row.items()} for row in csv.DictReader(file)]
    shares = [row["draft_lr"] / row["head_lr"] for row in rows]
    assert shares[0] > 0 and shares == sorted(shares, reverse=True), "the draft leads"
    assert rows[-1]["draft_lr"] == 0 == rows[-1]["reg"] and rows[-1]["head_lr"] > 0 and rows[-1]["beta"] == 1, "then it stands still"
    assert draft_model.load(at("joint"), Pipeline.load(at("model")).network.config) and few_step.load(at("joint"))


def check_preview(data, folder):
    """The stored map gives the training pictures' thumbnails back as well as it says."""
    preview.main(["--data", data, "--model", folder])
    with open(os.path.join(folder, "preview.json")) as file:
        stored = json.load(file)
    _, pictures = emoji.load(data)
    latents = preview.latent_pixels(pictures, vae.load(folder))
    colours = preview.block_means(pictures, 16)
    error = latents @ np.array(stored["latent_rgb"]).T + stored["bias"] - colours
    r2 = 1 - (error ** 2).sum() / ((colours - colours.mean(0)) ** 2).sum()
    assert np.shape(stored["latent_rgb"]) == (3, 16) and abs(r2 - stored["r2"]) < 0.1, (r2, stored["r2"])


def main():
    data, folder = os.path.join(HERE, "sample_data"), tempfile.mkdtemp(prefix="train-smoke-")
    at = lambda *names: os.path.join(folder, *names)
    use_threads(2)
    tokenizer.main(["--data", data, "--out", at("tokenizer.json")])
    common = ["--data", data, "--threads", "2"]
    train_vae.main(common + ["--run", at("vae"), "--minutes", "0.08", "--batch", "4"])
    train_vae.main(common + ["--run", at("vae2"), "--init", at("vae", "last.pt"), "--decoder-only", "--minutes", "0.03", "--batch", "4"])
    run = common + ["--vae", at("vae", "last.pt"), "--tokenizer", at("tokenizer.json"), "--run", at("run"), "--batch", "8", "--warmup", "0.02",
                    "--decay", "0.05", "--tap", "0", "--config", SMALL]
    train.main(run + ["--minutes", "0.08"])
    first = torch.load(at("run", "last.pt"))["step"]
    train.main(run + ["--minutes", "0.14"])
    assert torch.load(at("run", "last.pt"))["step"] > first > 0, "a second call resumes"
    export.main(["--data", data, "--run", at("run"), "--vae", at("vae", "last.pt"), "--tokenizer", at("tokenizer.json"), "--out", at("model")])
    check_files(folder)
    check_sampling(folder)
    few_step_checks.main()
    draft_checks.main()
    transdiff_checks.main()
    check_preview(data, at("model"))
    quality_pack.main(common + ["--out", at("model", "quality"), "--epochs", "2"])
    pack = quality.Pack(at("model", "quality"))
    pack_pictures = np.repeat(np.repeat(pack.thumbnails, 4, 1), 4, 2)
    hits = quality.nearest_has_base(pack.thumbnails, quality.thumbnails(pack_pictures), pack.bases, pack.bases)
    assert hits.all(), "a training picture is its own neighbour"
    quality.main(["--model", at("model"), "--timesteps", "2", "--fd-count", "64"])
    distil(data, folder)
    draft(data, folder)
    joint(folder)
    golden.main(["--model", at("model")])
    np.save(at("drawn.npy"), pack_pictures)
    style_adherence.main(["--data", data, "--model", at("model"), "--pictures", at("drawn.npy")])
    shutil.rmtree(folder)
    print("smoke test passed")


if __name__ == "__main__":
    sys.exit(main())
