"""What every stage shares: a CSV that survives a restart, a plot of it, an atomic checkpoint, a clock that resumes."""
import contextlib
import csv
import os
import time

import torch


class Log:
    """Appends rows to PATH; the first row's keys are the columns."""

    def __init__(self, path):
        self.path = path

    def add(self, **row):
        new = not os.path.exists(self.path)
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def plot(csv_path, columns, png_path):
    """columns against the first column; silently nothing where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return
    if not os.path.exists(csv_path):
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    with open(csv_path) as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        return
    x_name = next(iter(rows[0]))
    figure, axes = pyplot.subplots(1, len(columns), figsize=(4 * len(columns), 3))
    for axis, column in zip(axes if len(columns) > 1 else [axes], columns):
        points = [(float(r[x_name]), float(r[column])) for r in rows if r.get(column)]
        axis.plot(*zip(*points))
        axis.set(title=column, xlabel=x_name)
    figure.tight_layout()
    figure.savefig(png_path, dpi=80)
    pyplot.close(figure)


def save_checkpoint(state, path):
    torch.save(state, f"{path}.part")
    os.replace(f"{path}.part", path)


class Clock:
    """Seconds spent in a stage over all its runs, so that a budget in minutes can be resumed.

    Time in which the process did not run (stopped, or kept waiting by other work) is not spent: no more counts than its processor time.
    """

    def __init__(self, spent=0.0):
        self.spent, self.mark = spent, (time.time(), time.process_time())

    def tick(self):
        now = time.time(), time.process_time()
        self.spent += max(0.0, min(a - b for a, b in zip(now, self.mark)))
        self.mark = now
        return self.spent


def minutes_left(clock, minutes, until=None):
    """Of a budget of work, or, with `until` (seconds since 1970), to a time of day."""
    return (until - time.time()) / 60 if until else minutes - clock.spent / 60


def progress(clock, minutes, until=None):
    """The share of the budget that is spent, 0 to 1."""
    spent, left = clock.spent / 60, max(0.0, minutes_left(clock, minutes, until))
    return spent / max(spent + left, 1e-9)


def mean_of(values):
    """Of numbers and of tensors of one number: these stay on their device until somebody wants to know."""
    return float(sum(value.detach() if torch.is_tensor(value) else value for value in values) / max(1, len(values)))


def work(clock, minutes, save, save_minutes, until=None):
    """Yields once a step until `minutes` are spent, or it is `until`; calls save() every `save_minutes` of work and at the end."""
    saved = clock.spent
    clock.tick()
    while minutes_left(clock, minutes, until) > 0:
        yield
        if clock.tick() - saved > save_minutes * 60:
            save()
            saved = clock.spent
    save()


def use_threads(count):
    torch.set_num_threads(count)


def autocast(where, enabled):
    """To bfloat16. Where it is off, any device will do, PyTorch's "meta" too."""
    return torch.autocast(where.type, dtype=torch.bfloat16) if enabled else contextlib.nullcontext()


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
