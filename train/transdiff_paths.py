"""The guided teacher's paths from noise to picture, for few-step training of TransDiff: made while it trains, or once into a file.

python transdiff_paths.py --data DIR --model ../models/transdiff-emoji64 --rows 4096 --out runs/td-paths.safetensors

A row is a class, references, one of the passes, and a noise; its path is trajectories.Teacher's. References are training pictures with the noise of
training on them, or, in the share --own, what a few-step decoder drew by itself: what it will be asked under (rollouts.py). Then the noise is the one
that they were drawn from, because all passes of a picture begin at the same.
"""
import argparse

import numpy as np
import torch

import data
import few_step
import safetensors_io
import transdiff_data
import transdiff_few_step
import transdiff_model as transdiff
import vae
from run_log import autocast, device, use_threads
from train import input_noise
from train_few_step import Paths
from trajectories import Teacher
from transdiff_sample import Pipeline, in_passes

LAST_PASS = 0.4                                           # its share of the rows: it is the picture; the others share the rest


class Rows:
    """Draws rows. tokens (classes, P, m, 64) on the network's device: the training pictures of each class's passes."""

    def __init__(self, network, teacher, tokens, args):
        self.net, self.teacher, self.tokens, self.args, self.where = network, teacher, tokens, args, tokens.device
        others = network.config["ar_steps"] - 1
        self.shares = torch.tensor([(1 - LAST_PASS) / others] * others + [LAST_PASS], device=self.where)

    def own_references(self, student, labels, noise):
        """What the student draws in the passes before the last, with as many jumps as happens."""
        n = int(np.random.choice(few_step.JUMPS))
        c = self.net.config
        drawn = in_passes(self.net, labels, c["ar_steps"] - 1, lambda _, z: transdiff_few_step.draw(student, noise, z, n))
        return transdiff.patches(drawn.flatten(0, 1), c).unflatten(0, drawn.shape[:2])

    @torch.no_grad()
    def make(self, student, count):
        """-> c, empty (count, M, D + 1), states (count, STATES, N 16), velocities, of trajectories.py's meaning, float16."""
        a, c = self.args, self.net.config
        labels = torch.randint(len(self.tokens), (count,), device=self.where)
        passes = torch.multinomial(self.shares, count, replacement=True)
        noise = torch.randn(count, transdiff.side_of(c) ** 2, c["vae_channels"], device=self.where)
        references = self.tokens[labels, :-1]
        std = input_noise(count, a.noise, a.forget, most=1.5)[..., None].to(self.where, non_blocking=True)
        references = references + std * torch.randn_like(references)
        own = int(count * a.own)
        with autocast(self.where, not a.no_bf16):
            if own:
                references[:own] = self.own_references(student, labels[:own], noise[:own])
            f = self.net.features(torch.cat([labels, torch.full_like(labels, -1)]), torch.cat([references, references]))
            z = self.net.positioned(f.flatten(1, 2)).float()
            rows = transdiff_few_step.conditions(z, passes.repeat(2), transdiff.block_length(c))
            states, velocities = self.teacher.path(noise.flatten(1), *rows.chunk(2), a.substeps)
        return {name: tensor.half() for name, tensor in zip(("c", "empty", "states", "velocities"), (*rows.chunk(2), states, velocities))}

    def many(self, student, count):
        """Of `own` rows in every part, so that parts may be mixed in any way."""
        parts = [self.make(student, min(self.args.path_batch, count - begin)) for begin in range(0, count, self.args.path_batch)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


class Pool(Paths):
    """Rows on the device. Every --refresh-steps steps the oldest of them make way, so that references follow the student that draws them."""

    def __init__(self, rows, args):
        self.rows, self.args, self.train, self.valid, self.oldest, self.age = rows, args, None, None, 0, 0

    def refresh(self, student, step):
        a = self.args
        if self.train is None:
            self.valid, self.train = self.rows.many(student, a.held_out), self.rows.many(student, a.pool)
            return
        self.age += 1
        if self.age % a.refresh_steps == 0:
            fresh = self.rows.many(student, min(a.refresh, a.pool))
            places = (self.oldest + torch.arange(len(fresh["c"]), device=self.rows.where)) % a.pool
            for name, tensor in fresh.items():
                self.train[name][places] = tensor
            self.oldest = (self.oldest + len(places)) % a.pool


def arguments(parser):
    parser.add_argument("--own", type=float, default=0.5, help="share of rows whose references the student drew")
    parser.add_argument("--noise", type=float, default=0.3, help="largest std of the noise on the others")
    parser.add_argument("--forget", type=float, default=0.1, help="share of those that are mostly noise")
    parser.add_argument("--substeps", type=int, default=3, help="second-order steps between two of the four states of a path")
    parser.add_argument("--path-batch", type=int, default=1024, help="rows whose paths are computed at once")


def class_tokens(pictures, chosen, autoencoder, scale):
    """-> (classes, P, m, 64): the latents of the passes' pictures."""
    index = np.asarray(chosen)
    return scale * vae.encode_all(pictures[index.reshape(-1)], autoencoder).float().unflatten(0, index.shape)


def prepare(args, where):
    """-> the pipeline on its device, what draws rows, and rows, pictures and picture ids of the classes."""
    rows, pictures = data.load(args.data)
    chosen = transdiff_data.passes_of(rows)
    pipeline = Pipeline.load(args.model)
    network, config = pipeline.network.to(where).requires_grad_(False), pipeline.network.config
    pipeline.vae.to(where).requires_grad_(False)
    if len(chosen) != config["num_classes"]:
        raise ValueError(f"{args.data} has {len(chosen)} classes, {args.model} was trained on {config['num_classes']}")
    net = transdiff_few_step.teacher_net(network.diffdecoder.net, config).to(where)
    teacher = Teacher(net, args.guidance_scale or pipeline.defaults["guidance_scale"])
    tokens = class_tokens(pictures, chosen, pipeline.vae, config["vae_scale"]).to(where)
    return pipeline, Rows(network, teacher, tokens, args), (rows, pictures, chosen)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--few-step-head", help="what draws references; untrained otherwise")
    parser.add_argument("--guidance-scale", type=float, help="the model's default otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-bf16", action="store_true")
    arguments(parser)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    pipeline, rows, _ = prepare(args, where)
    config, decoder = pipeline.network.config, pipeline.network.diffdecoder.net
    student = transdiff_few_step.load(args.few_step_head, config) if args.few_step_head else transdiff_few_step.from_teacher(decoder, config)
    found = rows.many(student.to(where), args.rows)
    order = torch.randperm(args.rows, device=where)
    safetensors_io.save({name: tensor[order] for name, tensor in found.items()}, args.out, dict(guidance_scale=str(rows.teacher.scale)))
    print(f"{args.out}: {args.rows} paths")


if __name__ == "__main__":
    main()
