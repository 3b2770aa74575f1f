import { describe, expect, it } from 'vitest';
import { latencyQualityPlot } from '../../../bench/acceleration/plot.js';

const point = (name: string, ms: number, fd: number, equal: boolean | null) => ({
  name,
  latency: { median: ms, min: ms, max: ms, rounds: 1 },
  quality: { fd, fd_interval: [fd * 0.9, fd * 1.1] as [number, number], equal_to_vanilla: equal },
});

describe('latencyQualityPlot', () => {
  const svg = latencyQualityPlot([point('off', 22, 1.1, true), point('few_step:1', 8, 1.1, false), point('relaxed:few_step:1', 5, 1.2, true)])!;

  it('puts what is faster to the left and what is worse higher', () => {
    const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)" r="5" fill="(#\w+)"/g)].map(([, x, y, fill]) => [Number(x), Number(y), fill] as const);
    const [off, few, both] = circles;
    expect(off![0]).toBeGreaterThan(few![0]);
    expect(few![0]).toBeGreaterThan(both![0]);
    expect(both![1]).toBeLessThan(off![1]);
    // Hollow: not of equal quality.
    expect(few![2]).toBe('#fff');
  });

  it('keeps names apart', () => {
    const close = latencyQualityPlot([point('exact', 20, 1, true), point('relaxed', 20.5, 1.001, true)])!;
    const heights = [...close.matchAll(/y="([\d.]+)" fill="#\w+">(exact|relaxed)</g)].map(([, y]) => Number(y));
    expect(Math.abs(heights[0]! - heights[1]!)).toBeGreaterThanOrEqual(14);
  });

  it('writes the name of what lies at the edge to its left', () => {
    const wide = latencyQualityPlot([point('off', 20, 1, true), point('off, 100 timesteps', 300, 1, true)])!;
    expect(wide).toMatch(/text-anchor="end" y="[\d.]+" fill="#\w+">off, 100 timesteps</);
    expect(wide).not.toMatch(/text-anchor="end" y="[\d.]+" fill="#\w+">off</);
  });

  it('is nothing without points', () => {
    expect(latencyQualityPlot([])).toBeNull();
  });
});
