import numpy as np


def nearest_has_base(drawn, thumbnails, bases, asked, k=5):
    """drawn (B, 16, 16, 3), thumbnails (N, 16, 16, 3) uint8; bases (N), asked (B) -> (B,) bool: asked[b] among the k nearest."""
    a, b = drawn.reshape(len(drawn), -1).astype(np.float32), thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    distance = (b * b).sum(1)[None] - 2 * a @ b.T
    nearest = np.argpartition(distance, k, axis=1)[:, :k]
    return np.array([asked[i] in {bases[j] for j in nearest[i]} for i in range(len(a))])
