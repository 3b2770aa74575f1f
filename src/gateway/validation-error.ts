import { ServerError } from '../errors.js';

/** What the validator found first, as Ajv says it. */
export interface ValidationProblem {
  keyword: string;
  instancePath: string;
  params: Record<string, unknown>;
  message?: string;
}

/** The same words for a field wherever it came in: the body of a request, a frame of a socket. */
export function fromValidation(problem: ValidationProblem | undefined, whole = 'body'): ServerError {
  if (problem === undefined) return new ServerError('invalid_value', 'The request is not valid.');
  const path = problem.instancePath.slice(1).replaceAll('/', '.');
  if (problem.keyword === 'required') {
    const param = [path, String(problem.params['missingProperty'])].filter(Boolean).join('.');
    return new ServerError('missing_required_parameter', `Missing required parameter: '${param}'.`, { param });
  }
  if (path === '') return new ServerError('invalid_value', `The ${whole} must be a JSON object.`);
  const details = { param: path };
  if (problem.keyword === 'maxLength') {
    const message = `'${path}' is too long: at most ${String(problem.params['limit'])} characters are allowed.`;
    return new ServerError('string_above_max_length', message, details);
  }
  const allowed = problem.params['allowedValues'];
  const suffix = Array.isArray(allowed) ? `: ${allowed.map((value) => JSON.stringify(value)).join(', ')}` : '';
  return new ServerError('invalid_value', `Invalid value for '${path}': ${problem.message ?? 'not valid'}${suffix}.`, details);
}
