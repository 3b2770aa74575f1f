"""NextStep-1 at the size of a demo: a causal transformer over text and image tokens, and the flow head that draws the next one.

Tensor names and equations: nextstep.md sections 3, 6, 7. Image tokens are 64 numbers (2x2 patches of 16 latent channels).
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

from norms import LayerNorm

CONFIG = dict(model_type="nextstep", architectures=["LlamaForCausalLM"], vocab_size=2048, hidden_size=256, intermediate_size=512,
              num_hidden_layers=12, num_attention_heads=4, num_key_value_heads=2, head_dim=64, hidden_act="silu",
              rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None, max_position_embeddings=1024, attention_bias=True,
              o_attention_bias=False, mlp_bias=False, tie_word_embeddings=True, latent_size=16, latent_patch_size=2,
              latent_channels=16, fm_head_dim=384, fm_head_layers=3, use_gen_pos_embed=False, vae_name_or_path="vae/")


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_table(begin, end, head_dim, theta, where):
    """-> cos, sin (end - begin, head_dim / 2)."""
    inv = theta ** (-torch.arange(0, head_dim, 2, device=where).float() / head_dim)
    angle = torch.arange(begin, end, device=where).float()[:, None] * inv
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """x (B, heads, T, d), halves rotated against each other."""
    x1, x2 = x.float().chunk(2, -1)
    return torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        h = c["hidden_size"]
        self.q_proj = nn.Linear(h, self.heads * self.d)
        self.k_proj = nn.Linear(h, self.kv_heads * self.d)
        self.v_proj = nn.Linear(h, self.kv_heads * self.d)
        self.o_proj = nn.Linear(self.heads * self.d, h, bias=False)

    def forward(self, x, table, mask, cache=None):
        """x (B, T, H); mask (B or 1, 1, T, S) added to the scores; cache: [keys, values] of earlier positions, extended."""
        b, t, _ = x.shape
        group = self.heads // self.kv_heads
        q = rope(self.q_proj(x).view(b, t, self.heads, self.d).transpose(1, 2), *table)
        k = rope(self.k_proj(x).view(b, t, self.kv_heads, self.d).transpose(1, 2), *table)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.d).transpose(1, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        q = q.reshape(b, self.kv_heads, group * t, self.d)      # the heads of a group share their keys: one product
        scores = (q * self.d ** -0.5) @ k.transpose(2, 3)
        scores = scores.view(b, self.kv_heads, group, t, -1) + mask[:, :, None]
        mixed = torch.softmax(scores, -1).to(v.dtype).view(b, self.kv_heads, group * t, -1) @ v
        return self.o_proj(mixed.view(b, self.heads, t, self.d).transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, i = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(h, i, bias=False), nn.Linear(h, i, bias=False)
        self.down_proj = nn.Linear(i, h, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = MLP(c)

    def forward(self, x, table, mask, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), table, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class TimeEmbed(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, w), nn.SiLU(), nn.Linear(w, w))

    def forward(self, t):
        """t (N,) in [0, 1], not multiplied by 1000."""
        f = torch.exp(-math.log(10000.0) * torch.arange(128, device=t.device).float() / 128)
        angle = t.float()[:, None] * f
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


class ResBlock(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.in_ln = LayerNorm(w, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(w, 3 * w))

    def forward(self, h, g):
        """g: SiLU of time + condition, computed once for all blocks, so the first op of adaLN_modulation is skipped."""
        shift, scale, gate = self.adaLN_modulation[1](g).chunk(3, -1)
        return h + gate * self.mlp(self.in_ln(h) * (1 + scale) + shift)


class FinalLayer(nn.Module):
    def __init__(self, w, d):
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(w, 2 * w))
        self.linear = nn.Linear(w, d)

    def forward(self, h, g):
        shift, scale = self.adaLN_modulation[1](g).chunk(2, -1)
        return self.linear(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class FlowNet(nn.Module):
    def __init__(self, d, h, w, blocks):
        super().__init__()
        self.time_embed, self.cond_embed, self.input_proj = TimeEmbed(w), nn.Linear(h, w), nn.Linear(d, w)
        self.res_blocks = nn.ModuleList(ResBlock(w) for _ in range(blocks))
        self.final_layer = FinalLayer(w, d)

    def forward(self, x, t, c):
        """x (N, D) noisy token, t (N,), c (N, H) condition -> velocity data - noise (N, D)."""
        return self.blocks(x, F.silu(self.time_embed(t) + self.cond_embed(c)))

    def blocks(self, x, g):
        """g (N, w): what every block is modulated with."""
        h = self.input_proj(x)
        for block in self.res_blocks:
            h = block(h, g)
        return self.final_layer(h, g)


class FlowHead(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.net = FlowNet(*sizes)


class NextStep(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        c = self.config = dict(config)
        h, d = c["hidden_size"], c["latent_channels"] * c["latent_patch_size"] ** 2
        self.embed_tokens = nn.Embedding(c["vocab_size"], h)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(h, c["rms_norm_eps"])
        self.image_in_projector, self.image_out_projector = nn.Linear(d, h), nn.Linear(h, h)
        self.image_head = FlowHead(d, h, c["fm_head_dim"], c["fm_head_layers"])

    def initialise(self):
        """Small normals; what writes into a residual stream smaller still; gates and output of the head zero."""
        for name, p in self.named_parameters():
            if p.dim() < 2:
                if name.endswith("bias"):
                    nn.init.zeros_(p)
            elif "adaLN_modulation" in name or "final_layer.linear" in name:
                nn.init.zeros_(p)
            elif name == "embed_tokens.weight":
                nn.init.normal_(p, std=0.5)
            else:
                std = p.shape[1] ** -0.5
                nn.init.normal_(p, std=std * (0.2 if "o_proj" in name or "down_proj" in name else 1.0))
        return self

    def hidden(self, x, mask, begin=0, caches=None, tap=None, stop=None):
        """x (B, T, H) embeddings -> (B, T, H) after the last norm.

        begin: position of x[:, 0]; caches: a list per layer, for generation; tap: index of a layer whose output to return too;
        stop: return the output of that many layers, without the norm.
        """
        c = self.config
        table = rope_table(begin, begin + x.shape[1], c["head_dim"], c["rope_theta"], x.device)
        tapped = None
        for i, layer in enumerate(self.layers[:stop]):
            x = layer(x, table, mask, None if caches is None else caches[i])
            if i == tap:
                tapped = x
        if stop is not None:
            return x
        return self.norm(x) if tap is None else (self.norm(x), tapped)


def causal_mask(valid):
    """valid (B, S) bool, False where padded -> (B, 1, S, S), 0 or -1e4: finite, so that an all-padded row has no NaN."""
    s = valid.shape[1]
    seen = torch.ones(s, s, dtype=torch.bool, device=valid.device).tril() & valid[:, None, :]
    return torch.zeros(seen.shape, device=valid.device).masked_fill(~seen, -1e4)[:, None]
