"""What must hold of TransDiff's few-step decoder and its training, on toys, in seconds. transdiff_checks.py runs it; so does python transdiff_few_step_checks.py.

Every check names the mistake that it would show. The losses themselves: few_step_checks.py.
"""
import argparse
import json
import os
import tempfile

import numpy as np
import torch

import few_step
import safetensors_io
import train_few_step
import transdiff_few_step
import transdiff_golden
import transdiff_model as transdiff
import transdiff_paths
import transdiff_sample
from trajectories import Teacher

HERE = os.path.dirname(os.path.abspath(__file__))
TOY = dict(transdiff_golden.TINY, num_classes=5, bf16_rounding_before_time_proj=False)     # the rounding hides differences of this size
BLOCK, TOKENS, CHANNELS = transdiff.block_length(TOY), transdiff.side_of(TOY) ** 2, TOY["vae_channels"]


def toy(seed=0):
    """A network with random weights whose velocity depends on time and condition too."""
    torch.manual_seed(seed)
    net = transdiff.TransDiff(TOY).initialise()
    for name, p in net.named_parameters():
        p.data += (0.3 if "time" in name or "scale_shift" in name else 0.1) * torch.randn_like(p)
    return net.eval().requires_grad_(False)


def options(**others):
    """Of a training, small."""
    parser = argparse.ArgumentParser()
    train_few_step.options(parser)
    transdiff_paths.arguments(parser)
    args = parser.parse_args(["--no-bf16"])
    small = dict(batch=8, dmd_batch=4, held_out=8, path_batch=8, pool=24, refresh=8, refresh_steps=2, normalised=0.0)
    vars(args).update(dict(small, **others))
    return args


def rows_of(net, args, where="cpu", scale=1.3):
    tokens = torch.randn(TOY["num_classes"], TOY["ar_steps"], BLOCK, 4 * CHANNELS, device=where)
    return transdiff_paths.Rows(net, Teacher(transdiff_few_step.teacher_net(net.diffdecoder.net, TOY), scale), tokens, args)


@torch.no_grad()
def terms_agree():
    """The losses' terms and the decoder's own are one function: shows a time or a velocity the wrong way round, a condition that is not hidden."""
    net = toy()
    decoder, student = net.diffdecoder.net, transdiff_few_step.from_teacher(net.diffdecoder.net, TOY)
    for p in student.interval_embed.parameters():
        p.data += 0.3 * torch.randn_like(p)
    teacher = transdiff_few_step.teacher_net(decoder, TOY)
    x, z, passes = torch.randn(3, TOKENS, CHANNELS), torch.randn(3, TOY["ar_steps"] * BLOCK, TOY["width"]), torch.tensor([0, 2, 1])
    t, r = torch.tensor([0.0, 0.25, 0.5]), torch.tensor([1.0, 0.75, 0.5])
    c = transdiff_few_step.conditions(z, passes, BLOCK)
    v, u = teacher(x.flatten(1), t, c).reshape(x.shape), student(x.flatten(1), t, r, c).reshape(x.shape)
    for i, p in enumerate(passes):
        row, seen = slice(i, i + 1), z[i:i + 1, :BLOCK * (int(p) + 1)]
        alone = -decoder.velocity(x[row], 1000 * (1 - t[row]), decoder.condition(seen))
        jump = -student.mean_velocity(x[row], 1 - t[row], 1 - r[row], student.condition(seen))
        assert torch.allclose(v[row], alone, atol=2e-5) and torch.allclose(u[row], jump, atol=2e-5), i
    noise = torch.randn(2, TOKENS, CHANNELS)
    whole = transdiff_few_step.conditions(z[:2], torch.full((2,), TOY["ar_steps"] - 1), BLOCK)
    for n in few_step.JUMPS:
        drawn = transdiff_few_step.draw(student, noise, z[:2], n).flatten(1)
        assert torch.allclose(drawn, few_step.draw(student, noise.flatten(1), whole, n), atol=5e-5), n


@torch.no_grad()
def untrained_student_is_the_teacher():
    """Shows an embedding of the jump's length that is not zero at first, or weights left behind; and what a file brings back, in bfloat16."""
    net = toy()
    student, teacher = transdiff_few_step.from_teacher(net.diffdecoder.net, TOY), transdiff_few_step.teacher_net(net.diffdecoder.net, TOY)
    c = transdiff_few_step.conditions(torch.randn(4, TOY["ar_steps"] * BLOCK, TOY["width"]), torch.tensor([0, 1, 2, 2]), BLOCK)
    x, t, r = torch.randn(4, TOKENS * CHANNELS), 0.5 * torch.rand(4), 0.5 + 0.5 * torch.rand(4)
    assert (student(x, t, r, c) - teacher(x, t, c)).abs().max() < 1e-6
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, few_step.FILE)
        few_step.save(student, path)
        stored, loaded = safetensors_io.load(path), transdiff_few_step.load(folder, TOY)
    released = {f"diffdecoder.{name}" for name in net.diffdecoder.state_dict()}
    assert {name for name in stored if "interval_embed." not in name} == released and len(stored) == len(released) + 4
    assert all(torch.equal(p, q.bfloat16().float()) for p, q in zip(loaded.parameters(), student.parameters()))


@torch.no_grad()
def rows_are_what_is_drawn():
    """A row's condition is the target's in that pass, and its path ends where the guided sampler without noise does. Shows guidance on the wrong row,
    references of another pass, a noise that is not the references' own."""
    net, args = toy(), options(own=1.0, substeps=60)
    rows, student = rows_of(net, args), transdiff_few_step.from_teacher(net.diffdecoder.net, TOY)
    asked = []
    own, rows.own_references = rows.own_references, lambda s, labels, noise: asked.append((labels, noise)) or own(s, labels, noise)
    made = {name: tensor.float() for name, tensor in rows.make(student, 4).items()}
    (labels, noise), decoder = asked[0], net.diffdecoder.net
    assert torch.allclose(made["states"][:, 0], noise.flatten(1), atol=2e-3)
    for i in range(4):
        seen = made["c"][i, :, -1].bool()
        passes = int(seen.sum()) // BLOCK
        z, empty = made["c"][i:i + 1, seen, :-1], made["empty"][i:i + 1, seen, :-1]
        # Features of the first pass are the class's alone; of later ones, those under the pictures that the student drew.
        known = [net.positioned(net.next_features(row, None, [[] for _ in net.encoder_blocks])) for row in (labels[i:i + 1], torch.tensor([-1]))]
        assert torch.allclose(z[:, :BLOCK], known[0], atol=2e-2) and torch.allclose(empty[:, :BLOCK], known[1], atol=2e-2), passes
        x = noise[i:i + 1]
        for k in range(400):                                            # plain Euler steps of the model's own guided velocity, noise to data
            t = torch.full((1,), 1 - (k + 0.5) / 400)
            v, without = (decoder.velocity(x, 1000 * t, decoder.condition(c)) for c in (z, empty))
            x = x - (without + 1.3 * (v - without)) / 400
        assert (x.flatten(1) - made["states"][i, -1]).abs().max() < 0.05 * x.abs().max(), (i, float((x.flatten(1) - made["states"][i, -1]).abs().max()))


def pool_moves_on():
    """Rows make way oldest first, and paths stay with their conditions."""
    net, args = toy(), options()
    rows, student = rows_of(net, args), transdiff_few_step.from_teacher(net.diffdecoder.net, TOY)
    pool = transdiff_paths.Pool(rows, args)
    pool.refresh(student, 0)
    first = {name: tensor.clone() for name, tensor in pool.train.items()}
    for step in range(2 * args.refresh_steps):
        pool.refresh(student, step)
    same = {name: (first[name] == pool.train[name]).flatten(1).all(1) for name in first}
    moved = 2 * args.refresh
    for name in ("states", "velocities", "c"):
        assert same[name][moved:].all() and not same[name][:moved].any(), name
    assert pool.oldest == moved and len(pool.valid["c"]) == args.held_out


def nothing_waits_for_the_device():
    """Rows and steps on PyTorch's "meta" device, which has no numbers to look at: shows a tensor made elsewhere, and every look at a loss."""
    net, args = toy(), options(fake_updates=2)
    student = transdiff_few_step.from_teacher(net.diffdecoder.net, TOY)
    where = torch.device("meta")
    rows = rows_of(net, args, where)
    rows.net.to(where), rows.teacher.net.to(where)
    distiller, pool = train_few_step.Distiller(rows.teacher, student, args, where, finish=lambda x: x, own_noise=True), transdiff_paths.Pool(rows, args)
    for step in range(3):
        pool.refresh(distiller.ema, step)
        report = distiller.step(pool, 0.5, 1.0)
    assert {name: value.device.type for name, value in report.items()} == dict.fromkeys(("seg", "cd", "token", "fake", "norm"), "meta")


def distilled_student_follows_the_teacher(steps=120):
    """Seconds of training on a toy, both stages: nearer the guided teacher's pictures by far with any number of jumps."""
    net, args = toy(), options(batch=32, dmd_batch=8, held_out=48, path_batch=256, pool=256, refresh=32, refresh_steps=40, lr=3e-3, fake_updates=1, init=None)
    rows, where = rows_of(net, args), torch.device("cpu")
    student = transdiff_few_step.from_teacher(net.diffdecoder.net, TOY)
    distiller, pool = train_few_step.Distiller(rows.teacher, student, args, where, finish=lambda x: x, own_noise=True), transdiff_paths.Pool(rows, args)
    pool.refresh(student, 0)
    before = distiller.validate(pool)
    fake = [p.clone() for p in distiller.fake.parameters()]
    for step in range(steps):
        pool.refresh(distiller.ema, step)
        distiller.step(pool, 0.0 if step < steps - 5 else 0.3, 1 - step / steps)
    after = distiller.validate(pool)
    assert all(after[name] < 0.2 * before[name] for name in before), (before, after)
    assert not all(torch.equal(p, q) for p, q in zip(fake, distiller.fake.parameters())), "distribution matching trains the fake network"
    return before, after


def stored_cases_hold():
    """The committed cases of a few-step decoder are what this code computes."""
    folder = os.path.join(HERE, "golden-transdiff")
    with open(os.path.join(folder, "accelerator", "manifest.json")) as file:
        cases = [case for case in json.load(file)["cases"] if case["kind"] == "class_to_latent"]
    stored = safetensors_io.load(os.path.join(folder, "accelerator", "fixtures.safetensors"))
    _, tensors = transdiff_golden.few_step_cases(transdiff_sample.Pipeline.load(folder))
    assert set(tensors) == set(stored) and [case["params"]["few_step"] for case in cases] == list(few_step.JUMPS)
    for case in cases:
        for name in (*case["expect"], case["noise"]):
            assert torch.allclose(stored[name], tensors[name], atol=1e-3), name


def main():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    np.random.seed(0)
    terms_agree()
    untrained_student_is_the_teacher()
    rows_are_what_is_drawn()
    pool_moves_on()
    if int(torch.__version__.split(".")[0]) >= 2:                       # before, that device knows too few operations
        nothing_waits_for_the_device()
    else:
        print("not checked with this PyTorch: that nothing waits for the device")
    stored_cases_hold()
    before, after = distilled_student_follows_the_teacher()
    torch.set_num_threads(threads)
    print("TransDiff's few-step checks passed: error of 1, 2 and 4 jumps " + ", ".join(f"{before[k]:.3f} -> {after[k]:.3f}" for k in ("error1", "error2", "error4")))


if __name__ == "__main__":
    main()
