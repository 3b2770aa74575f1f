import { Mark } from '../state/drawing.js';
import { h } from './dom.js';

/** What the passes before the last one drew, small and side by side: each is the reference of those after it. */
export class PassStrip {
  readonly element: HTMLElement;
  private readonly steps: readonly HTMLElement[];
  private readonly urls: string[] = [];

  constructor(
    private readonly prompt: string,
    private readonly passes: number,
  ) {
    this.steps = Array.from({ length: passes - 1 }, (_, i) => h('li', { 'aria-label': `Pass ${i + 1} of ${passes}: not drawn yet` }, h('span', { 'aria-hidden': 'true' }, String(i + 1))));
    this.element = h('ol', { class: 'passes', 'aria-label': `Passes of ${prompt}` }, ...this.steps);
  }

  /** `index`: from 0. A replay after a lost connection may show one again. */
  show(index: number, mime: string, bytes: Uint8Array<ArrayBuffer>): void {
    const step = this.steps[index];
    if (step === undefined) return;
    const url = URL.createObjectURL(new Blob([bytes], { type: mime }));
    this.urls.push(url);
    step.removeAttribute('aria-label');
    step.querySelector('img')?.remove();
    step.append(h('img', { src: url, alt: `${this.prompt}: pass ${index + 1} of ${this.passes}` }));
  }

  /** How each came to be, where the server told of drafts. */
  mark(marks: readonly number[]): void {
    this.steps.forEach((step, i) => {
      const mark = marks[i];
      step.classList.toggle('accepted', mark === Mark.accepted);
      step.classList.toggle('target', mark === Mark.target);
      if (mark === Mark.accepted || mark === Mark.target) step.title = mark === Mark.accepted ? 'Draft taken' : 'Drawn by the model';
    });
  }

  dispose(): void {
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}
