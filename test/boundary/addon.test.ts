import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { ADDON_PATH, loadNativeModule, PACKAGE_ROOT } from '../../src/engine/native.js';
import type { LoadOptions, NativeEngine, StepPlan } from '../../src/engine/native-types.js';
import { isAddonBuilt } from '../support/server-process.js';
import { promptRow, sequenceSpec } from '../support/specs.js';

const MODEL = join(PACKAGE_ROOT, 'test', 'golden', 'nextstep-tiny');
const OPTIONS: LoadOptions = { kvBlocks: 8, maxStepTokens: 64 };

const open: NativeEngine[] = [];

function createEngine(): NativeEngine {
  const { Engine } = loadNativeModule();
  const engine = new Engine({ backend: 'reference', dtype: 'float32', threads: 1 });
  open.push(engine);
  return engine;
}

afterEach(() => {
  for (const engine of open.splice(0)) engine.close();
});

function plan(parts: Partial<StepPlan>): StepPlan {
  return { release: [], admit: [], copies: new Uint32Array(), prefill: [], decode: [], vae: [], read: [], ...parts };
}

/** Whether the addon throws or rejects is its own choice; the code is not. */
async function codeOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
    return 'no error';
  } catch (error) {
    return error instanceof Error && 'code' in error ? error.code : error;
  }
}

/** Calls with values that TypeScript would not let through. */
const untyped = (value: unknown): never => value as never;

describe.skipIf(!isAddonBuilt())('the addon, wrong use', () => {
  it('refuses wrong options', async () => {
    const { Engine } = loadNativeModule();
    for (const options of [undefined, null, {}, { backend: 'gpu', dtype: 'auto', threads: 0 }, { backend: 'cpu', dtype: 'int3', threads: 0 },
      { backend: 'cpu', dtype: 'auto', threads: -1 }, { backend: 'cpu', dtype: 'auto', threads: NaN }]) {
      expect(await codeOf(() => new Engine(untyped(options)))).toBe('invalid_argument');
    }
    expect(() => untyped((Engine as unknown as () => unknown)())).toThrow(TypeError);
  });

  it('refuses a foreign receiver', () => {
    const { Engine } = loadNativeModule();
    const prototype = Engine.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const method of ['load', 'step', 'probe', 'cancel', 'close', 'unload']) {
      for (const receiver of [{}, null, 7, new Map(), Object.create(Engine.prototype) as object]) {
        expect(() => prototype[method]!.call(receiver, 1, {}), `${method} on ${String(receiver)}`).toThrow();
      }
    }
  });

  it('refuses to load what is no model', async () => {
    const engine = createEngine();
    expect(await codeOf(() => engine.load(untyped(7), OPTIONS))).toBe('invalid_argument');
    expect(await codeOf(() => engine.load(MODEL, untyped({})))).toBe('invalid_argument');
    expect(await codeOf(() => engine.load(MODEL, { kvBlocks: 0, maxStepTokens: 64 }))).toBe('invalid_argument');
    expect(await codeOf(() => engine.load('/nowhere', OPTIONS))).toBe('invalid_model');
    expect(await codeOf(() => engine.load(join(PACKAGE_ROOT, 'src'), OPTIONS))).toBe('invalid_model');
  });

  it('counts the weights that it reads', async () => {
    const engine = createEngine();
    expect(engine.loadedBytes).toBe(0);
    await engine.load(MODEL, OPTIONS);
    const files = ['model.safetensors', join('vae', 'model.safetensors')].map((name) => statSync(join(MODEL, name)).size);
    const total = files.reduce((sum, size) => sum + size);
    // Headers are not weights, and what the engine has no use for is not read.
    expect(engine.loadedBytes).toBeGreaterThan(0.5 * total);
    expect(engine.loadedBytes).toBeLessThanOrEqual(total);
    expect(() => engine.load(MODEL, { ...OPTIONS, rehearsal: { pictures: 0, gridHeight: 1, gridWidth: 1, timesteps: 1 } })).toThrow(/options\.rehearsal\.pictures/);
  });

  it('refuses handles it did not give', async () => {
    const engine = createEngine();
    for (const handle of [0, 99, -1, 1.5, NaN, 'x', undefined]) {
      expect(await codeOf(() => engine.step(untyped(handle), plan({})))).toBe('invalid_argument');
    }
    const { handle } = await engine.load(MODEL, OPTIONS);
    await engine.unload(handle);
    expect(await codeOf(() => engine.unload(handle))).toBe('invalid_argument');
    expect(await codeOf(() => engine.step(handle, plan({})))).toBe('invalid_argument');
  });

  it('refuses plans of the wrong shape, and changes nothing', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    const spec = sequenceSpec(1);
    const wrong: [unknown, string][] = [
      [undefined, 'invalid_argument'],
      [{}, 'invalid_argument'],
      [{ ...plan({}), copies: [0, 1] }, 'invalid_argument'],
      [plan({ admit: [{ ...spec, seed: 2 ** 53 }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, seed: 0.5 }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, guidanceScale: NaN }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, sampler: untyped('Z') }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, promptRows: [] }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, promptRows: [Int32Array.of(1, 2)] }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, promptRows: [Int32Array.of(-1, 130)] }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, promptRows: [untyped(new Float32Array(3))] }] }), 'invalid_argument'],
      [plan({ admit: [{ ...spec, noise: new Float32Array(3) }] }), 'invalid_argument'],
      [plan({ admit: [spec, spec] }), 'invalid_plan'],
      [plan({ release: [5] }), 'invalid_plan'],
      [plan({ vae: [{ sequence: 5, tokens: 0 }] }), 'invalid_plan'],
      [plan({ vae: [{ sequence: 5, tokens: untyped(undefined) }] }), 'invalid_argument'],
      [plan({ admit: [spec], vae: [{ sequence: 1, tokens: 1 }] }), 'invalid_plan'],
      [plan({ admit: [spec], read: [{ sequence: 1, begin: 0, end: 1 }] }), 'invalid_plan'],
      [plan({ read: [{ sequence: 1, begin: 0.5, end: 1 }] }), 'invalid_argument'],
      [{ ...plan({}), read: undefined }, 'invalid_argument'],
      [plan({ copies: Uint32Array.of(0, 99) }), 'invalid_plan'],
      [plan({ copies: Uint32Array.of(0) }), 'invalid_plan'],
      [plan({ admit: [spec], prefill: [{ sequence: 1, row: 0, begin: 0, end: 12, blockTable: new Uint32Array() }] }), 'invalid_plan'],
      [plan({ admit: [spec], prefill: [{ sequence: 1, row: 0, begin: 0, end: 99, blockTable: Uint32Array.of(0, 1, 2, 3, 4, 5, 6) }] }), 'invalid_plan'],
      [plan({ admit: [spec], prefill: [{ sequence: 1, row: 2, begin: 0, end: 1, blockTable: Uint32Array.of(0) }] }), 'invalid_plan'],
      [plan({ admit: [spec], decode: [{ sequence: 1, blockTables: [Uint32Array.of(0), Uint32Array.of(1)], rounds: 1 }] }), 'invalid_plan'],
    ];
    for (const [value, code] of wrong) expect([await codeOf(() => engine.step(handle, untyped(value))), value]).toEqual([code, value]);
    // Nothing of the refused plans stayed: the same id is still free.
    const result = await engine.step(handle, plan({ admit: [spec] }));
    expect(result).toMatchObject({ decode: [], images: [], tokens: [], backboneTokens: 0 });
  });

  it('rejects everything after close, and closes twice', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    engine.close();
    engine.close();
    expect(await codeOf(() => engine.step(handle, plan({})))).toBe('closed');
    expect(await codeOf(() => engine.load(MODEL, OPTIONS))).toBe('closed');
    engine.cancel(handle, 1);
  });
});

describe.skipIf(!isAddonBuilt())('the addon', () => {
  it('says what it is and what it loaded', async () => {
    const engine = createEngine();
    expect(engine.info).toMatchObject({ backend: 'reference', dtype: 'float32', threads: 1 });
    const { model } = await engine.load(MODEL, OPTIONS);
    expect(model).toMatchObject({ family: 'nextstep', hiddenSize: 48, vocabSize: 133, pixelFactor: 16, blockTokens: 16, kvBlocks: 8, boiTokenId: 130 });
  });

  it('runs calls in order, though they were not awaited', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    const spec = sequenceSpec(1, { promptRows: [promptRow(1, 5)], gridHeight: 1, gridWidth: 2 });
    const table = Uint32Array.of(3);
    const results = await Promise.all([
      engine.step(handle, plan({ admit: [spec], prefill: [{ sequence: 1, row: 0, begin: 0, end: 5, blockTable: table }] })),
      engine.step(handle, plan({ decode: [{ sequence: 1, blockTables: [table], rounds: 1 }] })),
      engine.step(handle, plan({ decode: [{ sequence: 1, blockTables: [table], rounds: 1 }], vae: [{ sequence: 1, tokens: 2 }] })),
    ]);
    expect(results.map((result) => result.decode.map((entry) => entry.emittedTokens))).toEqual([[], [1], [2]]);
    const [image] = results[2].images;
    expect(image).toMatchObject({ sequence: 1, width: 32, height: 16 });
    expect(image!.rgb).toHaveLength(32 * 16 * 3);
    expect(new Set(image!.rgb).size).toBeGreaterThan(10);
  });

  it('draws several tokens in one step: the same picture as one by one', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    const picture = async (id: number, block: number, counts: number[]): Promise<Uint8Array> => {
      const spec = sequenceSpec(id, { promptRows: [promptRow(1, 5)], gridHeight: 2, gridWidth: 3, seed: 7 });
      const table = Uint32Array.of(block);
      await engine.step(handle, plan({ admit: [spec], prefill: [{ sequence: id, row: 0, begin: 0, end: 5, blockTable: table }] }));
      for (const tokens of counts) await engine.step(handle, plan({ decode: [{ sequence: id, blockTables: [table], rounds: tokens }] }));
      const { images } = await engine.step(handle, plan({ vae: [{ sequence: id, tokens: 6 }] }));
      return images[0]!.rgb;
    };
    const single = await picture(1, 0, [1, 1, 1, 1, 1, 1]);
    expect(await picture(2, 1, [4, 2])).toEqual(single);
    expect(await picture(3, 2, [6])).toEqual(single);
    expect(await codeOf(() => engine.step(handle, plan({ decode: [{ sequence: 3, blockTables: [Uint32Array.of(2)], rounds: 1 }] })))).toBe('invalid_plan');
  });

  it('hands out tokens and partial pictures to those who ask', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    const spec = sequenceSpec(1, { promptRows: [promptRow(1, 5)], gridHeight: 2, gridWidth: 3 });
    const table = Uint32Array.of(0);
    await engine.step(handle, plan({ admit: [spec], prefill: [{ sequence: 1, row: 0, begin: 0, end: 5, blockTable: table }] }));
    const decode = [{ sequence: 1, blockTables: [table], rounds: 3 }];
    const half = await engine.step(handle, plan({ decode, vae: [{ sequence: 1, tokens: 3 }], read: [{ sequence: 1, begin: 0, end: 3 }] }));
    const whole = await engine.step(handle, plan({ decode, vae: [{ sequence: 1, tokens: 3 }, { sequence: 1, tokens: 6 }], read: [{ sequence: 1, begin: 1, end: 6 }] }));
    const { tokens } = await engine.probe(handle, { kind: 'tokens', tensors: {}, params: { sequence: 1 } });
    expect(half.tokens).toEqual([{ sequence: 1, begin: 0, end: 3, data: tokens!.data.slice(0, 3 * 16) }]);
    expect(whole.tokens).toEqual([{ sequence: 1, begin: 1, end: 6, data: tokens!.data.slice(16) }]);
    expect(whole.images.map((image) => image.tokens)).toEqual([3, 6]);
    // The same partial picture now as then, and another than the whole.
    expect(whole.images[0]!.rgb).toEqual(half.images[0]!.rgb);
    expect(whole.images[1]!.rgb).not.toEqual(half.images[0]!.rgb);
    expect(half.timings).toMatchObject({ vae: 0, preview: expect.any(Number) as number });
    expect(half.timings.preview).toBeGreaterThan(0);
  });

  it('stops a cancelled sequence, and only that one', async () => {
    const engine = createEngine();
    const { handle } = await engine.load(MODEL, OPTIONS);
    const specs = [1, 2].map((id) => sequenceSpec(id, { promptRows: [promptRow(id, 5)] }));
    const tables = [Uint32Array.of(0), Uint32Array.of(1)];
    await engine.step(handle, plan({ admit: specs, prefill: specs.map(({ id }, i) => ({ sequence: id, row: 0, begin: 0, end: 5, blockTable: tables[i]! })) }));
    engine.cancel(handle, 1);
    engine.cancel(handle, 12345);
    const { decode } = await engine.step(handle, plan({ decode: specs.map(({ id }, i) => ({ sequence: id, blockTables: [tables[i]!], rounds: 1 })) }));
    expect(decode).toEqual([
      { sequence: 1, emittedTokens: 0, cancelled: true },
      { sequence: 2, emittedTokens: 1, cancelled: false },
    ]);
    expect(await codeOf(() => engine.step(handle, plan({ release: [1, 2] })))).toBe('no error');
  });

  it('loads in several worker threads, each with its own engine', { timeout: 30_000 }, async () => {
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { Engine } = require(workerData.addon);
      const engine = new Engine({ backend: 'reference', dtype: 'float32', threads: 1 });
      engine.load(workerData.model, { kvBlocks: 4, maxStepTokens: 16 }).then(({ model }) => parentPort.postMessage(model.hiddenSize));`;
    const sizes = await Promise.all(
      [0, 1, 2].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(source, { eval: true, workerData: { addon: ADDON_PATH, model: MODEL } });
            worker.once('message', (size) => void worker.terminate().then(() => { resolve(size); }));
            worker.once('error', reject);
          }),
      ),
    );
    expect(sizes).toEqual([48, 48, 48]);
  });

  /** Runs a script in a process of its own, as what is tested there would take this one down. */
  function runScript(body: string, ...flags: string[]): { status: number | null; stdout: string; stderr: string } {
    const prelude = `
      const { Engine } = require(${JSON.stringify(ADDON_PATH)});
      const MODEL = ${JSON.stringify(MODEL)};
      const create = () => new Engine({ backend: 'reference', dtype: 'float32', threads: 1 });`;
    return spawnSync(process.execPath, [...flags, '-e', prelude + body], { encoding: 'utf8', timeout: 30_000 });
  }

  it('lets the process end by itself, with an engine open', () => {
    expect(runScript(`create().load(MODEL, { kvBlocks: 4, maxStepTokens: 16 }).then(() => console.log('loaded'));`)).toMatchObject({ status: 0, stdout: 'loaded\n' });
  });

  it('survives process.exit in the middle of work', { timeout: 60_000 }, () => {
    const script = `const engine = create(); for (let i = 0; i < 8; i++) engine.load(MODEL, { kvBlocks: 64, maxStepTokens: 16 }); setTimeout(() => process.exit(7), 5);`;
    // What is destroyed under a thread that still works shows in some runs only.
    for (let run = 0; run < 20; run += 1) expect(runScript(script)).toMatchObject({ status: 7, stderr: '' });
  });

  it('survives the collection of engines nobody closed', () => {
    const script = `
      (async () => {
        for (let i = 0; i < 20; i++) {
          await create().load(MODEL, { kvBlocks: 4, maxStepTokens: 16 });
          global.gc();
          await new Promise(setImmediate);
        }
        console.log('alive');
      })();`;
    expect(runScript(script, '--expose-gc')).toMatchObject({ status: 0, stdout: 'alive\n' });
  });
});
