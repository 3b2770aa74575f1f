import { describe, expect, it } from 'vitest';
import { chooseDevice } from '../../src/engine/device.js';
import { loadNativeModule } from '../../src/engine/native.js';
import { openEngine } from '../../src/engine/open-engine.js';
import { isAddonBuilt } from '../support/server-process.js';

/** An addon with the cuda backend; scripts/cuda-addon.sh makes one and sets this. */
const CUDA_ADDON = process.env['ARDIFF_CUDA_ADDON'];

describe.skipIf(!isAddonBuilt())('an addon, asked for devices', () => {
  it('answers, whatever it was built with, and auto follows the answer', () => {
    const native = loadNativeModule();
    const { version, problem, devices } = native.cudaDevices();
    expect(devices.length > 0).toBe(problem === '');
    if (version === '') expect(problem).toBe('this build has no cuda backend');
    const { engine, device } = openEngine({ device: 'auto', dtype: 'float32', threads: 1 }, native);
    engine.close();
    expect(device.id === 'cpu').toBe(devices.every((found) => found.problem !== ''));
    if (problem !== '') expect(device.reason).toBe(`auto: ${problem}`);
  });

  it('divides the processor among the workers that share it', () => {
    const threads = (sharedBy: number, asked = 0): number => {
      const { engine } = openEngine({ device: 'cpu', dtype: 'float32', threads: asked, sharedBy });
      engine.close();
      return engine.info.threads;
    };
    expect(threads(10_000)).toBe(1);
    expect(threads(2, 2)).toBe(2);
  });
});

describe.skipIf(CUDA_ADDON === undefined)('an addon that was built with cuda', () => {
  it('loads without a driver, and names what is missing', () => {
    const native = loadNativeModule(CUDA_ADDON);
    const { version, problem, devices } = native.cudaDevices();
    expect(version).toMatch(/^\d+\.\d+$/);
    if (devices.length > 0) return;
    expect(problem).toMatch(/^no CUDA (driver on this machine|device)$/);
    expect(() => openEngine({ device: 'cuda:0', dtype: 'auto', threads: 1 }, native)).toThrow(expect.objectContaining({ nativeCode: 'invalid_argument', detail: `backend cuda:0: ${problem}` }));
    expect(chooseDevice('auto', native.cudaDevices(), { name: 'p', memoryBytes: 1 })).toMatchObject({ id: 'cpu', reason: `auto: ${problem}` });
  });

  it('computes on the processor as any other', async () => {
    const { engine } = openEngine({ device: 'cpu', dtype: 'float32', threads: 1 }, loadNativeModule(CUDA_ADDON));
    expect(engine.info).toMatchObject({ backend: 'cpu', dtype: 'float32', threads: 1 });
    engine.close();
  });
});
