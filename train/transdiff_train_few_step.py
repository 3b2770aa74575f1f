"""Distils TransDiff's guided diffusion decoder into a few-step decoder: train_few_step.py, with pictures for tokens.

python transdiff_train_few_step.py --data DIR --model ../models/transdiff-emoji64 --run runs/td-few --minutes 3

The teacher's paths are made on the way (transdiff_paths.py), which a GPU does in passing; --paths takes them from files. Besides train_few_step.py's log
(error1, 2, 4: mean squared error from the teacher's endpoint), probe.csv says what pictures hold that are drawn by 1, 2 and 4 calls in all passes, beside
the model's own sampler.
"""
import argparse
import os
import time

import torch

import few_step
import train_few_step
import transdiff_few_step
import transdiff_paths
from run_log import Log, device, use_threads
from transdiff_train import drawn_classes


class Probe:
    """Adherence of some classes, drawn wholly by the few-step decoder, by calls a pass; with sheets to look at."""

    def __init__(self, pipeline, content, args):
        self.pipeline, self.content, self.args, self.log = pipeline, content, args, Log(os.path.join(args.run, "probe.csv"))
        self.sampler = None

    def adherence(self, name, **options):
        rows, pictures, chosen = self.content
        return drawn_classes(self.pipeline, chosen, rows, pictures, self.args.probe_classes, os.path.join(self.args.run, f"{name}.png"), **options)

    def __call__(self, distiller, step, clock):
        start = time.time()
        if self.sampler is None:
            self.sampler = self.adherence("sampler")
        self.pipeline.few_step_decoder = distiller.ema
        by_calls = {f"calls{n}": self.adherence(f"calls{n}", few_step=n) for n in few_step.JUMPS}
        self.log.add(step=step, minutes=clock.spent / 60, sampler=self.sampler, **by_calls, seconds=time.time() - start)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    train_few_step.run_options(parser)
    train_few_step.options(parser)
    transdiff_paths.arguments(parser)
    parser.add_argument("--guidance-scale", type=float, help="that is distilled; the model's default otherwise")
    parser.add_argument("--paths", nargs="+", help="files of transdiff_paths.py, instead of paths made on the way")
    parser.add_argument("--most", type=int, help="rows of each of them at most")
    parser.add_argument("--pool", type=int, default=8192, help="paths held; 82 KB each at width 256")
    parser.add_argument("--refresh", type=int, default=512, help="of which so many are made anew every --refresh-steps steps")
    parser.add_argument("--refresh-steps", type=int, default=40)
    parser.add_argument("--probe-minutes", type=float, default=5)
    parser.add_argument("--probe-classes", type=int, default=96)
    parser.set_defaults(batch=512, dmd_batch=256, held_out=512, lr=3e-4, fake_lr=1e-4, dmd_floor=0.05, normalised=0.0, draft_share=0.0, ema=0.99)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    pipeline, rows, content = transdiff_paths.prepare(args, where)
    config, decoder = pipeline.network.config, pipeline.network.diffdecoder.net
    torch.manual_seed(args.seed)
    student = transdiff_few_step.load(args.init, config) if args.init else transdiff_few_step.from_teacher(decoder, config)
    paths = train_few_step.Paths(args.paths, args.held_out, args.most) if args.paths else transdiff_paths.Pool(rows, args)
    distiller = train_few_step.Distiller(rows.teacher, student, args, where, finish=lambda x: x, own_noise=True)
    train_few_step.distil(distiller, paths, args, where, Probe(pipeline, content, args))


if __name__ == "__main__":
    main()
