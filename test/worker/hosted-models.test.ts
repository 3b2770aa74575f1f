import { afterEach, describe, expect, it } from 'vitest';
import { wrapEngine } from '../../src/engine/engine.js';
import type { LoadOptions, NativeEngine } from '../../src/engine/native-types.js';
import type { JobEvent } from '../../src/jobs/job.js';
import { merge } from '../../src/metrics/merge.js';
import { readManifest, type ModelManifest } from '../../src/model/manifest.js';
import { hostModels, type HostedModels } from '../../src/worker/hosted-models.js';
import { parseExposition } from '../support/exposition.js';
import { FakeEngine } from '../support/fake-engine.js';
import { JOB_REQUEST } from '../support/manual-worker.js';
import { writeModelFolder } from '../support/model-folder.js';
import { until } from '../support/until.js';

/** One thread, as the engine is: steps of all models run one after the other. */
class SharedEngine implements NativeEngine {
  readonly engines: FakeEngine[] = [];
  readonly order: number[] = [];
  readonly info = new FakeEngine().info;
  readonly loadedBytes = 0;
  private thread: Promise<unknown> = Promise.resolve();

  async load(directory: string, options: LoadOptions) {
    const engine = new FakeEngine({ roundSeconds: 0.005 });
    const { model } = await engine.load(directory, options);
    this.engines.push(engine);
    return { handle: this.engines.length - 1, model };
  }
  /** Steps that come now wait until the answer is called. */
  hold(): () => void {
    let release!: () => void;
    this.thread = new Promise<void>((resolve) => (release = resolve));
    return release;
  }
  unload(handle: number) {
    return this.engines[handle]!.unload();
  }
  step(...[handle, plan]: Parameters<NativeEngine['step']>) {
    const result = this.thread.then(() => {
      if (plan.decode.length > 0) this.order.push(handle);
      return this.engines[handle]!.step(1, plan);
    });
    this.thread = result.catch(() => undefined);
    return result;
  }
  probe(...[handle, request]: Parameters<NativeEngine['probe']>) {
    return this.engines[handle]!.probe(1, request);
  }
  cancel(handle: number, sequence: number) {
    this.engines[handle]!.cancel(1, sequence);
  }
  close() {
    for (const engine of this.engines) engine.close();
  }
}

const folders: (() => void)[] = [];
let host: HostedModels;

afterEach(async () => {
  await host.stop();
  for (const remove of folders.splice(0)) remove();
});

function manifest(id: string): ModelManifest {
  const folder = writeModelFolder();
  folders.push(folder.remove);
  return { ...readManifest(folder.directory), id };
}

async function start(): Promise<SharedEngine> {
  const engine = new SharedEngine();
  host = await hostModels(wrapEngine(engine), [manifest('first'), manifest('second')], { name: 'w', kvSequences: 16, maxBatch: 16 }, { error: () => undefined });
  return engine;
}

function draw(model: string, seed: number): Promise<JobEvent> {
  return new Promise((resolve) => {
    host.start({ ...JOB_REQUEST, model, seeds: [seed], gridHeight: 4, gridWidth: 4 }, (event) => {
      if (event.kind === 'succeeded' || event.kind === 'failed') resolve(event);
    });
  });
}

describe('hostModels', () => {
  it('draws every job with the model it names', async () => {
    const engine = await start();
    expect((await draw('second', 1)).kind).toBe('succeeded');
    expect(engine.engines.map(({ plans }) => plans.length > 0)).toEqual([false, true]);
    expect(host.models.map(({ id, kv }) => [id, kv.totalBlocks > 0])).toEqual([['first', true], ['second', true]]);
  });

  it('takes turns while both have work: neither waits for the other to be done', async () => {
    const engine = await start();
    const jobs = Array.from({ length: 8 }, (_, i) => draw(i % 2 === 0 ? 'first' : 'second', i));
    expect((await Promise.all(jobs)).map(({ kind }) => kind)).toEqual(Array<string>(8).fill('succeeded'));
    const { order } = engine;
    const last = (handle: number): number => order.lastIndexOf(handle);
    // Both draw from the beginning, and finish within a few steps of each other.
    expect(new Set(order.slice(0, 12)).size).toBe(2);
    expect(Math.abs(last(0) - last(1))).toBeLessThan(12);
  });

  it('tells how long the engine has been in its step, of whichever model', async () => {
    const engine = await start();
    const release = engine.hold();
    const jobs = [draw('first', 1), draw('second', 2)];
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(host.stepSeconds).toBeGreaterThan(0.02);
    release();
    await Promise.all(jobs);
    await until(() => host.stepSeconds === 0);
  });

  it('refuses a model it does not have', async () => {
    await start();
    expect(() => host.start({ ...JOB_REQUEST, model: 'third' }, () => undefined)).toThrow(expect.objectContaining({ code: 'model_not_found' }));
    expect(() => host.capacityOf({ ...JOB_REQUEST, model: 'third' })).toThrow(expect.objectContaining({ code: 'model_not_found' }));
  });

  it('tells of all models, every series once', async () => {
    await start();
    await Promise.all([draw('first', 1), draw('second', 2), draw('second', 3)]);
    // Throws on a series that appears twice.
    const samples = parseExposition(await merge([await host.metrics()]).metrics());
    const steps = samples.filter(({ name }) => name === 'ardiff_image_tokens_total').map(({ labels, value }) => [labels['model'], value]);
    expect(steps).toEqual([['first', 16], ['second', 32]]);
  });
});
