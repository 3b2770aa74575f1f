import { describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.js';
import type { EngineInfo } from '../../src/engine/native-types.js';
import { disagreement } from '../../src/jobs/agreement.js';
import type { WorkerReady } from '../../src/jobs/ipc.js';

const ENGINE: EngineInfo = { backend: 'cuda:0', dtype: 'bfloat16', threads: 1, isa: 'sm_90', libraries: '' };

function ready(engine: Partial<EngineInfo> = {}, id: Device['id'] = 'cuda:0'): WorkerReady {
  return { engine: { ...ENGINE, ...engine }, device: { id, name: 'GPU', memoryBytes: 1, reason: 'asked for' }, cudaVersion: '13.0', models: [] };
}

describe('disagreement', () => {
  const others = [{ name: 'worker-0', ready: ready() }];

  it('is none alone, or with an equal one on another device', () => {
    expect(disagreement('worker-0', ready(), [])).toBeNull();
    expect(disagreement('worker-1', ready({ backend: 'cuda:1', libraries: 'other' }, 'cuda:1'), others)).toBeNull();
  });

  it.each([
    [{ isa: 'sm_80' }, 'worker-1 (cuda:1, GPU) has isa sm_80, worker-0 (cuda:0) has sm_90'],
    [{ dtype: 'float32' } as const, 'has dtype float32, worker-0 (cuda:0) has bfloat16'],
    [{ threads: 2 }, 'has threads 2, worker-0 (cuda:0) has 1'],
  ])('names what differs: %j', (engine, message) => {
    expect(disagreement('worker-1', ready(engine, 'cuda:1'), others)?.message).toContain(message);
  });
});
