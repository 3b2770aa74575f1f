import type { Terminal } from './command.js';

const MIN_STEP = 0.1;

/** Progress of one picture or several: a bar that redraws itself on a terminal, a line per tenth elsewhere. */
export class ProgressBar {
  private shown = -1;
  private drawn = false;

  constructor(
    private readonly terminal: Pick<Terminal, 'err' | 'isTTY' | 'columns'>,
    private readonly label: string,
  ) {}

  /** `fraction` in 0 … 1; `etaMs` until it is 1, if known. */
  show(fraction: number, etaMs: number | null): void {
    const { terminal, label } = this;
    const percent = `${String(Math.floor(fraction * 100)).padStart(3)} %`;
    if (!terminal.isTTY) {
      if (fraction < this.shown + MIN_STEP && !(fraction === 1 && this.shown < 1)) return;
      this.shown = fraction;
      terminal.err(`${label} ${percent.trim()}\n`);
      return;
    }
    const eta = etaMs === null || fraction === 1 ? '' : ` ${(etaMs / 1000).toFixed(1)} s left`;
    const room = Math.max(8, Math.min(40, (terminal.columns || 80) - label.length - percent.length - 18));
    const full = Math.round(fraction * room);
    terminal.err(`\r${label} [${'#'.repeat(full)}${'-'.repeat(room - full)}] ${percent}${eta}\u001b[K`);
    this.drawn = true;
  }

  /** Takes the bar away, so that what follows stands alone. */
  clear(): void {
    if (this.drawn) this.terminal.err('\r\u001b[K');
    this.drawn = false;
  }
}
