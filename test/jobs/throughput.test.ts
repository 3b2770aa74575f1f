import { describe, expect, it } from 'vitest';
import { Throughput } from '../../src/jobs/throughput.js';

describe('Throughput', () => {
  it('knows nothing at first', () => {
    const throughput = new Throughput();
    expect(throughput.tokensPerSecond).toBeNull();
    throughput.begin(5);
    expect(throughput.tokensPerSecond).toBeNull();
  });

  it('measures work, not idleness', () => {
    const throughput = new Throughput();
    throughput.begin(0);
    throughput.drawn(10, 1);
    throughput.end();
    throughput.begin(1000);
    throughput.drawn(10, 1001);
    expect(throughput.tokensPerSecond).toBeCloseTo(10);
  });

  it('follows a change of speed within half a minute', () => {
    const throughput = new Throughput();
    throughput.begin(0);
    for (let second = 1; second <= 600; second += 1) throughput.drawn(100, second);
    expect(throughput.tokensPerSecond).toBeCloseTo(100);
    for (let second = 601; second <= 630; second += 1) throughput.drawn(10, second);
    expect(throughput.tokensPerSecond).toBeGreaterThan(10);
    expect(throughput.tokensPerSecond).toBeLessThan(16);
  });
});
