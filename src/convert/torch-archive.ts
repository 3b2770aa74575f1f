/** The zip archive of `torch.save`: one `data.pkl` and one stored entry per tensor storage. */
import { promisify } from 'node:util';
import yauzl from 'yauzl';
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import { readPickle, type PickleValue, type TensorRef } from './pickle.js';

const ELEMENT_BYTES: Readonly<Record<string, number>> = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, I16: 2, I8: 1, U8: 1, BOOL: 1 };

/** A pickle is names and numbers; the released VAE's is 50 KB. */
const MAX_PICKLE_BYTES = 256 << 20;

export function elementBytes(dtype: string): number {
  const bytes = ELEMENT_BYTES[dtype];
  if (bytes === undefined) throw new InvalidCheckpoint(`unknown dtype ${dtype}`);
  return bytes;
}

export class TorchArchive {
  readonly #entries: ReadonlyMap<string, yauzl.Entry>;

  private constructor(
    private readonly zip: yauzl.ZipFile,
    entries: ReadonlyMap<string, yauzl.Entry>,
    private readonly root: string,
  ) {
    this.#entries = entries;
  }

  static async open(path: string): Promise<TorchArchive> {
    const zip = await promisify<string, yauzl.Options, yauzl.ZipFile>(yauzl.open)(path, { lazyEntries: true, autoClose: false }).catch((error: unknown) => {
      throw new InvalidCheckpoint(`${path} is not a zip archive as torch.save writes it: ${String(error)}`);
    });
    const entries = new Map<string, yauzl.Entry>();
    await new Promise<void>((resolve, reject) => {
      zip.on('entry', (entry: yauzl.Entry) => {
        entries.set(entry.fileName, entry);
        zip.readEntry();
      });
      zip.once('end', resolve);
      zip.once('error', reject);
      zip.readEntry();
    }).catch((error: unknown) => {
      zip.close();
      throw new InvalidCheckpoint(`${path}: broken archive: ${String(error)}`);
    });
    const pickle = [...entries.keys()].find((name) => name === 'data.pkl' || name.endsWith('/data.pkl'));
    if (pickle === undefined) {
      zip.close();
      throw new InvalidCheckpoint(`${path}: no data.pkl; is it a torch.save archive?`);
    }
    return new TorchArchive(zip, entries, pickle.slice(0, -'data.pkl'.length));
  }

  close(): void {
    this.zip.close();
  }

  async pickle(): Promise<PickleValue> {
    return readPickle(await this.#read('data.pkl', MAX_PICKLE_BYTES));
  }

  /** The tensor's elements in row-major order, little endian. */
  async tensorBytes(tensor: TensorRef): Promise<Buffer> {
    const width = elementBytes(tensor.storage.dtype);
    const storage = await this.#read(`data/${tensor.storage.key}`, tensor.storage.elements * width);
    return gather(storage, tensor, width);
  }

  async #read(name: string, maxBytes: number): Promise<Buffer> {
    const entry = this.#entries.get(this.root + name);
    if (entry === undefined) throw new InvalidCheckpoint(`archive has no entry ${name}`);
    // torch stores entries uncompressed; a compressed one could unpack to any size.
    if (entry.compressionMethod !== 0) throw new InvalidCheckpoint(`archive entry ${name} is compressed`);
    if (entry.uncompressedSize > maxBytes) throw new InvalidCheckpoint(`archive entry ${name} has ${entry.uncompressedSize} bytes, expected at most ${maxBytes}`);
    const stream = await promisify<yauzl.Entry, NodeJS.ReadableStream>(this.zip.openReadStream.bind(this.zip))(entry);
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }
}

/** Copies a strided view out of its storage after checking that it lies inside. */
function gather(storage: Buffer, { shape, strides, offset }: TensorRef, width: number): Buffer {
  let count = 1;
  let last = offset;
  for (const [i, size] of shape.entries()) {
    count *= size;
    last += Math.max(0, size - 1) * (strides[i] ?? 0);
    if (!Number.isSafeInteger(last) || count > storage.length) throw new InvalidCheckpoint('tensor is larger than its storage');
  }
  if (count === 0) return Buffer.alloc(0);
  if ((last + 1) * width > storage.length) throw new InvalidCheckpoint('tensor reaches beyond its storage');
  if (isContiguous(shape, strides)) return storage.subarray(offset * width, (offset + count) * width);
  const out = Buffer.alloc(count * width);
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < count; ++i) {
    const at = index.reduce((sum, position, dim) => sum + position * (strides[dim] ?? 0), offset);
    storage.copy(out, i * width, at * width, (at + 1) * width);
    for (let dim = shape.length - 1; dim >= 0; --dim) {
      const next = (index[dim] ?? 0) + 1;
      index[dim] = next < (shape[dim] ?? 0) ? next : 0;
      if (index[dim] !== 0) break;
    }
  }
  return out;
}

function isContiguous(shape: number[], strides: number[]): boolean {
  let expected = 1;
  for (let dim = shape.length - 1; dim >= 0; --dim) {
    const size = shape[dim] ?? 0;
    if (size !== 1 && strides[dim] !== expected) return false;
    expected *= size;
  }
  return true;
}
