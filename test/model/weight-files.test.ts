import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { weightFileBytes } from '../../src/model/weight-files.js';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ardiff-weights-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('weightFileBytes', () => {
  it('sums shards, autoencoder and accelerator, and nothing else', () => {
    expect(weightFileBytes(directory)).toBe(0);
    for (const folder of ['vae', 'accelerator', 'quality']) mkdirSync(join(directory, folder));
    const files = { 'model-00001-of-00002.safetensors': 10, 'model-00002-of-00002.safetensors': 20, 'config.json': 5, 'vae/model.safetensors': 100, 'accelerator/draft.safetensors': 1000, 'quality/net.safetensors': 7 };
    for (const [name, size] of Object.entries(files)) writeFileSync(join(directory, name), Buffer.alloc(size));
    expect(weightFileBytes(directory)).toBe(1130);
  });
});
