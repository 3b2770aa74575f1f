"""TransDiff with multi-reference autoregression (MRAR), of any size: a transformer that reads a class and earlier pictures, and a
diffusion decoder that draws the next picture under its features. Tensor names are the released ones; equations: docs/transdiff.md.

A picture is a latent (16, side, side). To the transformer it is a block of m = (side / 2)^2 tokens of 64 numbers (vae.patchify: channel,
row in patch, column in patch), to the decoder N = side^2 tokens of 16 numbers. D: width.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

import vae
from norms import LayerNorm

CONFIG = dict(architecture="transdiff-mrar", image_size=64, width=256, num_heads=4, transformer_blocks=8, diffusion_blocks=4, num_classes=477,
              buffer_size=16, vae_channels=16, vae_ch=32, vae_ch_mult=[1, 2, 2, 4], vae_num_res_blocks=1, vae_scale=1.0, ar_steps=4,
              bf16_rounding_before_time_proj=True)
EPS = 1e-6
# What stays with AdamW where Muon trains the matrices: tables, and layers between the width and something else.
EDGES = ("class_emb", "fake_latent", "z_proj", "input_proj", "time_embed", "final_layer", "mean")


def side_of(c):
    return c["image_size"] // 2 ** (len(c["vae_ch_mult"]) - 1)


def block_length(c):
    return (side_of(c) // 2) ** 2


def patches(x, c):
    """Decoder tokens (B, N, 16) -> the block (B, m, 64) that the transformer reads."""
    return vae.patchify(x.transpose(1, 2).unflatten(2, (side_of(c), side_of(c))))


def tokens(picture, c):
    """The block (B, m, 64) -> decoder tokens (B, N, 16)."""
    return vae.unpatchify(picture, side_of(c) // 2, side_of(c) // 2).flatten(2).transpose(1, 2)


def attend(q, k, v, heads, mask=None):
    """q (B, T, D), k and v (B, S, D), mask (T, S), or (B, 1, T or 1, S), added to the scores -> (B, T, D)."""
    split = lambda x: x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    return (torch.softmax(scores.float(), -1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def block_mask(blocks_of_rows, blocks_of_keys):
    """A row of block a sees the keys of all blocks b <= a: (rows,), (keys,) -> (rows, keys), 0 or -1e4."""
    hidden = blocks_of_keys[None, :] > blocks_of_rows[:, None]
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -1e4)


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, mask=None, cache=None):
        """cache: [keys, values] of earlier blocks, extended."""
        q, k, v = self.qkv(x).chunk(3, -1)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
            cache[:] = [k, v]
        return self.proj(attend(q, k, v, self.heads, mask))


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, keys, values, mask=None):
        """x (B P, N, D), keys and values (B, M, D), mask (P N, M): P pictures of a row share its condition."""
        q = self.wq(x).reshape(keys.shape[0], -1, x.shape[-1])
        return self.proj(attend(q, keys, values, self.heads, mask)).reshape(x.shape)


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = LayerNorm(width, eps=EPS), SelfAttention(width, heads)
        self.norm2, self.mlp = LayerNorm(width, eps=EPS), MLP(width)

    def forward(self, x, mask=None, cache=None):
        x = x + self.attn(self.norm1(x), mask, cache)
        return x + self.mlp(self.norm2(x))


class TimestepEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(256, width), nn.Linear(width, width)

    def forward(self, tau):
        """tau (R,) = 1000 t."""
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(128, device=tau.device).float() / 128)
        angle = tau.float()[:, None] * frequencies
        return self.linear_2(F.silu(self.linear_1(torch.cat([angle.cos(), angle.sin()], -1))))


class TimeEmbed(nn.Module):
    def __init__(self, width, rounded):
        super().__init__()
        self.rounded, self.time_embedder, self.time_proj = rounded, TimestepEmbedder(width), nn.Linear(width, 6 * width)

    def modulation(self, e):
        """e (R, D), the embedded time -> m (R, 6, D), what all blocks are modulated with. The reference rounds the input of time_proj to bfloat16."""
        s = F.silu(e)
        return self.time_proj(s.bfloat16().float() if self.rounded else s).float().unflatten(1, (6, -1))


class DecoderBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, width))
        self.norm1, self.attn1 = LayerNorm(width, eps=EPS), SelfAttention(width, heads)
        self.norm2, self.attn2 = LayerNorm(width, eps=EPS), CrossAttention(width, heads)
        self.norm3, self.mlp = LayerNorm(width, eps=EPS), MLP(width)

    def forward(self, h, m, keys, values, mask=None):
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.scale_shift_table + m)[:, :, None].unbind(1)
        h = h + gate1 * self.attn1(self.norm1(h) * (1 + scale1) + shift1)
        h = h + self.attn2(self.norm2(h), keys, values, mask)
        return h + gate2 * self.mlp(self.norm3(h) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    def __init__(self, width, channels):
        super().__init__()
        self.scale_shift_table, self.linear = nn.Parameter(torch.zeros(1, 2, width)), nn.Linear(width, channels)

    def forward(self, h, e):
        shift, scale = (self.scale_shift_table + e[:, None])[:, :, None].unbind(1)
        return self.linear(F.layer_norm(h.float(), h.shape[-1:], eps=EPS) * (1 + scale) + shift)


class DecoderNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, channels = c["width"], c["vae_channels"]
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, side_of(c) ** 2, width))
        self.time_embed = TimeEmbed(width, c["bf16_rounding_before_time_proj"])
        self.cond_embed, self.input_proj = nn.Linear(width, width), nn.Linear(channels, width)
        self.res_blocks = nn.ModuleList(DecoderBlock(width, c["num_heads"]) for _ in range(c["diffusion_blocks"]))
        self.final_layer = FinalLayer(width, channels)

    def condition(self, z):
        """z (B, M, D) -> keys and values of every block, which do not change while a picture is drawn."""
        c = self.cond_embed(z)
        return [(block.attn2.wk(c), block.attn2.wv(c)) for block in self.res_blocks]

    def velocity(self, x, tau, condition, mask=None):
        """x (R, N, 16) noisy, tau (R,) = 1000 t -> noise - data (R, N, 16)."""
        return self.blocks(x, self.time_embed.time_embedder(tau), condition, mask)

    def blocks(self, x, e, condition, mask=None):
        """e (R, D): the embedded time."""
        e = e.float()
        m, h = self.time_embed.modulation(e), self.input_proj(x) + self.diffusion_pos_embed_learned
        for block, (keys, values) in zip(self.res_blocks, condition):
            h = block(h, m, keys, values, mask)
        return self.final_layer(h, e).float()


class DiffusionDecoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = DecoderNet(c)


class TransDiff(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        c = self.config = dict(config)
        width, m = c["width"], block_length(c)
        table = lambda rows: nn.Parameter(torch.zeros(1, rows, width))
        self.class_emb, self.fake_latent, self.mask_token = nn.Embedding(c["num_classes"], width), nn.Parameter(torch.zeros(1, width)), table(m)
        self.encoder_pos_embed_learned, self.diffusion_pos_embed_learned = table(c["buffer_size"] + c["ar_steps"] * m), table(c["ar_steps"] * m)
        self.z_proj, self.z_proj_ln = nn.Linear(4 * c["vae_channels"], width), LayerNorm(width, eps=EPS)
        self.encoder_blocks = nn.ModuleList(Block(width, c["num_heads"]) for _ in range(c["transformer_blocks"]))
        self.encoder_norm, self.diffdecoder = LayerNorm(width, eps=EPS), DiffusionDecoder(c)

    def initialise(self):
        """Small normals; what writes into a residual stream smaller still; the output of the decoder and its modulation zero, gates open."""
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif "time_proj" in name or "final_layer.linear" in name:
                nn.init.zeros_(p)
            elif "scale_shift_table" in name:
                nn.init.zeros_(p)
                if p.shape[1] == 6:
                    p.data[:, [2, 5]] = 1.0
            elif "pos_embed" in name or name in ("mask_token", "class_emb.weight", "fake_latent"):
                nn.init.normal_(p, std=0.5)
            elif p.dim() == 2:
                nn.init.normal_(p, std=p.shape[1] ** -0.5 * (0.2 if name.endswith(("proj.weight", "fc2.weight")) and "blocks" in name else 1.0))
        return self

    def class_vectors(self, labels):
        """labels (B,), -1: the null class -> (B, D)."""
        return torch.where((labels < 0)[:, None], self.fake_latent, self.class_emb(labels.clamp(min=0)))

    def features(self, labels, references):
        """All passes at once. references (B, j, m, 64): pictures of passes 0 to j - 1 -> f (B, j + 1, m, D)."""
        b, j, m, _ = references.shape
        c, where = self.config, references.device
        class_tokens = self.class_vectors(labels)[:, None].expand(-1, c["buffer_size"], -1)
        x = torch.cat([class_tokens, self.mask_token.expand(b, -1, -1), self.z_proj(references.flatten(1, 2))], 1)
        blocks = torch.cat([torch.zeros(c["buffer_size"], device=where), 1 + torch.arange((j + 1) * m, device=where) // m])
        x = self.z_proj_ln(x + self.encoder_pos_embed_learned[:, :x.shape[1]])
        mask = block_mask(blocks, blocks)
        for block in self.encoder_blocks:
            x = block(x, mask)
        return self.encoder_norm(x)[:, c["buffer_size"]:].unflatten(1, (j + 1, m))

    def next_features(self, labels, picture, caches):
        """One pass, on the keys and values of those before: features of the last block (B, m, D).

        picture: None in the first pass, else that of the pass before, (B, m, 64). caches: a list per transformer block.
        """
        c = self.config
        begin, mask = (0, None) if picture is None else (caches[0][0].shape[1], None)
        if picture is None:
            b = len(labels)
            x = torch.cat([self.class_vectors(labels)[:, None].expand(-1, c["buffer_size"], -1), self.mask_token.expand(b, -1, -1)], 1)
            blocks = (torch.arange(x.shape[1], device=x.device) >= c["buffer_size"]).long()
            mask = block_mask(blocks, blocks)
        else:
            x = self.z_proj(picture)
        x = self.z_proj_ln(x + self.encoder_pos_embed_learned[:, begin:begin + x.shape[1]])
        for block, cache in zip(self.encoder_blocks, caches):
            x = block(x, mask, cache)
        return self.encoder_norm(x)[:, -self.mask_token.shape[1]:]

    def positioned(self, f):
        """Transformer features (B, M, D) of the first M / m passes -> z, the decoder's condition."""
        return f + self.diffusion_pos_embed_learned[:, :f.shape[1]]
