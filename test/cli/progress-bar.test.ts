import { describe, expect, it } from 'vitest';
import { ProgressBar } from '../../src/cli/progress-bar.js';

function show(isTTY: boolean, fractions: readonly number[], columns = 80): string {
  let written = '';
  const bar = new ProgressBar({ err: (text) => (written += text), isTTY, columns }, 'drawing');
  for (const fraction of fractions) bar.show(fraction, 1500);
  bar.clear();
  return written;
}

const tenths = Array.from({ length: 101 }, (_, i) => i / 100);

describe('progress', () => {
  it('is a line per tenth in a pipe, and always the last', () => {
    const lines = show(false, tenths).trimEnd().split('\n');
    expect(lines[0]).toBe('drawing 0 %');
    expect(lines.at(-1)).toBe('drawing 100 %');
    expect(lines.length).toBeLessThanOrEqual(12);
    expect(show(false, tenths)).not.toMatch(/[\r\u001b]/);
    expect(show(false, [0.97, 1])).toBe('drawing 97 %\ndrawing 100 %\n');
  });

  it('is one line that redraws itself on a terminal, and goes away', () => {
    const written = show(true, [0, 0.5, 1]);
    expect(written).not.toContain('\n');
    const states = written.split('\r').slice(1);
    expect(states[1]).toMatch(/^drawing \[#{20}-{20}\] {2}50 % 1\.5 s left/);
    expect(states[2]).toMatch(/^drawing \[#{40}\] 100 %\u001b\[K/);
    expect(states[3]).toBe('\u001b[K');
  });

  it.each([20, 40, 80, 0])('fits %i columns, or shows the least', (columns) => {
    const bar = /\[[#-]*\]/.exec(show(true, [0.3], columns))![0];
    expect(bar.length).toBeLessThanOrEqual(42);
    expect(bar.length).toBeGreaterThanOrEqual(10);
  });
});
