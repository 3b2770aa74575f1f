import { ServerError, type Suggestion } from '../errors.js';

/** A value the API has and this model or server does not do: said, never ignored. */
export function unsupported(param: string, message: string): ServerError {
  return new ServerError('unsupported_value', message, { param });
}

export function invalid(param: string, problem: string, suggestions: readonly Suggestion[] = []): ServerError {
  return new ServerError('invalid_value', `${param} ${problem}.`, { param, suggestions });
}

/** What no model can make anything of. */
export function checkText(param: string, text: string): void {
  if (text.includes('\0')) throw invalid(param, 'must not contain NUL characters');
  if (!text.isWellFormed()) throw invalid(param, 'is not well-formed Unicode: it contains a lone surrogate');
  if (param === 'prompt' && text.trim() === '') throw invalid(param, 'must not be blank');
}
