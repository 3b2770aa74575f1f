/**
 * A reader of the pickles that `torch.save` writes, which never executes them: the stack machine below knows the
 * opcodes of plain data, and the only callables it accepts are the handful that rebuild tensors. The one class it
 * may instantiate is passed over. Everything else that a pickle could name is refused with its name.
 */
import { InvalidCheckpoint } from './invalid-checkpoint.js';

/** Reference to a storage entry of the archive: the persistent id ('storage', type, key, location, numel). */
export interface StorageRef {
  kind: 'storage';
  /** safetensors dtype of the elements. */
  dtype: string;
  key: string;
  elements: number;
}

/** A strided view into a storage, all numbers in elements; not yet checked against the storage's size. */
export interface TensorRef {
  kind: 'tensor';
  storage: StorageRef;
  offset: number;
  shape: number[];
  strides: number[];
}

interface Callable {
  kind: 'callable';
  name: string;
}

/** An object whose content nobody here needs: it is passed over, never built. */
interface Ignored {
  kind: 'ignored';
}

const MARK = Symbol('mark');

export type PickleValue = null | boolean | number | string | PickleValue[] | Map<PickleValue, PickleValue> | StorageRef | TensorRef | Callable | Ignored;

type StackItem = PickleValue | typeof MARK;

const STORAGE_DTYPES: Readonly<Record<string, string>> = {
  'torch FloatStorage': 'F32',
  'torch DoubleStorage': 'F64',
  'torch HalfStorage': 'F16',
  'torch BFloat16Storage': 'BF16',
  'torch LongStorage': 'I64',
  'torch IntStorage': 'I32',
  'torch ShortStorage': 'I16',
  'torch CharStorage': 'I8',
  'torch ByteStorage': 'U8',
  'torch BoolStorage': 'BOOL',
};

const CALLABLES = new Set(['collections OrderedDict', 'torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter', ...Object.keys(STORAGE_DTYPES)]);

/** A training run's command line, as checkpoints carry it (docs/transdiff.md 3.4). */
const IGNORED_CLASSES = new Set(['argparse Namespace']);

const MAX_OPCODES = 20_000_000;

function isObject<K extends string>(value: StackItem | undefined, kind: K): value is Extract<PickleValue, { kind: K }> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map) && value.kind === kind;
}

class Reader {
  #at = 0;
  constructor(private readonly bytes: Buffer) {}

  #take(count: number): number {
    const at = this.#at;
    if (!(count >= 0) || at + count > this.bytes.length) throw new InvalidCheckpoint(`pickle ends at byte ${this.bytes.length}, in the middle of a value`);
    this.#at += count;
    return at;
  }
  u8(): number {
    return this.bytes.readUInt8(this.#take(1));
  }
  u16(): number {
    return this.bytes.readUInt16LE(this.#take(2));
  }
  i32(): number {
    return this.bytes.readInt32LE(this.#take(4));
  }
  u32(): number {
    return this.bytes.readUInt32LE(this.#take(4));
  }
  u64(): number {
    const value = this.bytes.readBigUInt64LE(this.#take(8));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new InvalidCheckpoint('pickle holds a length beyond 2^53');
    return Number(value);
  }
  f64(): number {
    return this.bytes.readDoubleBE(this.#take(8));
  }
  text(length: number): string {
    const at = this.#take(length);
    return this.bytes.toString('utf8', at, at + length);
  }
  /** Little-endian two's complement of any width. */
  long(length: number): number {
    if (length > 8) throw new InvalidCheckpoint(`pickle holds an integer of ${length} bytes`);
    const at = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; --i) value = (value << 8n) | BigInt(this.bytes.readUInt8(at + i));
    if (length > 0 && this.bytes.readUInt8(at + length - 1) & 0x80) value -= 1n << BigInt(8 * length);
    return Number(value);
  }
  line(): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw new InvalidCheckpoint('pickle ends in the middle of a line');
    const text = this.bytes.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }
  get position(): number {
    return this.#at;
  }
}

class Machine {
  readonly #stack: StackItem[] = [];
  readonly #memo = new Map<number, PickleValue>();
  readonly #reader: Reader;

  constructor(bytes: Buffer) {
    this.#reader = new Reader(bytes);
  }

  run(): PickleValue {
    for (let count = 0; count < MAX_OPCODES; ++count) {
      const opcode = this.#reader.u8();
      if (opcode === 0x2e) return this.#pop(); // STOP
      this.#execute(opcode);
    }
    throw new InvalidCheckpoint(`pickle has more than ${MAX_OPCODES} opcodes`);
  }

  #execute(opcode: number): void {
    const reader = this.#reader;
    switch (opcode) {
      case 0x80: // PROTO
        return void reader.u8();
      case 0x95: // FRAME
        return void reader.u64();
      case 0x28: // MARK
        return void this.#stack.push(MARK);
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4b: // BININT1
        return this.#push(reader.u8());
      case 0x4d: // BININT2
        return this.#push(reader.u16());
      case 0x4a: // BININT
        return this.#push(reader.i32());
      case 0x8a: // LONG1
        return this.#push(reader.long(reader.u8()));
      case 0x47: // BINFLOAT
        return this.#push(reader.f64());
      case 0x58: // BINUNICODE
        return this.#push(reader.text(reader.u32()));
      case 0x8c: // SHORT_BINUNICODE
        return this.#push(reader.text(reader.u8()));
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
        return this.#push([]);
      case 0x7d: // EMPTY_DICT
        return this.#push(new Map());
      case 0x85: // TUPLE1
        return this.#push(this.#popMany(1));
      case 0x86: // TUPLE2
        return this.#push(this.#popMany(2));
      case 0x87: // TUPLE3
        return this.#push(this.#popMany(3));
      case 0x74: // TUPLE
        return this.#push(this.#popToMark());
      case 0x61: // APPEND
        return this.#append([this.#pop()]);
      case 0x65: // APPENDS
        return this.#append(this.#popToMark());
      case 0x73: // SETITEM
        return this.#setItems(this.#popMany(2));
      case 0x75: // SETITEMS
        return this.#setItems(this.#popToMark());
      case 0x71: // BINPUT
        return this.#remember(reader.u8());
      case 0x72: // LONG_BINPUT
        return this.#remember(reader.u32());
      case 0x94: // MEMOIZE
        return this.#remember(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(reader.u8());
      case 0x6a: // LONG_BINGET
        return this.#recall(reader.u32());
      case 0x63: // GLOBAL
        return this.#global(reader.line(), reader.line());
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        return this.#global(String(module), String(name));
      }
      case 0x51: // BINPERSID
        return this.#push(toStorage(this.#pop()));
      case 0x52: {
        // REDUCE
        const [callable, args] = this.#popMany(2);
        return this.#push(call(callable, args));
      }
      case 0x81: {
        // NEWOBJ
        const [type, args] = this.#popMany(2);
        return this.#push(newObject(type, args));
      }
      case 0x62: {
        // BUILD: attributes of an OrderedDict (torch's version metadata) or of an ignored object; data of no interest
        this.#pop();
        const target = this.#stack.at(-1);
        if (!(target instanceof Map) && !isObject(target, 'ignored')) throw new InvalidCheckpoint('pickle sets the state of an object');
        return;
      }
      default:
        throw new InvalidCheckpoint(`pickle opcode 0x${opcode.toString(16)} at byte ${this.#reader.position - 1} is not allowed`);
    }
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }
  #pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw new InvalidCheckpoint('pickle pops from an empty stack');
    return value as PickleValue;
  }
  #popMany(count: number): PickleValue[] {
    const values: PickleValue[] = [];
    for (let i = 0; i < count; ++i) values.unshift(this.#pop());
    return values;
  }
  #popToMark(): PickleValue[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at < 0) throw new InvalidCheckpoint('pickle misses a mark');
    const values = this.#stack.splice(at + 1) as PickleValue[];
    this.#stack.pop();
    return values;
  }
  #append(values: PickleValue[]): void {
    const list = this.#stack.at(-1);
    if (!Array.isArray(list)) throw new InvalidCheckpoint('pickle appends to something that is no list');
    for (const value of values) list.push(value);
  }
  #setItems(values: PickleValue[]): void {
    const map = this.#stack.at(-1);
    if (!(map instanceof Map) || values.length % 2 !== 0) throw new InvalidCheckpoint('pickle sets items of something that is no dict');
    for (let i = 0; i < values.length; i += 2) map.set(values[i] ?? null, values[i + 1] ?? null);
  }
  #remember(index: number): void {
    const top = this.#stack.at(-1);
    if (top === undefined || top === MARK) throw new InvalidCheckpoint('pickle remembers nothing');
    this.#memo.set(index, top as PickleValue);
  }
  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new InvalidCheckpoint(`pickle recalls entry ${index}, which was never stored`);
    this.#push(value);
  }
  #global(module: string, name: string): void {
    const full = `${module} ${name}`;
    if (!CALLABLES.has(full) && !IGNORED_CLASSES.has(full)) throw new InvalidCheckpoint(`pickle names ${module}.${name}, which is not a tensor; such files are refused`);
    this.#push({ kind: 'callable', name: full });
  }
}

function toStorage(id: PickleValue): StorageRef {
  const [tag, type, key, , elements] = Array.isArray(id) ? id : [];
  const dtype = isObject(type, 'callable') ? STORAGE_DTYPES[type.name] : undefined;
  if (tag !== 'storage' || dtype === undefined || typeof key !== 'string' || !isCount(elements)) {
    throw new InvalidCheckpoint('pickle refers to a storage in an unknown way');
  }
  return { kind: 'storage', dtype, key, elements };
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isCounts(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

function call(callable: PickleValue | undefined, args: PickleValue | undefined): PickleValue {
  if (!isObject(callable, 'callable') || !Array.isArray(args)) throw new InvalidCheckpoint('pickle calls something that is not callable');
  switch (callable.name) {
    case 'collections OrderedDict':
      return new Map();
    case 'torch._utils _rebuild_tensor_v2': {
      const [storage, offset, shape, strides] = args;
      if (!isObject(storage, 'storage') || !isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length) {
        throw new InvalidCheckpoint('pickle rebuilds a tensor in an unknown way');
      }
      return { kind: 'tensor', storage, offset, shape, strides };
    }
    case 'torch._utils _rebuild_parameter': {
      const [tensor] = args;
      if (!isObject(tensor, 'tensor')) throw new InvalidCheckpoint('pickle rebuilds a parameter without a tensor');
      return tensor;
    }
    default:
      throw new InvalidCheckpoint(`pickle calls ${callable.name.replace(' ', '.')}`);
  }
}

/** `type.__new__(type)` of a class that is passed over. Calling one (REDUCE) stays refused, as it could take arguments. */
function newObject(type: PickleValue | undefined, args: PickleValue | undefined): Ignored {
  if (!isObject(type, 'callable') || !IGNORED_CLASSES.has(type.name) || !Array.isArray(args) || args.length > 0) {
    throw new InvalidCheckpoint(`pickle instantiates ${isObject(type, 'callable') ? type.name.replace(' ', '.') : 'something that is no class'}`);
  }
  return { kind: 'ignored' };
}

/** The value a pickle describes. Throws InvalidCheckpoint for anything but plain data and tensors. */
export function readPickle(bytes: Buffer): PickleValue {
  return new Machine(bytes).run();
}
