"""Noise as a pure function of where it is used: Philox 4x32-10 and Box-Muller (docs/contract.md, Randomness).

key = (seed low, seed high); counter = (block, timestep | purpose << 16, token, attempt). The engine draws the same numbers.
"""
import numpy as np

INITIAL, TIMESTEP = 0, 1                                 # purposes


def philox(counter, key):
    """counter (4, ...) and key (2, ...) uint32 values held in uint64 arrays -> (4, ...) words."""
    mask = np.uint64(0xFFFFFFFF)
    c, k = [np.asarray(x, np.uint64) for x in counter], [np.asarray(x, np.uint64) for x in key]
    shift = np.uint64(32)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ k[0], p1 & mask, (p0 >> shift) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return np.stack(np.broadcast_arrays(*c))


def normals(seeds, purpose, timesteps, token, width, attempt=0):
    """seeds (B,), timesteps (N,) -> (B, N, width) float32 standard normals."""
    seeds = np.asarray(seeds, np.uint64)[:, None, None]
    timesteps = np.asarray(timesteps, np.uint64)[None, :, None]
    blocks = np.arange((width + 3) // 4, dtype=np.uint64)[None, None, :]
    zero = np.zeros(np.broadcast_shapes(seeds.shape, timesteps.shape, blocks.shape), np.uint64)
    words = philox((blocks + zero, (timesteps | np.uint64(purpose << 16)) + zero, zero + np.uint64(token), zero + np.uint64(attempt)),
                   ((seeds & np.uint64(0xFFFFFFFF)) + zero, (seeds >> np.uint64(32)) + zero))
    uniform = (words.astype(np.float64) + 0.5) * 2.0 ** -32
    radius0, radius1 = np.sqrt(-2 * np.log(uniform[0])), np.sqrt(-2 * np.log(uniform[2]))
    angle0, angle1 = 2 * np.pi * uniform[1], 2 * np.pi * uniform[3]
    four = np.stack([radius0 * np.cos(angle0), radius0 * np.sin(angle0), radius1 * np.cos(angle1), radius1 * np.sin(angle1)], -1)
    return four.reshape(*four.shape[:2], 4 * four.shape[2])[..., :width].astype(np.float32)
