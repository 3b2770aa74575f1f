"""The picture autoencoders of both families, at 64 px.

VAE: f4, 16 channels (NextStep). pixels (B, 3, 64, 64) in [-1, 1]  <->  latents (B, 16, 16, 16) whose 2x2x16 patches (the image tokens) are layer-normalised.
KL:  f8, 16 channels (TransDiff). pixels  <->  latents (B, 16, 8, 8), each channel of mean 0 and variance 1 over the training pictures.
Tensor names: those of the released checkpoints.
"""
import json
import math
import os

import torch
from torch import nn
from torch.nn import functional as F

import safetensors_io
from norms import GroupNorm

CONFIG = dict(resolution=64, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2, 2], num_res_blocks=1, z_channels=16,
              scaling_factor=1.0, shift_factor=0.0, deterministic=True, encoder_norm=True, psz=2)
KL_CONFIG = dict(kl=True, resolution=64, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2, 2, 4], num_res_blocks=1, z_channels=16, psz=2)


def group_norm(channels):
    return GroupNorm(32, channels, eps=1e-6)


class ResBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = group_norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = group_norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """One head over all positions."""

    def __init__(self, channels):
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x)
        q, k, v = (conv(n).reshape(b, c, h * w).transpose(1, 2) for conv in (self.q, self.k, self.v))
        mixed = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), -1) @ v
        return x + self.proj_out(mixed.transpose(1, 2).reshape(b, c, h, w))


class Mid(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = ResBlock(channels, channels), AttnBlock(channels), ResBlock(channels, channels)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Resample(nn.Module):
    """Halves (zero column right, zero row below, stride 2) or doubles (nearest) the picture."""

    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1 if up else 0)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    def __init__(self, cin, cout, blocks, resample, attention=False):
        super().__init__()
        self.block = nn.ModuleList(ResBlock(cin if b == 0 else cout, cout) for b in range(blocks))
        if attention:
            self.attn = nn.ModuleList(AttnBlock(cout) for _ in range(blocks))
        if resample:
            setattr(self, resample, Resample(cout, resample == "upsample"))

    def forward(self, x):
        for i, block in enumerate(self.block):
            x = block(x)
            if hasattr(self, "attn"):
                x = self.attn[i](x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        widths = [c["ch"] * m for m in c["ch_mult"]]
        self.conv_in = nn.Conv2d(c["in_channels"], c["ch"], 3, padding=1)
        self.down = nn.ModuleList(
            Level(widths[max(l - 1, 0)] if l else c["ch"], w, c["num_res_blocks"], "downsample" if l < len(widths) - 1 else None,
                  attention=c.get("kl", False) and l == len(widths) - 1)
            for l, w in enumerate(widths))
        self.mid = Mid(widths[-1])
        self.norm_out, self.conv_out = group_norm(widths[-1]), nn.Conv2d(widths[-1], 2 * c["z_channels"], 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """`up` is indexed by resolution (0 is the picture's) and runs from the last to the first."""

    def __init__(self, c):
        super().__init__()
        widths = [c["ch"] * m for m in c["ch_mult"]]
        last = len(widths) - 1
        self.conv_in, self.mid = nn.Conv2d(c["z_channels"], widths[-1], 3, padding=1), Mid(widths[-1])
        self.up = nn.ModuleList(
            Level(widths[min(l + 1, last)], w, c["num_res_blocks"] + 1, "upsample" if l else None) for l, w in enumerate(widths))
        self.norm_out, self.conv_out = group_norm(widths[0]), nn.Conv2d(widths[0], c["out_ch"], 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class VAE(nn.Module):
    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = dict(config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, x):
        """Posterior mean, tokens normalised. The other half of conv_out, the log-variance, is unused."""
        mean = self.encoder(x)[:, :self.config["z_channels"]]
        return normalise_tokens(mean, self.config["psz"])

    def decode(self, z):
        return self.decoder(z)

    def normalise(self, z):
        return normalise_tokens(z, self.config["psz"])


class KL(nn.Module):
    """As latent diffusion's, with 1x1 convolutions around the latent. What a KL term is for, latents of known size, a norm without gains does."""

    def __init__(self, config=KL_CONFIG):
        super().__init__()
        self.config, c = dict(config), config["z_channels"]
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.latent_norm = nn.BatchNorm2d(c, affine=False, momentum=0.02)

    def encode(self, x):
        """Posterior mean, normalised: with the batch's own statistics in training, with those of all pictures after measure()."""
        return self.normalised(self.encoder(x))

    def normalised(self, encoded):
        return self.latent_norm(self.quant_conv(encoded)[:, :self.config["z_channels"]].float())

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))

    def normalise(self, z):
        return z / z.std((1, 2, 3), keepdim=True)

    @torch.no_grad()
    def measure(self, pictures, batch=64):
        """The exact mean and variance of each channel over these pictures."""
        norm = self.latent_norm
        norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps)
        self.eval()
        where = norm.running_mean.device
        z = torch.cat([self.encode(to_pixels(pictures[i:i + batch]).to(where)) for i in range(0, len(pictures), batch)]).double()
        norm.running_mean.copy_(z.mean((0, 2, 3))), norm.running_var.copy_(z.var((0, 2, 3), unbiased=False))

    def released(self):
        """{name: tensor} in the released layout: the norm is folded into quant_conv, so that the latents' scale (vae_scale) is 1."""
        norm, c = self.latent_norm, self.config["z_channels"]
        tensors = {name: tensor.clone() for name, tensor in self.state_dict().items() if not name.startswith("latent_norm.")}
        inverse = (norm.running_var + norm.eps).rsqrt()
        tensors["quant_conv.weight"][:c] *= inverse[:, None, None, None]
        tensors["quant_conv.bias"][:c] = (tensors["quant_conv.bias"][:c] - norm.running_mean) * inverse
        return tensors


def make(config):
    return KL(config) if config.get("kl") else VAE(config)


def load(path):
    """A checkpoint of train_vae.py, or a model folder -> the autoencoder on the CPU."""
    if not os.path.isdir(path):
        state = torch.load(path, map_location="cpu")
        model = make(state.get("config", CONFIG))
        model.load_state_dict(state["model"])
        return model
    tensors = safetensors_io.load(os.path.join(path, "vae", "model.safetensors"))
    config_path = os.path.join(path, "vae", "config.json")
    if os.path.exists(config_path):
        with open(config_path, encoding="utf-8") as file:
            model = VAE(json.load(file))
    else:
        with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
            model = KL(kl_config(json.load(file)))
        norm = model.latent_norm                           # folded into quant_conv: these leave it as it is
        tensors.update({"latent_norm.running_mean": torch.zeros_like(norm.running_mean), "latent_norm.running_var": torch.full_like(norm.running_var, 1 - norm.eps),
                        "latent_norm.num_batches_tracked": torch.tensor(0)})
    missing, unexpected = model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    # A folder that only draws may leave the encoder out.
    needed = [name for name in missing if name.startswith(("decoder.", "post_quant_conv."))]
    if needed or unexpected or (missing and any(name.startswith("encoder.") for name in tensors)):
        raise ValueError(f"{path}: autoencoder tensors missing: {missing}, unknown: {unexpected}")
    return model.eval()


def kl_config(c):
    """A TransDiff folder's config.json -> the autoencoder's."""
    return dict(KL_CONFIG, resolution=c["image_size"], ch=c["vae_ch"], ch_mult=c["vae_ch_mult"], num_res_blocks=c["vae_num_res_blocks"], z_channels=c["vae_channels"])


def start_from(model, other):
    """Copies of what has the same name and shape in another autoencoder, such as the other family's. -> the number of tensors copied"""
    own, found = model.state_dict(), other.state_dict()
    same = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    model.load_state_dict(dict(own, **same))
    return len(same)


def encode_all(pictures, autoencoder, batch=64):
    """(N, 64, 64, 3) uint8 -> tokens (N, 64, 64), half precision, on the CPU."""
    where, parts = next(autoencoder.parameters()).device, []
    with torch.no_grad():
        for begin in range(0, len(pictures), batch):
            parts.append(patchify(autoencoder.encode(to_pixels(pictures[begin:begin + batch]).to(where))).half().cpu())
    return torch.cat(parts)


def patchify(z, p=2):
    """(B, C, H, W) -> (B, HW/p^2, C p^2); a token is (channel, row in patch, column in patch)."""
    b, c, h, w = z.shape
    return z.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // p // p, c * p * p)


def unpatchify(tokens, h, w, p=2):
    """(B, h w, C p^2) -> (B, C, h p, w p)."""
    b, _, d = tokens.shape
    c = d // (p * p)
    return tokens.reshape(b, h, w, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h * p, w * p)


def normalise_tokens(z, p=2):
    tokens = patchify(z, p)
    return unpatchify(F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6), z.shape[2] // p, z.shape[3] // p, p)


def to_pixels(u8):
    """(B, 64, 64, 3) uint8 array -> (B, 3, 64, 64) float in [-1, 1]."""
    return torch.from_numpy(u8).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_uint8(x):
    """Decoder output (B, 3, H, W) -> (B, H, W, 3) uint8 array, rounded half to even."""
    return (x.float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
