import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InvalidModelFile, readJsonFile, readObject } from './json-file.js';

/** What a model is recognised by, so that nothing that was measured on one is used for another. */
export interface ModelHash {
  /** SHA-256 over names and digests of `files`. */
  hash: string;
  /** Path in the folder → SHA-256 of what is looked at of it. */
  files: Readonly<Record<string, string>>;
}

/** Of a tensor its beginning and its end are looked at: a retrained model differs there, and 30 GB need not be read. */
const EDGE_BYTES = 4096;

/** A header larger than that is not read; the format's own limit. */
const MAX_HEADER_BYTES = 100_000_000;

/**
 * config.json whole; of every weight file its header, and of every tensor the first and the last 4 KiB. Decoder weights
 * count as well: quality was measured on pictures.
 */
export function hashModel(directory: string): ModelHash {
  const configPath = join(directory, 'config.json');
  const config = readObject(configPath, readJsonFile(configPath));
  const vae = typeof config['vae_name_or_path'] === 'string' ? config['vae_name_or_path'].replace(/\/+$/, '') : 'vae';
  const files: Record<string, string> = { 'config.json': sha256(readFileSync(configPath)) };
  for (const name of [...weightFiles(directory, 'model'), ...weightFiles(join(directory, vae), 'model').map((file) => `${vae}/${file}`)]) {
    files[name] = hashTensors(join(directory, name));
  }
  const lines = Object.keys(files).sort().map((name) => `${name} ${files[name]!}\n`);
  return { hash: sha256(Buffer.from(lines.join(''))), files };
}

/** SHA-256 of a whole file, of an accelerator's weights: small beside the model's. */
export function hashFile(path: string): string {
  const file = openFile(path);
  try {
    const digest = createHash('sha256');
    const CHUNK_BYTES = 1 << 20;
    const { size } = fstatSync(file);
    for (let at = 0; at < size; at += CHUNK_BYTES) digest.update(readAt(file, path, at, Math.min(CHUNK_BYTES, size - at)));
    return digest.digest('hex');
  } finally {
    closeSync(file);
  }
}

/** Names of the files in which two models differ, or which only one of them has. */
export function differingFiles(a: ModelHash['files'], b: ModelHash['files']): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name]).sort();
}

/** One file, or the shards that its index lists; none where the folder has neither (an unconverted decoder). */
function weightFiles(directory: string, stem: string): string[] {
  const single = `${stem}.safetensors`;
  const indexPath = join(directory, `${single}.index.json`);
  const index = readJsonFile(indexPath);
  if (index === undefined) return existsSync(join(directory, single)) ? [single] : [];
  const shards = Object.values(readObject(indexPath, readObject(indexPath, index)['weight_map']));
  const names = shards.filter((name) => typeof name === 'string');
  if (names.length < shards.length || names.some((name) => name !== basename(name))) throw new InvalidModelFile(indexPath, '"weight_map" must name files of its folder');
  return [...new Set(names)].sort();
}

function hashTensors(path: string): string {
  const file = openFile(path);
  try {
    const { size } = fstatSync(file);
    const headerBytes = size < 8 ? Infinity : Number(readAt(file, path, 0, 8).readBigUInt64LE());
    if (headerBytes > MAX_HEADER_BYTES || headerBytes + 8 > size) throw new InvalidModelFile(path, 'is no safetensors file');
    const header = readAt(file, path, 0, 8 + headerBytes);
    const digest = createHash('sha256').update(header);
    const data = 8 + headerBytes;
    for (const [begin, end] of tensorRanges(path, header.toString('utf8', 8))) {
      if (data + end > size) throw new InvalidModelFile(path, 'is cut off: a tensor ends behind the end of the file');
      const edge = Math.min(EDGE_BYTES, end - begin);
      digest.update(readAt(file, path, data + begin, edge)).update(readAt(file, path, data + end - edge, edge));
    }
    return digest.digest('hex');
  } finally {
    closeSync(file);
  }
}

/** [begin, end) of every tensor in the data, by the order of the names. */
function tensorRanges(path: string, json: string): [number, number][] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new InvalidModelFile(path, 'has a header that is not JSON');
  }
  const tensors = Object.entries(readObject(path, parsed)).filter(([name]) => name !== '__metadata__');
  return tensors
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, entry]) => {
      const offsets: unknown = readObject(path, entry)['data_offsets'];
      const [begin, end] = Array.isArray(offsets) ? (offsets as unknown[]) : [];
      if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end) || (begin as number) < 0 || (end as number) < (begin as number)) {
        throw new InvalidModelFile(path, `tensor '${name}' has no valid offsets`);
      }
      return [begin as number, end as number];
    });
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new InvalidModelFile(path, `cannot be read: ${String(error)}`);
  }
}

function readAt(file: number, path: string, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const count = readSync(file, bytes, done, length - done, position + done);
    if (count === 0) throw new InvalidModelFile(path, 'became shorter while it was read');
    done += count;
  }
  return bytes;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
