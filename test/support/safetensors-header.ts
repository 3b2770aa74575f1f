import { readFileSync } from 'node:fs';

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** A safetensors file as its bytes say, read without the code under test. */
export function readSafetensorsHeader(path: string): { entries: Record<string, Entry>; data: (name: string) => Buffer } {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const entries = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<string, Entry>;
  return {
    entries,
    data: (name) => {
      const entry = entries[name];
      if (entry === undefined) throw new Error(`no ${name}`);
      return file.subarray(8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1]);
    },
  };
}
