import { describe, expect, it } from 'vitest';
import { readPickle } from '../../src/convert/pickle.js';
import { findStateDict } from '../../src/convert/state-dict.js';
import { dict, op, pickle, tensor } from '../support/torch-archive.js';

/** Names of the tensors that are found. */
const found = (content: Buffer): string[] => [...findStateDict(readPickle(pickle(content))).keys()];

const weights = (name: string): Buffer => dict([name, tensor('0', [1])]);
const namespace = Buffer.concat([op.global('argparse', 'Namespace'), op.emptyTuple, op.newObject, dict(['lr', op.int(1)], ['resume', op.none]), op.build]);

describe('findStateDict', () => {
  it('takes the averaged weights where there are any', () => {
    expect(found(dict(['model', weights('raw')], ['model_ema', weights('ema')], ['args', namespace], ['epoch', op.int(3)]))).toEqual(['ema']);
  });

  it.each([
    ['empty', dict(['model', weights('raw')], ['model_ema', dict()])],
    ['None', dict(['model', weights('raw')], ['model_ema', op.none])],
    ['absent', dict(['model', weights('raw')], ['args', namespace])],
  ])('takes `model` where `model_ema` is %s', (_name, content) => {
    expect(found(content)).toEqual(['raw']);
  });

  it('reads bare dicts and other wrappers', () => {
    expect(found(weights('w'))).toEqual(['w']);
    expect(found(dict(['state_dict', weights('w')]))).toEqual(['w']);
    // A counter that is a tensor must not be taken for the weights beside it.
    expect(found(dict(['model', weights('w')], ['step', tensor('1', [])]))).toEqual(['w']);
  });

  it.each([
    ['`model_ema` is something else', dict(['model', weights('raw')], ['model_ema', op.int(1)]), /"model_ema" is no dict/],
    ['`model_ema` holds no tensors', dict(['model', weights('raw')], ['model_ema', dict(['shadow', weights('ema')])]), /"model_ema" holds no tensors/],
    ['there are no tensors', dict(['args', namespace]), /no tensors in the pickle/],
    ['it is no dict', op.int(1), /no dict/],
  ])('refuses a checkpoint where %s', (_name, content, message) => {
    expect(() => found(content)).toThrow(message);
  });
});
