"""What is trained how much at progress s in [0, 1]: first the draft, then the few-step head; there first paths, then distributions.

    alpha(s) = 0.95 max(0, 1 - s / 0.8)              the draft's share; 1 - alpha is the few-step head's
    beta(s)  = clip((s - 0.35) / 0.25, 0, 1)         from trajectory matching to distribution matching
    L = alpha L_draft + (1 - alpha) [ (1 - beta) L_traj + beta (L_dmd + 0.25 L_traj) ]

Draft and head share no parameter, and Adam divides by the size of the gradient: a constant factor on one's loss changes nothing. So alpha and
1 - alpha scale the learning rates. beta mixes losses of one network and stays a weight.
"""
ALPHA, DRAFT_ENDS = 0.95, 0.8
DMD_BEGINS, DMD_RAMP, KEPT = 0.35, 0.25, 0.25


def alpha(s):
    return ALPHA * max(0.0, 1 - s / DRAFT_ENDS)


def beta(s):
    return min(1.0, max(0.0, (s - DMD_BEGINS) / DMD_RAMP))


def loss_weights(b):
    """-> weights of L_traj and L_dmd."""
    return (1 - b) + KEPT * b, b


def envelope(s, warmup=0.02, floor=0.02):
    """Warm-up, then a half cosine: the learning rate that both networks would have alone."""
    from math import cos, pi
    if s < warmup:
        return max(floor, s / warmup)
    return floor + (1 - floor) * (1 + cos(pi * min(1.0, (s - warmup) / (1 - warmup)))) / 2


def rates(s, joint):
    """-> factors of the peak learning rates of draft and few-step head. A head trained alone has all of its rate."""
    share = alpha(s) if joint else 0.0
    return share * envelope(s), (1 - share) * envelope(s)
