"""Distils the guided flow head into a few-step head: first the teacher's paths, then its distribution (few_step_losses.py, dynamic_schedule.py).

python train_few_step.py --model ../models/nextstep-emoji64 --paths runs/paths-0.safetensors runs/paths-1.safetensors --run runs/few --minutes 30

The learning rate follows the share of --minutes that is spent, so a run is prolonged by starting another with --init. Writes few_step.safetensors
(EMA weights, bf16) into the run folder whenever it saves.
"""
import argparse
import copy
import os

import numpy as np
import torch

import dynamic_schedule
import few_step
import few_step_losses as losses
import safetensors_io
from run_log import Clock, Log, autocast, device, mean_of, plot, progress, save_checkpoint, use_threads, work
from sample import Pipeline
from trajectories import Teacher


class Paths:
    """Rows of trajectories.py's files, held in float16. The last of each file are kept for validation.

    draft: the draft model's guess of c, where a file has one. most: rows of each file at most, drawn at random.
    """

    def __init__(self, files, held_out, most=None):
        parts = [safetensors_io.load(file) for file in files]
        if most:
            picks = [torch.randperm(len(part["c"]))[:most] for part in parts]
            parts = [{k: v[pick] for k, v in part.items()} for part, pick in zip(parts, picks)]
        self.split(parts, held_out)

    def split(self, parts, held_out):
        self.train = self.join([{k: v[:-held_out] for k, v in part.items()} for part in parts])
        self.valid = self.join([{k: v[-held_out:] for k, v in part.items()} for part in parts])

    @staticmethod
    def join(parts):
        names = ["c", "empty", "states", "velocities"]
        if all("draft" in part for part in parts):
            names.append("draft")
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    def batch(self, count, where):
        index = torch.randint(len(self.train["c"]), (count,), device=self.train["c"].device)
        return {name: tensor[index].to(where).float() for name, tensor in self.train.items()}

    def validation(self, where):
        return {name: tensor.to(where).float() for name, tensor in self.valid.items()}

    def refresh(self, student, step):
        """Before every step; files stay as they are."""


def mix_draft(batch, share):
    """Conditions of some rows replaced by the draft's guess of them, so that the head also knows what the draft will ask."""
    if share and "draft" in batch:
        replaced = torch.rand(len(batch["c"]), 1, device=batch["c"].device) < share
        return torch.where(replaced, batch["draft"], batch["c"])
    return batch["c"]


class Distiller:
    """Student, its EMA, the fake network, their optimizers; one call of step() is one update of the student.

    finish: what a drawn token goes through before it is used. own_noise: a student's token begins at the noise of its row's path, not at any.
    """

    def __init__(self, teacher, student, args, where, finish=losses.token_norm, own_noise=False):
        self.teacher, self.args, self.where, self.finish, self.own_noise = teacher, args, where, finish, own_noise
        self.student = student.to(where).train()
        self.ema = copy.deepcopy(self.student).requires_grad_(False)
        self.fake = copy.deepcopy(teacher.net).requires_grad_(True).train()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), args.lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.fake_optimizer = torch.optim.AdamW(self.fake.parameters(), args.fake_lr, betas=(0.0, 0.95), weight_decay=0.0)
        self.updates = 0

    def state(self):
        return {name: getattr(self, name).state_dict() for name in ("student", "ema", "fake", "optimizer", "fake_optimizer")}

    def load_state(self, state):
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)

    def autocast(self):
        return autocast(self.where, not self.args.no_bf16)

    def step(self, paths, b, rate):
        """b: dynamic_schedule.beta; rate: of the peak learning rate. -> losses, for the log (run_log.mean_of)."""
        for optimizer, peak in ((self.optimizer, self.args.lr), (self.fake_optimizer, self.args.fake_lr)):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
        keep, weight = dynamic_schedule.loss_weights(b)
        loss, report = self.trajectory_loss(paths)
        total = keep * loss
        if weight > 0:
            dmd, fake = self.distribution_loss(paths)
            total, report = total + weight * dmd, dict(report, fake=fake)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.args.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.follow()
        return dict(report, norm=norm)

    def trajectory_loss(self, paths):
        """L_traj = L_seg + 0.5 L_cd, and the error of finished tokens as they are fed back, after normalisation."""
        batch = paths.batch(self.args.batch, self.where)
        c = mix_draft(batch, self.args.draft_share)
        begin, end = (part.to(self.where, non_blocking=True) for part in losses.segments(len(c)))
        with self.autocast():
            seg, token = losses.segment_loss(self.student, batch["states"], batch["velocities"], c, begin, end, self.finish)
            part = slice(0, self.args.batch // 4)
            later = torch.randint(losses.LAST, (self.args.batch // 4,), device=self.where)
            cd = losses.consistency_loss(self.student, self.ema, batch["states"][part], c[part], later)
        return seg + 0.5 * cd + self.args.normalised * token, dict(seg=seg.detach(), cd=cd.detach(), token=token.detach())

    def student_tokens(self, batch, c, gradient):
        """Tokens of a random budget; only the last jump carries the gradient."""
        n = int(np.random.choice(few_step.JUMPS, p=(0.6, 0.25, 0.15)))
        x = batch["states"][:, 0] if self.own_noise else torch.randn_like(batch["states"][:, 0])
        for i in range(n):
            with torch.set_grad_enabled(gradient and i == n - 1):
                t = torch.full((len(x),), i / n, device=x.device)
                x, _ = few_step.jump(self.student, x.detach(), t, torch.full_like(t, (i + 1) / n), c)
        return x

    def distribution_loss(self, paths):
        a = self.args
        for _ in range(a.fake_updates):
            batch = paths.batch(a.dmd_batch, self.where)
            c = mix_draft(batch, a.draft_share)
            with self.autocast():
                fake = losses.flow_loss(self.fake, self.student_tokens(batch, c, False), c)
            fake.backward()
            torch.nn.utils.clip_grad_norm_(self.fake.parameters(), a.clip)
            self.fake_optimizer.step()
            self.fake_optimizer.zero_grad(set_to_none=True)
        batch = paths.batch(a.dmd_batch, self.where)
        c = mix_draft(batch, a.draft_share)
        with self.autocast():
            token = self.student_tokens(batch, c, True)
            with torch.no_grad():
                time = 0.02 + 0.96 * torch.rand(len(token), device=self.where)
                noised = time[:, None] * token + (1 - time[:, None]) * torch.randn_like(token)
                real, guess = self.teacher.velocity(noised, time, batch["c"], batch["empty"]), self.fake(noised, time, c).float()
                gradient = losses.dmd_gradient(token, noised, time, real, guess, a.dmd_floor)
        return losses.dmd_loss(token, gradient), fake.detach()

    @torch.no_grad()
    def follow(self):
        self.updates += 1
        decay = min(self.args.ema, (1 + self.updates) / (10 + self.updates)) if not self.args.init else self.args.ema
        for slow, fast in zip(self.ema.parameters(), self.student.parameters()):
            slow.lerp_(fast, 1 - decay)

    @torch.no_grad()
    def validate(self, paths):
        """-> per budget, mean squared error of the finished tokens from the teacher's for the same noise."""
        batch = paths.validation(self.where)
        target = self.finish(batch["states"][:, -1])
        with self.autocast():
            return {f"error{n}": float((self.finish(few_step.draw(self.ema, batch["states"][:, 0], batch["c"], n)) - target).pow(2).mean())
                    for n in few_step.JUMPS}


def distil(distiller, paths, args, where, probe=None):
    """The budget's steps, from where the run stands. probe(distiller, step, clock): every --probe-minutes and at the end."""
    step, clock, last = 0, Clock(), os.path.join(args.run, "last.pt")
    if os.path.exists(last):
        state = torch.load(last, map_location=where)
        distiller.load_state(state["distiller"])
        step, clock = state["step"], Clock(state["seconds"])
        distiller.updates = step
    torch.manual_seed(args.seed + step)
    np.random.seed(args.seed + step)
    if args.compile:
        for net in (distiller.student, distiller.ema, distiller.fake, distiller.teacher.net):
            net.forward = torch.compile(net.forward, dynamic=True)
    log = Log(os.path.join(args.run, "log.csv"))
    print(f"{sum(p.numel() for p in distiller.student.parameters()) / 1e6:.2f}M parameters, from step {step}", flush=True)
    paths.refresh(distiller.ema, step)
    clock.mark = Clock().mark                                       # the first paths are not training

    def save():
        clock.tick()
        save_checkpoint(dict(distiller=distiller.state(), step=step, seconds=clock.spent), last)
        few_step.save(distiller.ema, os.path.join(args.run, few_step.FILE))
        plot(log.path, ["seg", "cd", "error1", "error4"], os.path.join(args.run, "log.png"))

    sums, mark, since, probed = {}, clock.spent, step, clock.spent
    for _ in work(clock, args.minutes, save, args.save_minutes, args.until):
        paths.refresh(distiller.ema, step)
        s = args.begin + (1 - args.begin) * progress(clock, args.minutes, args.until)
        b = 0.0 if args.trajectories_only else dynamic_schedule.beta(s)
        _, rate = dynamic_schedule.rates(s, joint=False)
        for name, value in distiller.step(paths, b, rate).items():
            sums.setdefault(name, []).append(value)
        step += 1
        if step % args.log_steps == 0:
            clock.tick()
            row = {name: mean_of(sums.get(name, [])) for name in ("seg", "cd", "token", "fake", "norm")}
            log.add(step=step, **row, **distiller.validate(paths), beta=b, lr=args.lr * rate, minutes=clock.spent / 60,
                    seconds_per_step=(clock.spent - mark) / (step - since))
            sums, mark, since = {}, clock.tick(), step
        if probe and clock.spent - probed > args.probe_minutes * 60:
            probe(distiller, step, clock)
            probed = mark = clock.tick()
            since = step
    if probe:
        probe(distiller, step, clock)


def arguments(parser):
    parser.add_argument("--paths", required=True, nargs="+")
    parser.add_argument("--most", type=int, help="rows of each of --paths at most")
    parser.add_argument("--guidance-scale", type=float, help="of distribution matching; the model's default otherwise. --paths have their own")
    options(parser)
    run_options(parser)


def run_options(parser):
    """What distil() reads."""
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--until", type=float, help="end at this time (seconds since 1970) instead of after --minutes")
    parser.add_argument("--trajectories-only", action="store_true", help="beta = 0 throughout: stage 1 alone")
    parser.add_argument("--begin", type=float, default=0.0, help="progress s at which the run begins; 0.35: distribution matching at once")
    parser.add_argument("--log-steps", type=int, default=100)
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")


def options(parser):
    """What Distiller and Paths read."""
    parser.add_argument("--init", help="few-step weights to start from, instead of the teacher's")
    parser.add_argument("--held-out", type=int, default=1024, help="rows of each file for validation")
    parser.add_argument("--batch", type=int, default=2048, help="rows of a step, a quarter of them again for the consistency loss")
    parser.add_argument("--dmd-batch", type=int, default=1024)
    parser.add_argument("--dmd-floor", type=float, default=1e-4, help="of tokens of std 1: a distance from the teacher's below which distribution matching pulls less")
    parser.add_argument("--fake-updates", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--fake-lr", type=float, default=2e-4)
    parser.add_argument("--normalised", type=float, default=0.5, help="weight of the error after token_norm")
    parser.add_argument("--draft-share", type=float, default=0.3, help="rows whose condition is the draft's, where --paths have it")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--no-bf16", action="store_true")


def main(argv=None):
    parser = argparse.ArgumentParser()
    arguments(parser)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    pipeline = Pipeline.load(args.model)
    teacher = Teacher(pipeline.network.image_head.net.to(where), args.guidance_scale or pipeline.defaults["guidance_scale"])
    torch.manual_seed(args.seed)
    student = few_step.load(args.init) if args.init else few_step.from_teacher(teacher.net)
    distil(Distiller(teacher, student, args, where), Paths(args.paths, args.held_out, args.most), args, where)


if __name__ == "__main__":
    main()
