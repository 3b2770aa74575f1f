import { describe, expect, it } from 'vitest';
import { choice, decimal, describeFlags, integer, onOff, parseFlags, text, url, UsageError } from '../../src/cli/flags.js';

const FLAGS = {
  out: text('file', { short: 'o', placeholder: 'FILE' }),
  n: integer('count', [1, 10]),
  seed: integer('seed', [0]),
  guidance: decimal('scale', [1, 30]),
  format: choice('format', ['png', 'webp']),
  url: url('server'),
  quiet: onOff('silence', { short: 'q' }),
};

const parse = (...args: string[]) => parseFlags(FLAGS, args);

describe('flags', () => {
  it('reads each kind, long and short, with = and without', () => {
    const { values, positionals } = parse('a prompt', '-o', 'x.png', '--n=3', '--seed', '9007199254740991', '--guidance', '2.5', '--format', 'webp', '--url', 'http://localhost:80/', '-q');
    expect(values).toEqual({ out: 'x.png', n: 3, seed: Number.MAX_SAFE_INTEGER, guidance: 2.5, format: 'webp', url: 'http://localhost:80', quiet: true });
    expect(positionals).toEqual(['a prompt']);
  });

  it('leaves out what was not given, and takes everything after -- as it is', () => {
    expect(parse('--', '--n')).toEqual({ values: {}, positionals: ['--n'] });
  });

  it.each([
    [['--n', '0'], '--n: expected an integer from 1 to 10, received "0"'],
    [['--n', '1.5'], '--n: expected an integer from 1 to 10, received "1.5"'],
    [['--n', ''], '--n: expected an integer from 1 to 10, received ""'],
    [['--seed', '9007199254740992'], '--seed: expected an integer of 0 or more, received "9007199254740992"'],
    [['--guidance', 'much'], '--guidance: expected a number from 1 to 30, received "much"'],
    [['--guidance', ' '], '--guidance: expected a number from 1 to 30, received " "'],
    [['--format', 'gif'], '--format: expected png or webp, received "gif"'],
    [['--url', 'localhost:8080'], '--url: expected an address like http://localhost:8080, received "localhost:8080"'],
    [['--url', 'file:///etc/passwd'], '--url: expected an address'],
    [['--nothing'], "Unknown option '--nothing'"],
    [['--out'], "Option '-o, --out <value>' argument missing"],
    [['--quiet=yes'], "Option '-q, --quiet' does not take an argument"],
  ])('refuses %j by name', (args, message) => {
    expect(() => parse(...args)).toThrow(UsageError);
    expect(() => parse(...args)).toThrow(message);
  });

  it('lists itself, aligned', () => {
    const lines = describeFlags(FLAGS).split('\n');
    expect(lines[0]).toBe('  -o, --out FILE         file');
    expect(lines.at(-1)).toBe('  -q, --quiet            silence');
    expect(lines).toHaveLength(Object.keys(FLAGS).length);
  });
});
