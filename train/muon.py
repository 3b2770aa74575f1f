"""Two optimizers as one: Muon for the matrices inside the network, AdamW for embeddings, in/out layers, gains and biases.

Muon (Jordan 2024): the momentum of a matrix, replaced by the nearest orthogonal matrix (five Newton-Schulz steps), so that rare
directions of the gradient - here: rare words - move as far as frequent ones. Updates are scaled to AdamW's usual size, 0.2 rms.
"""
import torch


def orthogonal(g, steps=5):
    """g (n, rows, cols) -> the same with singular values near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.float().flatten(1).norm(dim=1)[:, None, None] + 1e-7).to(x.dtype)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are stacked and orthogonalised together.

    Orthogonalising costs a fifth of a small-batch step on a CPU, so only every other matrix moves, twice as far, in each step.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.turn = 0

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                for p in params:
                    self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - group["momentum"])
                turn = params[self.turn::2]
                if not turn:
                    continue
                updates = [p.grad.lerp(self.state[p]["momentum"], group["momentum"]) for p in turn]        # Nesterov
                size = 0.2 * max(shape) ** 0.5
                for p, u in zip(turn, orthogonal(torch.stack(updates))):
                    p.mul_(1 - 2 * group["lr"] * group["weight_decay"])
                    p.add_(u, alpha=-2 * group["lr"] * size)
        self.turn = 1 - self.turn


EDGES = ("embed_tokens", "input_proj", "image_in_projector", "adaLN", "final_layer", "aux", "mean")      # NextStep's


def split(module, edges=EDGES):
    """-> (matrices for Muon, the rest for AdamW). edges: parts of the names of layers between the width and something else."""
    inside, rest = [], []
    for name, p in module.named_parameters():
        edge = any(part in name for part in edges)
        (inside if p.dim() == 2 and not edge else rest).append(p)
    return inside, rest
