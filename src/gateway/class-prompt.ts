import type { ServerError, Suggestion } from '../errors.js';
import type { ClassResolver, Resolution } from '../model/class-resolution.js';
import type { ImageClass } from '../model/classes.js';
import type { ClassModel } from '../model/served-model.js';
import { checkText, invalid, unsupported } from './refusals.js';
import type { ImagesRequest } from './schemas.js';

/** Index of the class that the request names; what a model of classes cannot take is refused by its field. */
export function classLabelOf(body: ImagesRequest, { resolver, manifest }: ClassModel): number {
  if (body.negative_prompt !== undefined && body.negative_prompt !== '') {
    throw unsupported('negative_prompt', 'This model draws classes and takes no negative prompt; guidance is away from no class at all.');
  }
  // The law of exact speculation is that of one token after the other.
  if (body.acceleration?.mode === 'exact') {
    throw unsupported('acceleration.mode', 'This model draws whole passes, whose drafts cannot be verified exactly; use "auto", "relaxed" or "off".');
  }
  checkText('prompt', body.prompt);
  const resolution = resolver.resolve(body.prompt);
  if (resolution.kind === 'found') return resolution.class.index;
  throw refusalOf(body.prompt, resolution, resolver, manifest.id);
}

/** Of what was typed, in a message. */
const MAX_SHOWN = 80;

function refusalOf(prompt: string, resolution: Exclude<Resolution, { kind: 'found' }>, resolver: ClassResolver, model: string): ServerError {
  const shown = JSON.stringify(prompt.length > MAX_SHOWN ? `${prompt.slice(0, MAX_SHOWN)}…` : prompt);
  if (resolution.kind === 'ambiguous') {
    const choices = resolution.classes.map((entry) => `"${alone(entry)}" (${described(entry)})`).join(', ');
    return invalid('prompt', `${shown} names several classes of this model. Say which: ${choices}`, resolution.classes.map((entry) => ({ prompt: alone(entry), name: described(entry) })));
  }
  const list = `GET /v1/models/${encodeURIComponent(model)}/classes lists them`;
  if (resolution.suggestions.length === 0) return invalid('prompt', `${shown} names no class of this model, which draws classes only; ${list}`);
  const names = resolution.suggestions.map(({ name }) => JSON.stringify(name)).join(', ');
  return invalid('prompt', `${shown} names no class of this model, which draws classes only. Close to it: ${names}; ${list}`, resolution.suggestions.map((entry) => suggestion(entry, resolver)));
}

/** By its name, unless other classes are called so too. */
function suggestion(entry: ImageClass, resolver: ClassResolver): Suggestion {
  const isOnly = resolver.resolve(entry.name).kind === 'found';
  return isOnly ? { prompt: entry.name, name: entry.name } : { prompt: alone(entry), name: described(entry) };
}

/** A prompt under which this class alone is meant. */
function alone({ synset, index }: ImageClass): string {
  return synset ?? String(index);
}

/** What tells classes of one name apart for people. */
function described({ name, synonyms, group }: ImageClass): string {
  return [...new Set([name, ...synonyms]), ...(group === null ? [] : [`of ${group}`])].join(', ');
}
