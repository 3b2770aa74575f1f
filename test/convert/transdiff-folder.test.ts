import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertTransDiff } from '../../src/convert/transdiff-folder.js';
import { readSafetensorsHeader } from '../support/safetensors-header.js';
import { runCli } from '../support/terminal.js';
import { archive, dict, op, pickle, tensor } from '../support/torch-archive.js';

/** By fixtures/make_transdiff.py, with torch.save. */
const fixture = (name: string): string => join(import.meta.dirname, 'fixtures', name);
const MODEL = fixture('transdiff.pth');
const VAE = fixture('transdiff-vae.pth');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ardiff-transdiff-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('convertTransDiff', () => {
  it('reads the whole configuration off the shapes', async () => {
    const { config } = await convertTransDiff({ model: MODEL, vae: VAE, heads: 2 }, folder);
    expect(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))).toEqual(config);
    expect(config).toEqual({
      architecture: 'transdiff-mrar',
      image_size: 8,
      width: 4,
      num_heads: 2,
      transformer_blocks: 1,
      diffusion_blocks: 1,
      num_classes: 3,
      buffer_size: 2,
      ar_steps: 2,
      vae_channels: 4,
      vae_ch: 2,
      vae_ch_mult: [1, 2],
      vae_num_res_blocks: 1,
      vae_scale: 0.2325,
      sampling: { steps: 100, cfg: 1, scale_0: 1, scale_1: 1 },
      bf16_rounding_before_time_proj: true,
    });
  });

  it('writes the averaged weights in the dtype they are stored in, and of the VAE only what is the VAE', async () => {
    const { model, vae } = await convertTransDiff({ model: MODEL, vae: VAE, heads: 2 }, folder);
    // 9 + 12 + 2 + 14 + 23 tensors.
    expect(model.tensors).toBe(60);
    const weights = readSafetensorsHeader(join(folder, 'model.safetensors'));
    // The second tensor of the average holds 1 everywhere, the third 2; of the raw weights all hold 1.
    expect(weights.entries['mask_token']).toMatchObject({ dtype: 'BF16', shape: [1, 4, 4] });
    expect(new Set(weights.data('mask_token').toString('hex').match(/.{4}/g))).toEqual(new Set(['0040']));
    expect(vae.tensors).toBe(70);
    expect(Object.keys(readSafetensorsHeader(join(folder, 'vae', 'model.safetensors')).entries)).not.toContain('loss.logvar');
  });

  it('names no classes that it does not know', async () => {
    expect((await convertTransDiff({ model: MODEL, vae: VAE, heads: 2 }, folder)).named).toBe(false);
    expect(existsSync(join(folder, 'classes.json'))).toBe(false);
  });

  it('asks for the heads where no published model has this width', async () => {
    await expect(convertTransDiff({ model: MODEL, vae: VAE }, folder)).rejects.toThrow(/heads cannot be read off the weights, and width 4.*--num-heads/);
    await expect(convertTransDiff({ model: MODEL, vae: VAE, heads: 3 }, folder)).rejects.toThrow(/no multiple of 3 heads/);
    expect(existsSync(join(folder, 'config.json'))).toBe(false);
  });

  it('says which file is not what it should be, and writes nothing', async () => {
    await expect(convertTransDiff({ model: VAE, vae: VAE, heads: 2 }, folder)).rejects.toThrow(/transdiff-vae\.pth: is no TransDiff model/);
    await expect(convertTransDiff({ model: MODEL, vae: MODEL, heads: 2 }, folder)).rejects.toThrow(/transdiff\.pth: has no tensor post_quant_conv\.weight/);
    expect(existsSync(join(folder, 'model.safetensors'))).toBe(false);
  });
});

describe('a released checkpoint that somebody prepared', () => {
  it.each(['model', 'vae'] as const)('is refused as the %s without running what it names, and no model is written', async (part) => {
    const hostile = join(folder, 'hostile.pth');
    const owned = join(folder, 'owned');
    // The call hides where training leaves its options, beside honest names.
    const call = Buffer.concat([op.global('posix', 'system'), op.mark, op.text(`touch ${owned}`), op.tuple, op.reduce]);
    writeFileSync(hostile, archive(pickle(dict(['model', dict(['class_emb.weight', tensor('0', [2, 2])])], ['args', call])), { 0: Buffer.alloc(16) }));
    await expect(convertTransDiff({ model: MODEL, vae: VAE, heads: 2, [part]: hostile }, join(folder, 'out'))).rejects.toThrow(/names posix\.system/);
    expect(existsSync(owned)).toBe(false);
    expect(existsSync(join(folder, 'out', 'model.safetensors'))).toBe(false);
  });
});

describe('fast-ardiff convert', () => {
  it('finds model and VAE where the released repository has them', async () => {
    for (const [name, from] of [['transdiff_x', MODEL], ['vae', VAE]] as const) {
      mkdirSync(join(folder, name));
      copyFileSync(from, join(folder, name, 'checkpoint-last.pth'));
    }
    const asked = await runCli(['convert', join(folder, 'transdiff_x')]);
    expect(asked.status).toBe(1);
    expect(asked.err).toContain('--num-heads');
    const { status, out } = await runCli(['convert', join(folder, 'transdiff_x'), '--to', join(folder, 'out'), '--num-heads', '2']);
    expect(status).toBe(0);
    expect(out).toContain('transdiff-mrar, 8x8, 3 classes');
    expect(existsSync(join(folder, 'out', 'vae', 'model.safetensors'))).toBe(true);
  });

  it('says where it looked for the VAE', async () => {
    copyFileSync(MODEL, join(folder, 'checkpoint-last.pth'));
    const { status, err } = await runCli(['convert', folder, '--num-heads', '2']);
    expect(status).toBe(2);
    expect(err).toContain(join(folder, 'vae', 'checkpoint-last.pth'));
  });

  it('refuses flags that mean nothing for a file', async () => {
    expect(await runCli(['convert', MODEL, '--num-heads', '2'])).toMatchObject({ status: 2 });
  });
});
