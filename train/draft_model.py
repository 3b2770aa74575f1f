"""The draft model: from the target's feature at a position and the input after it, the feature that the target will have there.

    pair i:     u = W_fc [RMSNorm(g_i) ; RMSNorm(e_{i+1})]     g the target's feature after its last norm, e the embedding of the input behind it
    blocks:     z = Blocks(u)                                  as the target's, at position i; started from the target's first ones
    feature:    h_{i+1} = g_i + W_out RMSNorm(z)               W_out starts at zero

docs/speculation.md. Sequential drafting feeds h back as the next g. Parallel drafting asks for several positions at once: rows that have the last
true g and, in place of an embedding, the learned mask token.
"""
import os

import torch
from torch import nn

import model as nextstep
import safetensors_io

FILE = "draft.safetensors"


class DraftModel(nn.Module):
    def __init__(self, config, layers=2, head_width=0, head_blocks=2):
        super().__init__()
        self.config = config
        h, eps = config["hidden_size"], config["rms_norm_eps"]
        self.fc = nn.Linear(2 * h, h, bias=False)
        self.feature_norm, self.token_norm, self.norm = (nextstep.RMSNorm(h, eps) for _ in range(3))
        self.layers = nn.ModuleList(nextstep.Layer(config) for _ in range(layers))
        self.out = nn.Linear(h, h, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(h))
        d = config["latent_channels"] * config["latent_patch_size"] ** 2
        self.head = nextstep.FlowHead(d, h, head_width, head_blocks) if head_width else None

    def initialise(self, target):
        """From the target: its first blocks; fc at first the sum of its two halves; everything it is to learn at zero."""
        for own, given in zip(self.layers, target.layers):
            own.load_state_dict(given.state_dict())
        h = self.config["hidden_size"]
        with torch.no_grad():
            eye = torch.eye(h)
            self.fc.weight.copy_(torch.cat([0.5 * eye, 0.5 * eye], 1))
            nn.init.zeros_(self.out.weight)
            nn.init.normal_(self.mask_token, std=0.02)
            if self.head is not None:
                for name, p in self.head.named_parameters():
                    if p.dim() > 1:
                        zero = "adaLN_modulation" in name or "final_layer.linear" in name
                        nn.init.zeros_(p) if zero else nn.init.normal_(p, std=p.shape[1] ** -0.5)
                    elif name.endswith("bias"):
                        nn.init.zeros_(p)
        return self

    def fuse(self, features, inputs):
        return self.fc(torch.cat([self.feature_norm(features), self.token_norm(inputs)], -1))

    def forward(self, features, inputs, table, mask):
        """features, inputs (B, T, H); table: rotary angles of the T positions; mask (B or 1, 1, T, T) -> (features (B, T, H), entropy inputs).

        The second is what goes into the penultimate block's attention, for attention_entropy.
        """
        x, penultimate = self.fuse(features, inputs), None
        for i, layer in enumerate(self.layers):
            if i == max(0, len(self.layers) - 2):
                penultimate = x
            x = layer(x, table, mask)
        return features + self.out(self.norm(x)).float(), penultimate


def attention_entropy(layer, x, table, mask, first, count):
    """Mean over heads of the attention's normalised entropy over keys [first, first + count), the others removed and the rest renormalised.

    x (B, T, H): the block's input; rows are those at the same places. -> (B, count) in [0, 1]; row r sees r + 1 keys, row 0 has no entropy (0).
    """
    a, part = layer.self_attn, slice(first, first + count)
    y = layer.input_layernorm(x)[:, part]
    b = len(y)
    table = tuple(angle[part] for angle in table)
    q = nextstep.rope(a.q_proj(y).view(b, count, a.heads, a.d).transpose(1, 2), *table).float()
    k = nextstep.rope(a.k_proj(y).view(b, count, a.kv_heads, a.d).transpose(1, 2), *table).float()
    scores = q @ k.repeat_interleave(a.heads // a.kv_heads, 1).transpose(2, 3) * a.d ** -0.5
    seen = torch.ones(count, count, dtype=torch.bool, device=x.device).tril()
    logs = torch.log_softmax(scores.masked_fill(~seen, float("-inf")), -1)
    terms = torch.where(seen, logs.exp() * logs.masked_fill(~seen, 0.0), torch.zeros((), device=x.device))
    keys = torch.arange(1, count + 1, device=x.device).clamp_min(2).float()
    return -terms.sum(-1).mean(1) / keys.log()


def save(draft, path, metadata=None):
    safetensors_io.save({name: tensor.to(torch.bfloat16) for name, tensor in draft.state_dict().items()}, path, metadata)


def load(path, config):
    """A file, or a folder that holds FILE; config: the target's."""
    stored = safetensors_io.load(os.path.join(path, FILE) if os.path.isdir(path) else path)
    layers = 1 + max(int(name.split(".")[1]) for name in stored if name.startswith("layers."))
    width, blocks = 0, 0
    if "head.net.cond_embed.weight" in stored:
        width = len(stored["head.net.cond_embed.weight"])
        blocks = 1 + max(int(name.split(".")[3]) for name in stored if name.startswith("head.net.res_blocks."))
    draft = DraftModel(config, layers, width, blocks)
    draft.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    return draft.eval()
