"""What must hold of TransDiff's training code: on toys, and every stage once on the sample. Part of smoke.sh.

python transdiff_checks.py
"""
import json
import os
import shutil
import tempfile

import numpy as np
import torch
from PIL import Image

import data
import quality
import quality_pack
import safetensors_io
import train_vae
import transdiff_data
import transdiff_export
import transdiff_few_step_checks
import transdiff_golden
import transdiff_model as transdiff
import transdiff_paths
import transdiff_sample
import transdiff_train
import transdiff_train_few_step
import transdiff_vae
import vae

HERE = os.path.dirname(os.path.abspath(__file__))
TOY = dict(transdiff_golden.TINY, num_classes=5)
SMALL = dict(width=48, num_heads=4, transformer_blocks=2, diffusion_blocks=1, buffer_size=4)


def randomised(module, seed=0):
    torch.manual_seed(seed)
    for p in module.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return module.eval()


@torch.no_grad()
def check_blocks():
    """Pass by pass on cached keys and values is the same as all at once behind the mask; a pass does not see later ones."""
    net = randomised(transdiff.TransDiff(TOY).initialise())
    labels, references = torch.tensor([3, -1]), torch.randn(2, 2, 4, 16)
    whole, caches = net.features(labels, references), [[] for _ in net.encoder_blocks]
    for i, picture in enumerate([None, references[:, 0], references[:, 1]]):
        assert torch.allclose(net.next_features(labels, picture, caches), whole[:, i], atol=2e-5), i
    other = references.clone()
    other[:, 1] += 1
    changed = (net.features(labels, other) - whole).abs().amax((0, 2, 3))
    assert changed[:2].max() < 2e-5 < 1e-2 < changed[2], changed


@torch.no_grad()
def check_condition_mask():
    """Training draws several passes under one condition and a mask: the same as each under its own part of the condition."""
    net = randomised(transdiff.TransDiff(TOY).initialise())
    decoder, z, passes = net.diffdecoder.net, torch.randn(2, 12, TOY["width"]), torch.tensor([0, 2])
    x, tau = torch.randn(4, 16, TOY["vae_channels"]), torch.tensor([900.0, 100.0, 333.3, 1000.0])
    mask = transdiff.block_mask(passes.repeat_interleave(16), torch.arange(3).repeat_interleave(4))
    together = decoder.velocity(x, tau, decoder.condition(z), mask)
    for i, p in enumerate(passes):
        rows = slice(i, 4, 2)                                       # rows are picture by picture, pass by pass
        alone = decoder.velocity(x[rows], tau[rows], decoder.condition(z[:, :4 * (int(p) + 1)]))
        assert torch.allclose(together[rows], alone, atol=2e-5)


class Gaussian:
    """The exact velocity where the data is normal of this std."""

    def __init__(self, std):
        self.variance = std ** 2

    def velocity(self, x, tau, _):
        t = (tau / 1000)[:, None, None]
        return (t - (1 - t) * self.variance) / ((1 - t) ** 2 * self.variance + t ** 2) * x


def check_sampler():
    """Many small steps turn standard normals into the data's distribution; without the noise they do not."""
    random = torch.Generator().manual_seed(0)
    normal = lambda _: torch.randn(4096, 1, 1, generator=random)
    for std in (0.5, 1.5):
        ends = [transdiff_sample.integrate(Gaussian(std), None, normal(0), normal, 200, 1.0, 1.0, scale).std() for scale in (1.0, 0.0)]
        assert abs(ends[0] / std - 1) < 0.05 < abs(ends[1] / std - 1), (std, ends)
    grid = transdiff_sample.time_grid(100)
    assert len(grid) == 101 and grid[0] == 1 and abs(grid[99] - 0.04) < 1e-6 and grid[100] == 0


@torch.no_grad()
def check_autoencoder():
    """What is exported, the norm folded into a convolution, encodes and decodes as it did; latents have variance 1."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (32, 32, 32, 3), np.uint8)
    model = randomised(vae.KL(transdiff_golden.TINY_VAE), 3)
    model.measure(pictures)
    x = vae.to_pixels(pictures)
    z = model.encode(x)
    assert (z.mean((0, 2, 3)).abs().max() < 1e-4) and ((z.std((0, 2, 3)) - 1).abs().max() < 1e-2)
    with tempfile.TemporaryDirectory() as folder:
        transdiff_export.write_weights(transdiff.TransDiff(transdiff_golden.TINY), model, folder, transdiff_export.SAMPLING)
        safetensors_io.save(model.released(), os.path.join(folder, "vae", "model.safetensors"))                # float32: only the fold is checked
        loaded = vae.load(folder)
    assert torch.allclose(loaded.encode(x), z, atol=1e-4) and torch.allclose(loaded.decode(z), model.decode(z), atol=1e-5)


def check_classes(rows):
    chosen, passes, content = transdiff_data.class_rows(rows), transdiff_data.passes_of(rows), transdiff_data.classes_json(rows)
    assert len(chosen) == len(passes) == len(content["classes"]) > 10
    by_id = {row["id"]: row for row in rows}
    for row, ids in zip(chosen, passes):
        pictures = [by_id[i] for i in ids]
        assert ids[-1] == row["id"] and {p["unicode"] for p in pictures} == {row["unicode"]} and all(p["style_split"] == "train" for p in pictures)
    words = [word for entry in content["classes"] for word in (entry["name"], *entry["synonyms"])]
    assert len(words) == len(set(words)), "a word for two classes"


def check_stored_cases(folder):
    """The committed cases are what this code computes; those of the decoder alone, with inputs of torch's generator, may differ between machines."""
    stored, pipeline = safetensors_io.load(os.path.join(folder, "fixtures.safetensors")), transdiff_sample.Pipeline.load(folder)
    with open(os.path.join(folder, "manifest.json")) as file:
        cases = [case for case in json.load(file)["cases"] if case["kind"] == "class_to_latent"]
    for case, key in zip(cases, ("guided", "plain")):
        _, tensors = transdiff_golden.picture_case(pipeline, key, stored[case["labels"]].long().tolist(), case["seeds"], **case["params"])
        for name, tensor in tensors.items():
            assert torch.allclose(tensor, stored[name], atol=1e-3), name
    assert len(cases) == 2


def check_inner_training(folder, pictures_of):
    """The f8 autoencoder's inner levels learn, the outer ones are the f4 one's and stay."""
    torch.manual_seed(0)
    known, at = vae.VAE(), os.path.join(folder, "f4.pt")
    torch.save(dict(model=known.state_dict()), at)
    transdiff_vae.main(["--data", pictures_of, "--threads", "2", "--from", at, "--run", os.path.join(folder, "inner"), "--minutes", "0.05", "--batch", "4"])
    model = vae.load(os.path.join(folder, "inner", "last.pt"))
    torch.manual_seed(0)
    start = vae.KL(model.config)
    vae.start_from(start, known)
    inner = {id(p) for p in transdiff_vae.inner_parameters(model)}
    pairs = [(id(p) in inner, torch.equal(p, before)) for p, before in zip(model.parameters(), start.parameters())]
    assert all(same for learns, same in pairs if not learns) and not all(same for learns, same in pairs if learns)
    assert sum(learns for learns, _ in pairs) > 40 and sum(not learns for learns, _ in pairs) > 40


def stages(folder, pictures_of):
    """Autoencoder, network, export, cases, figures; each resumes, and pictures do not depend on the batch."""
    at, sample = lambda *names: os.path.join(folder, *names), ["--data", pictures_of, "--threads", "2"]
    config = json.dumps(dict(ch_mult=[1, 1, 1, 1]))
    train_vae.main(sample + ["--kl", "--config", config, "--run", at("kl"), "--minutes", "0.06", "--batch", "4"])
    train_vae.main(sample + ["--run", at("kl2"), "--init", at("kl", "last.pt"), "--decoder-only", "--minutes", "0.02", "--batch", "4"])
    run = sample + ["--vae", at("kl", "last.pt"), "--run", at("td"), "--batch", "4", "--read", "4", "--warmup", "0.01", "--decay", "0.02",
                    "--config", json.dumps(dict(SMALL, vae_ch_mult=[1, 1, 1, 1])), "--probe-classes", "4"]
    transdiff_train.main(run + ["--minutes", "0.04"])
    first = torch.load(at("td", "last.pt"))["step"]
    transdiff_train.main(run + ["--minutes", "0.08", "--draw-from", "1"])
    assert torch.load(at("td", "last.pt"))["step"] > first > 0, "a second call resumes"
    transdiff_export.main(["--data", pictures_of, "--run", at("td"), "--vae", at("kl2", "last.pt"), "--out", at("model"), "--set", '{"timesteps": 3}'])
    transdiff_golden.main(["--model", at("model")])
    pipeline = transdiff_sample.Pipeline.load(at("model"))
    assert pipeline.defaults["timesteps"] == 3
    together, alone = pipeline.latents([1, 4, 2], [7, 8, 9]), pipeline.latents([4], [8])
    assert torch.allclose(together[1:2], alone, atol=1e-4)
    transdiff_sample.main(["--model", at("model"), "--name", next(iter(transdiff_sample.NamePipeline(at("model")).labels)), "--n", "3", "--passes", "--timesteps", "2",
                           "--out", at("passes.png")])
    with Image.open(at("passes.png")) as image:
        assert image.size == (8 * 64, 2 * 64), "two pictures of four passes a line"
    quality_pack.main(sample + ["--out", at("model", "quality"), "--classes", "--epochs", "1"])
    quality.main(["--model", at("model"), "--timesteps", "2", "--fd-count", "64"])
    distil(at, pictures_of)


def distil(at, pictures_of):
    """A few-step decoder from stored paths, then, resumed, from paths on the way; its cases; pictures by it, alone and for figures."""
    common = ["--data", pictures_of, "--model", at("model"), "--path-batch", "8"]
    transdiff_paths.main(common + ["--rows", "16", "--out", at("paths.safetensors")])
    run = common + ["--run", at("few"), "--batch", "4", "--dmd-batch", "4", "--held-out", "4", "--pool", "8", "--refresh", "4", "--log-steps", "2", "--probe-classes", "2"]
    transdiff_train_few_step.main(run + ["--minutes", "0.02", "--trajectories-only", "--paths", at("paths.safetensors")])
    first = torch.load(at("few", "last.pt"))
    transdiff_train_few_step.main(run + ["--minutes", "0.06", "--begin", "0.6"])
    second = torch.load(at("few", "last.pt"))
    assert second["step"] > first["step"] > 0, "a second call resumes"
    fake = lambda state: state["distiller"]["fake"]["input_proj.weight"]
    assert not torch.equal(fake(first), fake(second)), "distribution matching trains the fake network"
    os.makedirs(at("model", "accelerator"))
    shutil.copy(at("few", "few_step.safetensors"), at("model", "accelerator"))
    transdiff_golden.main(["--model", at("model"), "--accelerator-only"])
    pipeline = transdiff_sample.Pipeline.load(at("model"))
    together, alone = pipeline.latents([1, 4, 2], [7, 8, 9], few_step=2), pipeline.latents([4], [8], few_step=2)
    assert torch.allclose(together[1:2], alone, atol=1e-4)
    quality.main(["--model", at("model"), "--few-step", "1", "--fd-count", "64"])


def main():
    sample = os.path.join(HERE, "sample_data")
    check_blocks()
    check_condition_mask()
    check_sampler()
    check_autoencoder()
    check_classes(data.load_rows(sample))
    transdiff_few_step_checks.main()
    check_stored_cases(os.path.join(HERE, "golden-transdiff"))
    folder = tempfile.mkdtemp(prefix="transdiff-checks-")
    check_inner_training(folder, sample)
    stages(folder, sample)
    shutil.rmtree(folder)
    print("TransDiff checks passed")


if __name__ == "__main__":
    main()
