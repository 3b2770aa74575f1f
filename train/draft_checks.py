"""What must hold of the draft model, its losses and its report, on a toy, in seconds. smoke.py runs it; so does python draft_checks.py.

Every check names the mistake that it would show.
"""
import math

import torch

import draft_losses as losses
import draft_model
import draft_report
import few_step
import model as nextstep
from draft_data import rotary
from train_draft import Batch, Layout

TOY = dict(nextstep.CONFIG, vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
           head_dim=16, fm_head_dim=24, fm_head_layers=1, latent_channels=2)
PROMPT, TOKENS, PICTURES = 6, 9, 4


class ToyData:
    """Random prompts (one of them padded) and tokens, and the target's features on them: what draft_data.Features holds."""

    def __init__(self, net):
        self.ids = torch.randint(1, TOY["vocab_size"], (PICTURES, PROMPT))
        self.valid = torch.ones(PICTURES, PROMPT, dtype=torch.bool)
        self.valid[0, :2] = False
        self.tokens = torch.randn(PICTURES, TOKENS, TOY["latent_channels"] * 4)
        self.begin, self.length = PROMPT - 1, TOKENS
        with torch.no_grad():
            x = torch.cat([net.embed_tokens(self.ids), net.image_in_projector(self.tokens)], 1)
            self.features = net.hidden(x, nextstep.causal_mask(self.padded(slice(None))))
        self.empty = torch.randn(PICTURES, TOKENS, TOY["hidden_size"])

    def padded(self, part):
        valid = self.valid[part]
        return torch.cat([valid, torch.ones(len(valid), TOKENS, dtype=torch.bool)], 1)


def toys():
    torch.manual_seed(8)
    net = nextstep.NextStep(TOY).initialise()
    for p in net.image_head.parameters():
        p.data += 0.1 * torch.randn_like(p)
    draft = draft_model.DraftModel(TOY, layers=2).initialise(net)
    for p in draft.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net.eval(), draft.eval(), few_step.from_teacher(net.image_head.net)


class Oracle:
    """In the draft's place: the target's own features behind the inputs. first: the prompt's first embedding, which no pair has as an input."""

    def __init__(self, net, first):
        self.net, self.first, self.mask_token = net, first, torch.zeros(TOY["hidden_size"])

    def __call__(self, features, inputs, table, mask):
        x = torch.cat([self.first, inputs], 1)
        longer = torch.full((len(x), 1, x.shape[1], x.shape[1]), -1e4)
        longer[:, :, :-1, :-1] = mask
        longer[:, :, -1, :-1], longer[:, :, -1, -1] = mask[:, :, -1], 0
        return self.net.hidden(x, longer)[:, 1:], None


@torch.no_grad()
def perfect_drafts_have_no_distance(net, student, data):
    """Shows features, tokens, noise or conditions that are one position off, in the draft's pairs or in what they are judged by."""
    for known in (1, 4):
        rounds = draft_report.Rounds(net, None, data, torch.arange(PICTURES), known, torch.device("cpu"))
        rounds.draft = Oracle(net, rounds.text[:, :1])
        noise = torch.randn(4, 1, PICTURES, data.tokens.shape[-1])
        draws = draft_report.FewStepDraws(student)
        tokens, drawn = rounds.drafts("sequential", 4, draws, noise)
        c = rounds.conditions(rounds.text, rounds.valid, tokens)
        worst = max(float(draws.judge(drawn[j], c[:, j], None).max()) for j in range(4))
        assert worst < 1e-5, worst
        other = max(float(draws.judge(drawn[j], c[:, (j + 1) % 4], None).max()) for j in range(4))
        assert other > 1e-2, "a condition of another position is far off: the check can fail"


@torch.no_grad()
def training_asks_as_drafting_does(net, draft, data):
    """The mask rows of a training pass are those of a round. Shows a wrong mask, position, feature or target of a row."""
    count, known = 4, 3
    pairs = data.begin + data.length - 1
    anchor = data.begin + known - 1                               # the pair whose input is the newest token
    layout = Layout(pairs, [data.begin, anchor], count - 1)
    batch = Batch(data, torch.arange(PICTURES), net, layout, draft.mask_token, torch.device("cpu"))
    guess, _ = draft(batch.given, batch.inputs, batch.table, batch.mask)
    trained = torch.cat([guess[:, anchor:anchor + 1], guess[:, pairs + count - 1:]], 1)
    rounds = draft_report.Rounds(net, draft, data, torch.arange(PICTURES), known, torch.device("cpu"))
    inputs = torch.cat([rounds.text, net.image_in_projector(rounds.tokens)], 1)[:, 1:]
    features = torch.cat([rounds.features, rounds.features[:, -1:].expand(-1, count - 1, -1)], 1)
    played = rounds.guess(features, torch.cat([inputs, draft.mask_token.expand(PICTURES, count - 1, -1)], 1), count)
    assert torch.allclose(trained, played, atol=1e-5), float((trained - played).abs().max())
    asked = batch.wanted[:, pairs + count - 1:]
    assert torch.equal(asked, data.features[:, anchor + 2:anchor + 1 + count]), "mask row j is to predict the feature 1 + j behind its anchor"


@torch.no_grad()
def gap_is_the_loss(net):
    """A head that is off by 0.1 in every number: L_vel is half the squared gap, per number. Shows a wrong weight or a step left out."""
    sampler, d = losses.SamplerB(8, 1.0), TOY["latent_channels"] * 4
    head = net.image_head.net
    shifted = lambda x, t, c: head(x, t, c) + 0.1
    c, empty, tokens = torch.randn(4000, TOY["hidden_size"]), torch.randn(4000, TOY["hidden_size"]), torch.randn(4000, d)
    loss = float(losses.velocity_loss(head, shifted, sampler, tokens, c, empty, c, 1.0))
    draws = draft_report.SamplerDraws(head, shifted, sampler, 1.0)
    _, drawn = draws.draw(c[:8], torch.randn(9, 8, d))
    gap = draws.judge(drawn, c[:8], empty[:8])
    exact = 0.5 * float(gap[0]) ** 2 / d
    assert torch.allclose(gap, gap[:1].expand(8), rtol=1e-4) and abs(loss / exact - 1) < 0.05, (loss, exact)
    half = draft_report.overlap(torch.tensor([0.0, 0.25, 1.0, 2.0]))
    assert torch.allclose(half, torch.tensor([1.0, 0.901, 0.617, 0.317]), atol=1e-3), half


@torch.no_grad()
def entropy_has_its_bounds(net):
    """Even attention 1, one key 0, the prompt left out. Shows a wrong normalisation, keys of the future, heads averaged first."""
    layer, count, first = net.layers[0], 6, 4
    x = torch.randn(3, first + count, TOY["hidden_size"])
    mask, table = nextstep.causal_mask(torch.ones(1, first + count, dtype=torch.bool, device=x.device)), rotary(TOY, first + count, x.device)
    value = draft_model.attention_entropy(layer, x, table, mask, first, count)
    attention = layer.self_attn
    q = attention.q_proj(layer.input_layernorm(x)).view(3, -1, attention.heads, attention.d).transpose(1, 2)
    k = attention.k_proj(layer.input_layernorm(x)).view(3, -1, attention.kv_heads, attention.d).transpose(1, 2).expand(-1, attention.heads, -1, -1)
    scores = (nextstep.rope(q, *table) @ nextstep.rope(k, *table).transpose(2, 3)) * attention.d ** -0.5
    for row in range(1, count):
        p = torch.softmax(scores[:, :, first + row, first:first + row + 1], -1)
        heads = -(p * p.log()).sum(-1) / math.log(row + 1)
        mean = -(p.mean(1) * p.mean(1).log()).sum(-1) / math.log(row + 1)
        assert torch.allclose(value[:, row], heads.mean(1), atol=1e-5) and (value[:, row] <= mean + 1e-6).all()
    assert value[:, 0].abs().max() == 0, "one key: no entropy"
    weight, bias = attention.q_proj.weight.clone(), attention.q_proj.bias.clone()
    attention.q_proj.weight.zero_(), attention.q_proj.bias.zero_()
    even = draft_model.attention_entropy(layer, x, table, mask, first, count)[:, 1:]
    attention.q_proj.weight.copy_(1e4 * weight), attention.q_proj.bias.copy_(1e4 * bias)
    sharp = draft_model.attention_entropy(layer, x, table, mask, first, count)[:, 1:]
    attention.q_proj.weight.copy_(weight), attention.q_proj.bias.copy_(bias)
    assert (even - 1).abs().max() < 1e-5 and sharp.max() < 0.05, (even, sharp)


def entropy_losses_pull_the_right_way():
    profile = torch.tensor([0.0, 0.5, 0.5])
    entropy = torch.tensor([[0.0, 0.2, 0.8]], requires_grad=True)
    align, = torch.autograd.grad(losses.entropy_loss(entropy, profile, "align"), entropy)
    most, = torch.autograd.grad(losses.entropy_loss(entropy, profile, "max"), entropy)
    assert align[0, 1] < 0 and align[0, 2] == 0 and align[0, 0] == 0, "raised below the target's profile only"
    assert (most[0, 1:] < 0).all() and most[0, 0] == 0


def tokens_a_round_count_prefixes():
    distance = torch.tensor([[0.1, 0.1, 0.9], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.1]])
    taken = draft_report.accepted(distance, 0.5)
    assert torch.allclose(taken, torch.tensor([0.75, 1.25, 1.5])), taken


def main():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    net, draft, student = toys()
    data = ToyData(net)
    perfect_drafts_have_no_distance(net, student, data)
    training_asks_as_drafting_does(net, draft, data)
    gap_is_the_loss(net)
    entropy_has_its_bounds(net)
    entropy_losses_pull_the_right_way()
    tokens_a_round_count_prefixes()
    torch.set_num_threads(threads)
    print("draft checks passed")


if __name__ == "__main__":
    main()
