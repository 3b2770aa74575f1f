import { Ajv, type ValidateFunction } from 'ajv';
import { ServerError } from '../../errors.js';
import { fromValidation } from '../validation-error.js';
import { withoutNulls } from '../without-nulls.js';
import { CLIENT_FRAMES, type ClientFrame, type ClientFrameType } from './frames.js';

/** As strict as the routes: no coercion, nothing dropped, nothing filled in. */
const ajv = new Ajv({ coerceTypes: false, removeAdditional: false, useDefaults: false, strict: false });

const validators: Readonly<Record<ClientFrameType, ValidateFunction>> = Object.fromEntries(
  Object.entries(CLIENT_FRAMES).map(([type, schema]) => [type, ajv.compile(schema)]),
) as Record<ClientFrameType, ValidateFunction>;

/** What a frame was about, as far as it could be read: so that its error names it. */
export interface FrameSubject {
  id?: string;
  job?: string;
}

export type ParsedFrame = { frame: ClientFrame } | { error: ServerError; subject: FrameSubject };

/** One text frame, checked whole. Never throws: a bad frame costs its socket an answer and nothing else. */
export function parseFrame(text: string): ParsedFrame {
  const value = parseJson(text);
  if (value instanceof ServerError) return { error: value, subject: {} };
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { error: new ServerError('invalid_value', 'A frame must be a JSON object.'), subject: {} };
  }
  const frame = withoutNulls(value) as Record<string, unknown>;
  if ('request' in frame) frame['request'] = withoutNulls(frame['request']);
  const subject = subjectOf(frame);
  const { t: type } = frame;
  if (typeof type !== 'string') return { error: new ServerError('missing_required_parameter', "Missing required parameter: 't'.", { param: 't' }), subject };
  if (!Object.hasOwn(CLIENT_FRAMES, type)) {
    const known = Object.keys(CLIENT_FRAMES).join(', ');
    return { error: new ServerError('invalid_value', `Unknown frame type. Known: ${known}.`, { param: 't' }), subject };
  }
  const validate = validators[type as ClientFrameType];
  if (!validate(frame)) return { error: fromValidation(validate.errors?.[0], 'frame'), subject };
  return { frame: frame as ClientFrame };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return new ServerError('invalid_json', 'The frame is not valid JSON.');
  }
}

const MAX_NAME = 128;

function subjectOf({ id, job }: Record<string, unknown>): FrameSubject {
  const usable = (name: unknown): name is string => typeof name === 'string' && name !== '' && name.length <= MAX_NAME;
  return { ...(usable(id) ? { id } : {}), ...(usable(job) ? { job } : {}) };
}
