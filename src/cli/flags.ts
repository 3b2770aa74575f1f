import { parseArgs } from 'node:util';

/** What a person typed wrong: exit status 2, and a message that names it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A flag with a value, or a switch without. */
export interface Flag<T> {
  kind: 'value' | 'switch';
  short?: string;
  /** How its value is called in the help. */
  placeholder: string;
  help: string;
  parse: (text: string) => T;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;

export type FlagValues<F extends Flags> = { [K in keyof F]?: F[K] extends Flag<infer T> ? T : never };

interface FlagOptions {
  short?: string;
  placeholder?: string;
}

export function text(help: string, options: FlagOptions = {}): Flag<string> {
  return { kind: 'value', placeholder: 'TEXT', ...options, help, parse: (value) => value };
}

/** An integer of [min, max]; without a maximum, any that a double holds exactly. */
export function integer(help: string, [min, max]: readonly [number, number?], options: FlagOptions = {}): Flag<number> {
  const limit = max ?? Number.MAX_SAFE_INTEGER;
  const range = max === undefined ? `of ${min} or more` : `from ${min} to ${max}`;
  return { kind: 'value', placeholder: 'N', ...options, help, parse: (value) => within(/^\d+$/.test(value) ? Number(value) : NaN, min, limit, `an integer ${range}`) };
}

export function decimal(help: string, [min, max]: readonly [number, number], options: FlagOptions = {}): Flag<number> {
  return { kind: 'value', placeholder: 'X', ...options, help, parse: (value) => within(value.trim() === '' ? NaN : Number(value), min, max, `a number from ${min} to ${max}`) };
}

export function choice<T extends string>(help: string, values: readonly T[], options: FlagOptions = {}): Flag<T> {
  return {
    kind: 'value',
    placeholder: values.join('|'),
    ...options,
    help,
    parse: (value) => {
      const found = values.find((candidate) => candidate === value);
      if (found === undefined) throw new UsageError(`expected ${values.join(' or ')}`);
      return found;
    },
  };
}

/** An http(s) address without its last slash. */
export function url(help: string): Flag<string> {
  return {
    kind: 'value',
    placeholder: 'URL',
    help,
    parse: (value) => {
      if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol)) throw new UsageError('expected an address like http://localhost:8080');
      return value.replace(/\/+$/, '');
    },
  };
}

export function onOff(help: string, options: FlagOptions = {}): Flag<boolean> {
  return { kind: 'switch', placeholder: '', ...options, help, parse: () => true };
}

/** Flags by their specification; every problem is a `UsageError` that names the flag. */
export function parseFlags<F extends Flags>(flags: F, args: readonly string[]): { values: FlagValues<F>; positionals: string[] } {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { kind, short }]) => [name, { type: kind === 'switch' ? ('boolean' as const) : ('string' as const), ...(short === undefined ? {} : { short }) }]),
  );
  let parsed: { values: Record<string, string | boolean | undefined>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true }) as typeof parsed;
  } catch (error) {
    // Node's message names the flag; what follows its first sentence is about quoting.
    throw new UsageError((error instanceof Error ? error.message : String(error)).split('. ')[0]!);
  }
  const values = Object.fromEntries(
    Object.entries(parsed.values).filter(([, value]) => value !== undefined).map(([name, value]) => [name, convert(name, flags[name]!, String(value))]),
  );
  return { values: values as FlagValues<F>, positionals: parsed.positionals };
}

/** One line per flag, aligned. */
export function describeFlags(flags: Flags): string {
  const names = Object.entries(flags).map(([name, { short, placeholder }]) => `${short === undefined ? '    ' : `-${short}, `}--${name}${placeholder === '' ? '' : ` ${placeholder}`}`);
  const width = Math.max(...names.map((name) => name.length));
  return Object.values(flags).map(({ help }, i) => `  ${names[i]!.padEnd(width)}  ${help}`).join('\n');
}

function convert(name: string, flag: Flag<unknown>, value: string): unknown {
  try {
    return flag.parse(value);
  } catch (error) {
    throw new UsageError(`--${name}: ${error instanceof Error ? error.message : String(error)}, received ${JSON.stringify(value)}`);
  }
}

function within(value: number, min: number, max: number, expected: string): number {
  if (!(value >= min && value <= max)) throw new UsageError(`expected ${expected}`);
  return value;
}
