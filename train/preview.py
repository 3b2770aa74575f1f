"""Cheap previews: the linear map from a latent pixel to colour that fits the training pictures best -> MODEL/preview.json.

python preview.py --data DIR --model ../models/nextstep-emoji64

A latent pixel (16 numbers, as the engine holds them: tokens normalised, then unpatchified) gives the mean RGB of its 4x4 picture pixels.
To be written again when the encoder changes; another decoder changes nothing.
"""
import argparse
import os

import numpy as np
import torch

import data
import vae
from export import write_json
from run_log import use_threads


def latent_pixels(pictures, autoencoder, batch=64):
    """(N, 64, 64, 3) uint8 -> (N * 16 * 16, channels) float64."""
    parts = []
    with torch.no_grad():
        for begin in range(0, len(pictures), batch):
            z = autoencoder.encode(vae.to_pixels(pictures[begin:begin + batch]))
            parts.append(z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]))
    return torch.cat(parts).double().numpy()


def block_means(pictures, side):
    """-> (N * side * side, 3) in 0..1, in the order of latent_pixels."""
    n, h, w, _ = pictures.shape
    return (pictures.reshape(n, side, h // side, side, w // side, 3).mean((2, 4)) / 255).reshape(-1, 3)


def fit(latents, colours):
    """Least squares -> map (3, channels), bias (3), R^2 over all three colours together."""
    design = np.concatenate([latents, np.ones((len(latents), 1))], 1)
    solution = np.linalg.solve(design.T @ design, design.T @ colours)
    error = ((design @ solution - colours) ** 2).sum()
    return solution[:-1].T, solution[-1], 1 - error / ((colours - colours.mean(0)) ** 2).sum()


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True, help="model folder, for its VAE")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    use_threads(args.threads)
    autoencoder = vae.load(args.model)
    rows, pictures = data.load(args.data)
    pictures = pictures[data.train_ids(rows)]
    latents = latent_pixels(pictures, autoencoder)
    weights, bias, r2 = fit(latents, block_means(pictures, autoencoder.config["resolution"] // 2 ** (len(autoencoder.config["ch_mult"]) - 1)))
    rounded = lambda values: np.round(values, 6).tolist()
    write_json(dict(latent_rgb=rounded(weights), bias=rounded(bias), range="RGB in 0..1", r2=round(float(r2), 4)), args.model, "preview.json")
    print(f"R^2 {r2:.4f} over {len(latents)} latent pixels of {len(pictures)} pictures")


if __name__ == "__main__":
    main()
