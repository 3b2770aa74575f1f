"""Trains the draft model on the frozen target's features (draft_model.py, draft_losses.py).

python train_draft.py --model ../models/nextstep-emoji64 --few-step runs/few --drawn runs/drawn-few.safetensors runs/drawn-vanilla.safetensors \
                      --run runs/draft --minutes 15

One network learns both ways of drafting: sequential pairs, and parallel rows of the mask token behind some of them. The learning rate follows
the share of --minutes that is spent. Writes draft.safetensors (bf16) into the run folder whenever it saves.
"""
import argparse
import os

import numpy as np
import torch

import draft_losses as losses
import draft_model
import few_step
import model as nextstep
from draft_data import Features, load_drawn
from dynamic_schedule import envelope
from run_log import Clock, Log, device, plot, save_checkpoint, use_threads, work
from sample import Pipeline


class Layout:
    """Rows of one pass: T pairs, then behind `anchors` of them `group` rows of the mask token each.

    positions (R,); allowed (R, R) bool; the features that row r has and predicts: own[r], and own[r] + ahead[r].
    """

    def __init__(self, pairs, anchors, group):
        self.pairs, self.anchors, self.group = pairs, list(anchors), group
        rows = pairs + len(self.anchors) * group
        self.allowed = torch.zeros(rows, rows, dtype=torch.bool)
        self.allowed[:pairs, :pairs] = torch.ones(pairs, pairs, dtype=torch.bool).tril()
        self.positions, self.own, self.ahead = list(range(pairs)), list(range(pairs)), [1] * pairs
        for g, anchor in enumerate(self.anchors):
            begin = pairs + g * group
            self.allowed[begin:begin + group, :anchor + 1] = True
            self.allowed[begin:begin + group, begin:begin + group] = torch.ones(group, group, dtype=torch.bool).tril()
            self.positions += [anchor + j for j in range(1, group + 1)]
            self.own += [anchor] * group
            self.ahead += [1 + j for j in range(1, group + 1)]
        self.targets = [o + a for o, a in zip(self.own, self.ahead)]


class Batch:
    """Pictures of the data as the draft sees them."""

    def __init__(self, data, index, target, layout, mask_token, where):
        net, begin, count = target, data.begin, layout.pairs
        self.features = data.features[index].to(where).float()
        tokens = data.tokens[index].to(where).float()
        with torch.no_grad():
            e = torch.cat([net.embed_tokens(data.ids[index].to(where)), net.image_in_projector(tokens)], 1)[:, 1:count + 1]
        groups = len(layout.anchors) * layout.group
        self.inputs = torch.cat([e, mask_token.expand(len(index), groups, -1)], 1)
        self.given = self.features[:, layout.own]
        self.wanted = self.features[:, layout.targets]
        seen = torch.cat([data.padded(index)[:, :count], torch.ones(len(index), groups, dtype=torch.bool)], 1)
        allowed = layout.allowed[None] & seen[:, None]
        self.mask = torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)[:, None].to(where)
        cos, sin = nextstep.rope_table(0, count + layout.group + 1, net.config["head_dim"], net.config["rope_theta"], where)
        self.table = cos[layout.positions], sin[layout.positions]
        # Image rows: those that predict the condition of a token, and which token that is (0 = the first).
        targets = torch.tensor(layout.targets)
        self.rows = (targets > begin).nonzero()[:, 0]
        number = targets[self.rows] - begin
        self.tokens = tokens[:, number]
        self.empty = data.empty[index][:, number].to(where).float()


class Trainer:
    def __init__(self, pipeline, args, where):
        self.args, self.where, self.target = args, where, pipeline.network
        self.target.requires_grad_(False)
        self.few_step = few_step.load(args.few_step).to(where).requires_grad_(False) if args.few_step else None
        self.scale = pipeline.defaults["guidance_scale"]
        self.sampler = losses.SamplerB(pipeline.defaults["timesteps"], pipeline.defaults["timestep_shift"])
        self.draft = draft_model.DraftModel(self.target.config, args.layers, args.head_width, args.head_blocks).initialise(self.target).to(where)
        if args.init:
            self.draft.load_state_dict(draft_model.load(args.init, self.target.config).state_dict())
        self.optimizer = torch.optim.AdamW(self.draft.parameters(), args.lr, betas=(0.9, 0.95), weight_decay=0.01)

    def autocast(self):
        return torch.autocast(self.where.type, dtype=torch.bfloat16, enabled=not self.args.no_bf16)

    def conditions(self, features):
        return self.target.image_out_projector(features)

    def loss(self, data, index, s):
        """s: progress in [0, 1]. -> loss, numbers for the log."""
        a = self.args
        pairs = data.begin + data.length - 1
        anchors = np.sort(np.random.choice(np.arange(data.begin, pairs - a.group), a.anchors, replace=False)) if a.anchors else []
        layout = Layout(pairs, anchors, a.group)
        with self.autocast():
            batch = Batch(data, index, self.target, layout, self.draft.mask_token, self.where)
            noise = a.feature_noise * batch.given.std() * (torch.rand_like(batch.given) - 0.5)
            guess, before = self.draft(batch.given + noise, batch.inputs, batch.table, batch.mask)
            entropy = draft_model.attention_entropy(self.draft.layers[max(0, a.layers - 2)], before, batch.table, batch.mask, data.begin, data.length - 1)
            ramp = min(1.0, max(0.0, (s - a.ramp) / 0.15))
            loss, report = self.accept(batch, guess, ramp)
            ent = losses.entropy_loss(entropy, data.entropy[:data.length - 1].to(self.where), a.entropy)
            loss = loss + a.entropy_weight * ent
            if s > a.unroll_from:
                # The draft's own features in place of the target's, as sequential drafting feeds them back.
                fed = batch.given.clone()
                fed[:, data.begin + 1:pairs] = guess[:, data.begin:pairs - 1].detach()
                again, _ = self.draft(fed, batch.inputs, batch.table, batch.mask)
                more, _ = self.accept(batch, again, ramp)
                loss = loss + 0.5 * more
        return loss, dict(report, entropy=float(entropy[:, 1:].mean().detach()), target_entropy=float(data.entropy[1:].mean()))

    def accept(self, batch, guess, ramp):
        a = self.args
        wanted, own = batch.wanted[:, batch.rows], guess[:, batch.rows]
        reg = losses.regression(own, wanted)
        c, c_own = self.conditions(wanted).flatten(0, 1), self.conditions(own).flatten(0, 1)
        loss, report = reg, dict(reg=float(reg.detach()))
        pick = torch.randperm(len(c))[:a.head_rows]
        if a.velocity and self.draft.head is not None:
            # Of the first ten percent on, or the head would have nothing to start from.
            vel = losses.velocity_loss(self.target.image_head.net, self.draft.head.net, self.sampler, batch.tokens.flatten(0, 1)[pick], c[pick],
                                       self.conditions(batch.empty).flatten(0, 1)[pick], c_own[pick] if ramp > 0 else c[pick], self.scale)
            loss, report = loss + a.velocity * vel, dict(report, vel=float(vel.detach()))
        if a.jump and self.few_step is not None:
            jump = losses.jump_loss(self.few_step, c[pick], c_own[pick], batch.tokens.shape[-1])
            loss, report = loss + a.jump * ramp * jump, dict(report, jump=float(jump.detach()))
        return loss, report

    def step(self, data, index, s, rate=None):
        """rate: of the peak learning rate; the usual one for progress s otherwise."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.lr * (envelope(s) if rate is None else rate)
        loss, report = self.loss(data, index, s)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.draft.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return dict(report, norm=float(norm))


def arguments(parser):
    parser.add_argument("--model", required=True)
    parser.add_argument("--drawn", required=True, nargs="+")
    parser.add_argument("--few-step", help="a few-step head (file or folder): its tokens are what drafts are compared by")
    parser.add_argument("--run", required=True)
    parser.add_argument("--init")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--head-width", type=int, default=128)
    parser.add_argument("--head-blocks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--anchors", type=int, default=6, help="pairs with mask rows behind them, per picture; 0: sequential drafting only")
    parser.add_argument("--group", type=int, default=7, help="mask rows of an anchor")
    parser.add_argument("--head-rows", type=int, default=1536, help="rows a step on which the heads are compared")
    parser.add_argument("--entropy", choices=("none", "max", "align"), default="align")
    parser.add_argument("--entropy-weight", type=float, default=0.05)
    parser.add_argument("--velocity", type=float, default=1.0)
    parser.add_argument("--jump", type=float, default=4.0)
    parser.add_argument("--ramp", type=float, default=0.1, help="progress from which on the draft is trained through the heads")
    parser.add_argument("--unroll-from", type=float, default=0.67)
    parser.add_argument("--feature-noise", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--log-steps", type=int, default=50)
    parser.add_argument("--save-minutes", type=float, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-bf16", action="store_true")


def main(argv=None):
    parser = argparse.ArgumentParser()
    arguments(parser)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    os.makedirs(args.run, exist_ok=True)
    pipeline = Pipeline.load(args.model)
    pipeline.network.to(where)
    torch.manual_seed(args.seed)
    trainer, step, clock, last = Trainer(pipeline, args, where), 0, Clock(), os.path.join(args.run, "last.pt")
    if os.path.exists(last):
        state = torch.load(last, map_location=where)
        trainer.draft.load_state_dict(state["draft"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        step, clock = state["step"], Clock(state["seconds"])
    torch.manual_seed(args.seed + step)
    np.random.seed(args.seed + step)
    prompts, tokens = load_drawn(args.drawn)
    data = Features(pipeline, prompts, tokens)
    clock.tick()
    clock.spent = 0.0 if step == 0 else state["seconds"]
    count = len(prompts) - args.held_out
    print(f"{sum(p.numel() for p in trainer.draft.parameters()) / 1e6:.2f}M parameters, {count} pictures, from step {step}", flush=True)
    log = Log(os.path.join(args.run, "log.csv"))

    def save():
        clock.tick()
        save_checkpoint(dict(draft=trainer.draft.state_dict(), optimizer=trainer.optimizer.state_dict(), step=step, seconds=clock.spent), last)
        draft_model.save(trainer.draft, os.path.join(args.run, draft_model.FILE))
        plot(log.path, ["reg", "vel", "jump", "entropy"], os.path.join(args.run, "log.png"))

    sums, mark, since = {}, clock.spent, step
    order = np.random.permutation(np.arange(args.held_out, len(prompts)))
    for _ in work(clock, args.minutes, save, args.save_minutes):
        if len(order) < args.batch:
            order = np.random.permutation(np.arange(args.held_out, len(prompts)))
        index, order = torch.from_numpy(order[:args.batch]), order[args.batch:]
        for name, value in trainer.step(data, index, min(1.0, clock.spent / (args.minutes * 60))).items():
            sums[name] = sums.get(name, 0.0) + value
        step += 1
        if step % args.log_steps == 0:
            steps = step - since
            log.add(step=step, minutes=clock.spent / 60, **{name: value / steps for name, value in sums.items()},
                    rate=args.lr * envelope(min(1.0, clock.spent / (args.minutes * 60))), pictures_per_second=steps * args.batch / max(1e-9, clock.spent - mark))
            sums, mark, since = {}, clock.spent, step


if __name__ == "__main__":
    main()
