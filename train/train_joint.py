"""Draft model and few-step head in one process, from one config: first the draft, then, guided by it, the head (dynamic_schedule.py).

python train_joint.py --config joint.json --run runs/joint

joint.json: {"model": …, "paths": [...], "drawn": [...], "minutes": 30, "draft": {options of train_draft.py}, "head": {options of train_few_step.py}}

Both are initialised from runs of their own with "init" in their options, or from the target. What couples them: the draft is compared by the
head's tokens (EMA weights), and a share of the head's rows has the draft's guess of the condition, made anew every --refresh steps.
"""
import argparse
import json
import os

import numpy as np
import torch

import draft_model
import dynamic_schedule
import few_step
import train_draft
import train_few_step
from draft_data import Features, load_drawn
from run_log import Clock, Log, device, mean_of, plot, save_checkpoint, use_threads, work
from sample import Pipeline
from trajectories import Teacher, compute


def parse(module_options, given, **fixed):
    """Options of one of the two trainings, as its own command line has them, from a JSON object."""
    parser = argparse.ArgumentParser()
    module_options(parser)
    words = []
    for name, value in dict(given, **fixed).items():
        words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return parser.parse_args(words)


@torch.no_grad()
def drafted_paths(trainer, teacher, data, index, seed, bf16):
    """Rows as trajectories.py's files have them, with the draft's guess too: of the tokens whose condition one pair of true inputs foretells."""
    layout = train_draft.Layout(data.begin + data.length - 1, [], 0)
    with trainer.autocast():
        batch = train_draft.Batch(data, index, trainer.target, layout, trainer.draft.mask_token, trainer.where)
        guess, _ = trainer.draft(batch.given, batch.inputs, batch.table, batch.mask)
        c, draft, empty = (trainer.conditions(rows).flatten(0, 1).half() for rows in
                           (batch.wanted[:, batch.rows], guess[:, batch.rows], batch.empty))
    states, velocities = compute(teacher, c, empty, seed, bf16=bf16)
    return dict(c=c.cpu(), empty=empty.cpu(), draft=draft.cpu(), states=states, velocities=velocities)


class JointPaths(train_few_step.Paths):
    """The stored paths, and a changing set of rows that have the draft's guess: of every batch, `share` are those; elsewhere the guess is right."""

    def __init__(self, files, held_out, share):
        super().__init__(files, held_out)
        self.drafted, self.share = None, share

    def batch(self, count, where):
        batch = super().batch(count, where)
        batch["draft"] = batch["c"].clone()
        if self.drafted is not None:
            few = int(count * self.share)
            index = torch.randint(len(self.drafted["c"]), (few,))
            for name, rows in self.drafted.items():
                batch[name][:few] = rows[index].to(where).float()
        return batch


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--refresh", type=int, default=100, help="steps between new guesses of the draft")
    parser.add_argument("--drafted-pictures", type=int, default=32, help="pictures whose conditions it guesses then")
    parser.add_argument("--log-steps", type=int, default=50)
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    with open(args.config) as file:
        config = json.load(file)
    draft_args = parse(train_draft.arguments, config.get("draft", {}), model=config["model"], drawn=config["drawn"], run=args.run)
    head_args = parse(train_few_step.options, config.get("head", {}))
    pipeline = Pipeline.load(config["model"])
    pipeline.network.to(where)
    torch.manual_seed(args.seed)
    teacher = Teacher(pipeline.network.image_head.net, pipeline.defaults["guidance_scale"])
    student = few_step.load(head_args.init) if head_args.init else few_step.from_teacher(teacher.net)
    distiller = train_few_step.Distiller(teacher, student, head_args, where)
    trainer = train_draft.Trainer(pipeline, draft_args, where)
    trainer.few_step = distiller.ema
    step, clock, last = 0, Clock(), os.path.join(args.run, "last.pt")
    if os.path.exists(last):
        state = torch.load(last, map_location=where)
        distiller.load_state(state["distiller"])
        trainer.draft.load_state_dict(state["draft"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        step, clock, distiller.updates = state["step"], Clock(state["seconds"]), state["step"]
    torch.manual_seed(args.seed + step)
    np.random.seed(args.seed + step)
    data = Features(pipeline, *load_drawn(config["drawn"]))
    paths = JointPaths(config["paths"], head_args.held_out, head_args.draft_share)
    head_args.draft_share = 1.0                                     # paths have mixed already
    log = Log(os.path.join(args.run, "log.csv"))
    pictures = np.arange(min(draft_args.held_out, len(data.tokens) // 2), len(data.tokens))
    clock.mark = Clock().mark                                       # reading and features are not training

    def save():
        clock.tick()
        save_checkpoint(dict(distiller=distiller.state(), draft=trainer.draft.state_dict(), optimizer=trainer.optimizer.state_dict(), step=step,
                             seconds=clock.spent), last)
        few_step.save(distiller.ema, os.path.join(args.run, few_step.FILE))
        draft_model.save(trainer.draft, os.path.join(args.run, draft_model.FILE))
        plot(log.path, ["reg", "jump", "seg", "error1", "draft_lr", "head_lr"], os.path.join(args.run, "log.png"))

    sums = {}
    for _ in work(clock, config["minutes"], save, args.save_minutes):
        s = clock.spent / (config["minutes"] * 60)
        draft_rate, head_rate = dynamic_schedule.rates(s, joint=True)
        some = lambda count: torch.from_numpy(np.random.choice(pictures, min(count, len(pictures)), replace=False))
        if step % args.refresh == 0:
            paths.drafted = drafted_paths(trainer, teacher, data, some(args.drafted_pictures), args.seed + step, not head_args.no_bf16)
        report = trainer.step(data, some(draft_args.batch), s, draft_rate) if draft_rate > 0 else {}
        report = dict(report, **distiller.step(paths, dynamic_schedule.beta(s), head_rate))
        for name, value in report.items():
            sums.setdefault(name, []).append(value)
        step += 1
        if step % args.log_steps == 0:
            row = {name: mean_of(sums[name]) if name in sums else "" for name in ("reg", "vel", "jump", "seg", "cd", "token", "fake")}
            log.add(step=step, **row, **distiller.validate(paths), alpha=dynamic_schedule.alpha(s), beta=dynamic_schedule.beta(s),
                    draft_lr=draft_args.lr * draft_rate, head_lr=head_args.lr * head_rate, minutes=clock.tick() / 60)
            sums = {}


if __name__ == "__main__":
    main()
