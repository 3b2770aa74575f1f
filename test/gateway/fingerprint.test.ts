import { describe, expect, it } from 'vitest';
import { fingerprintOf, scopeOf } from '../../src/gateway/fingerprint.js';

const scope = scopeOf('Bearer a');

describe('fingerprintOf', () => {
  it('sees neither the order of keys nor how they were written', () => {
    expect(fingerprintOf(scope, JSON.parse('{"a":1.0,"b":{"c":[1,2],"d":"\\u0041"}}'))).toBe(fingerprintOf(scope, { b: { d: 'A', c: [1, 2] }, a: 1 }));
  });

  it('sees every difference in values, and the caller', () => {
    const bodies = [{ a: 1 }, { a: '1' }, { a: [1] }, { a: { 0: 1 } }, { b: 1 }, {}, { a: null }, { a: 1, b: 2 }, { 'a":1,"b': 2 }];
    const prints = [...bodies.map((body) => fingerprintOf(scope, body)), fingerprintOf(scopeOf(undefined), { a: 1 }), fingerprintOf(scopeOf('Bearer b'), { a: 1 })];
    expect(new Set(prints).size).toBe(prints.length);
  });

  it('keeps no credentials', () => {
    expect(scopeOf('Bearer secret')).not.toContain('secret');
  });

  it('refuses bodies that are deeper than any meaning', () => {
    let deep: object = {};
    for (let i = 0; i < 100_000; i += 1) deep = [deep];
    expect(() => fingerprintOf(scope, deep)).toThrow(expect.objectContaining({ code: 'invalid_json' }));
  });
});
