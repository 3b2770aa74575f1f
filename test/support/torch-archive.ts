/** Builds what `torch.save` would write, or what somebody could write in its place: a zip archive around any pickle. */
import { crc32 } from 'node:zlib';

/** Opcodes by name, with their arguments; enough to write good pickles and bad ones by hand. */
export const op = {
  proto: Buffer.from([0x80, 2]),
  mark: Buffer.from('('),
  none: Buffer.from('N'),
  dict: Buffer.from('}'),
  tuple: Buffer.from('t'),
  emptyTuple: Buffer.from(')'),
  setItem: Buffer.from('s'),
  persId: Buffer.from('Q'),
  reduce: Buffer.from('R'),
  newObject: Buffer.from([0x81]),
  build: Buffer.from('b'),
  stackGlobal: Buffer.from([0x93]),
  stop: Buffer.from('.'),
  global: (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`),
  text: (value: string): Buffer => {
    const bytes = Buffer.from(value);
    const head = Buffer.alloc(5, 'X');
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  },
  int: (value: number): Buffer => {
    const bytes = Buffer.alloc(5, 'J');
    bytes.writeInt32LE(value, 1);
    return bytes;
  },
};

export function pickle(...parts: Buffer[]): Buffer {
  return Buffer.concat([op.proto, ...parts, op.stop]);
}

export function dict(...entries: [string, Buffer][]): Buffer {
  return Buffer.concat([op.dict, ...entries.flatMap(([key, value]) => [op.text(key), value, op.setItem])]);
}

/** A tensor over the storage `data/<key>` of the archive. */
export function tensor(key: string, shape: readonly number[], { strides, offset = 0, elements = shape.reduce((a, b) => a * b, 1), type = 'FloatStorage' }: TensorOptions = {}): Buffer {
  const tuple = (values: readonly number[]): Buffer => Buffer.concat([op.mark, ...values.map((value) => op.int(value)), op.tuple]);
  const contiguous = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const storage = Buffer.concat([op.mark, op.text('storage'), op.global('torch', type), op.text(key), op.text('cpu'), op.int(elements), op.tuple, op.persId]);
  return Buffer.concat([op.global('torch._utils', '_rebuild_tensor_v2'), op.mark, storage, op.int(offset), tuple(shape), tuple(strides ?? contiguous), op.tuple, op.reduce]);
}

interface TensorOptions {
  strides?: readonly number[];
  offset?: number;
  elements?: number;
  type?: string;
}

/** The archive with its entries stored, as PyTorch stores them. */
export function archive(dataPkl: Buffer, storages: Readonly<Record<string, Buffer>> = {}): Buffer {
  const entries = [['data.pkl', dataPkl] as const, ...Object.entries(storages).map(([key, bytes]) => [`data/${key}`, bytes] as const)];
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const path = Buffer.from(`checkpoint/${name}`);
    // Version, flags, method, time, date; then checksum, two sizes, lengths of name and extra field.
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(bytes.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(path.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, path, bytes]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\0', 'latin1'), common, tail, path);
    files.push(local);
    at += local.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...files, listing, end]);
}
