import type { AccelerationMode, ImagesRequest } from '../protocol/frames.js';
import type { Model } from '../protocol/http.js';

/** What the form holds. Null: the model's own default. */
export interface Settings {
  /** Null: the server's first. Pictures remembered before there was a choice lack it. */
  model?: string | null;
  prompt: string;
  /** A style's caption suffix; empty: none. */
  style: string;
  seed: number;
  /** Keep the seed for the next drawing instead of rolling a new one. */
  isSeedLocked: boolean;
  n: number;
  size: string | null;
  guidance: number | null;
  timesteps: number | null;
  negativePrompt: string;
  /** `mode:few_step` of one that the model offers; null: the server chooses. Pictures remembered before there was a choice lack it. */
  acceleration?: string | null;
}

export const INITIAL: Settings = {
  model: null,
  prompt: '',
  style: '',
  seed: 0,
  isSeedLocked: false,
  n: 1,
  size: null,
  guidance: null,
  timesteps: null,
  negativePrompt: '',
  acceleration: null,
};

/** Seeds that a person can read out; the server takes any up to 2^53 - 1. */
export const ROLLED_SEEDS = 1_000_000;

export function rollSeed(random: () => number = Math.random): number {
  return Math.floor(random() * ROLLED_SEEDS);
}

/** The caption that is sent: as typed, with the style's suffix unless it is there already. */
export function captionOf({ prompt, style }: Pick<Settings, 'prompt' | 'style'>): string {
  const text = prompt.trim();
  return style === '' || text.endsWith(style) ? text : text + style;
}

/** The body as sent. The seed is always named, so that the picture can be had again. */
export function requestOf(settings: Settings, model: Model): ImagesRequest {
  const { seed, n, size, guidance, timesteps, negativePrompt, acceleration } = settings;
  return {
    prompt: captionOf(settings),
    model: model.id,
    n,
    seed,
    ...(size === null ? {} : { size }),
    ...(guidance === null ? {} : { guidance_scale: guidance }),
    ...(timesteps === null ? {} : { num_inference_steps: timesteps }),
    // Without guidance there is nothing to steer away from, and the server says so with a 400.
    ...(negativePrompt.trim() === '' || guidance === 1 ? {} : { negative_prompt: negativePrompt.trim() }),
    ...(acceleration == null ? {} : { acceleration: accelerationOf(acceleration) }),
  };
}

/** Ways of drawing to choose from, by their keys in settings; none where there is nothing to choose. */
export function accelerationChoices({ accelerations = [], passes }: Model): { key: string; label: string }[] {
  if (accelerations.length === 0) return [];
  const calibrated = accelerations.map(({ mode, few_step: fewStep, speedup, passed }) => ({
    key: `${mode}:${fewStep}`,
    label: `${wayInWords(mode, fewStep, passes === undefined ? 'head' : 'decoder')} · ${speedup.toFixed(1)}×${passed ? '' : ', looks worse'}`,
  }));
  return [...calibrated, { key: 'off:0', label: 'the model’s own sampler, no drafts' }];
}

function wayInWords(mode: AccelerationMode, fewStep: number, network: 'head' | 'decoder'): string {
  const drafts = mode === 'off' ? [] : [`${mode} drafts`];
  const head = fewStep === 0 ? [] : [`${fewStep}-step ${network}`];
  return [...drafts, ...head].join(', ');
}

function accelerationOf(key: string): { mode: AccelerationMode; few_step: number } {
  const [mode, fewStep] = key.split(':');
  return { mode: mode as AccelerationMode, few_step: Number(fewStep) };
}

/** Seeds of the pictures, as the server counts them: one up each, modulo 2^53. */
export function seedsOf({ seed, n }: Pick<Settings, 'seed' | 'n'>): number[] {
  return Array.from({ length: n }, (_, i) => Number((BigInt(seed) + BigInt(i)) % 2n ** 53n));
}

/** Image tokens of a picture of that size ("WIDTHxHEIGHT"). */
export function tokensOf(size: string, pixelsPerToken: number): { columns: number; rows: number; width: number; height: number } {
  const [width = 0, height = 0] = size.split('x').map(Number);
  return { columns: Math.round(width / pixelsPerToken), rows: Math.round(height / pixelsPerToken), width, height };
}

/** Everything that makes the picture, for the part of a URL that browsers keep to themselves. */
export function fragmentOf(settings: Settings): string {
  const fields = new URLSearchParams();
  fields.set('prompt', settings.prompt);
  if (settings.model != null) fields.set('model', settings.model);
  if (settings.style !== '') fields.set('style', settings.style);
  fields.set('seed', String(settings.seed));
  if (settings.n !== 1) fields.set('n', String(settings.n));
  if (settings.size !== null) fields.set('size', settings.size);
  if (settings.guidance !== null) fields.set('guidance', String(settings.guidance));
  if (settings.timesteps !== null) fields.set('timesteps', String(settings.timesteps));
  if (settings.negativePrompt !== '') fields.set('not', settings.negativePrompt);
  if (settings.acceleration != null) fields.set('way', settings.acceleration);
  return fields.toString();
}

/** The model that a link names; null: the server's first. */
export function modelOfFragment(fragment: string): string | null {
  return new URLSearchParams(fragment.replace(/^#/, '')).get('model');
}

/** A link's settings for the model that draws it; values the model does not take are left at their defaults. Null: the fragment names no prompt. */
export function settingsOfFragment(fragment: string, model: Model): Settings | null {
  const fields = new URLSearchParams(fragment.replace(/^#/, ''));
  const prompt = fields.get('prompt');
  if (prompt === null) return null;
  const { limits } = model;
  const style = fields.get('style') ?? '';
  const size = fields.get('size');
  const seed = numberIn(fields.get('seed'), 0, limits.seed, true);
  return {
    model: modelOfFragment(fragment) === model.id ? model.id : null,
    prompt: prompt.slice(0, limits.prompt_characters),
    style: model.styles.some(({ suffix }) => suffix === style) ? style : '',
    seed: seed ?? 0,
    isSeedLocked: seed !== null,
    n: numberIn(fields.get('n'), 1, limits.n, true) ?? 1,
    size: size !== null && model.sizes.includes(size) ? size : null,
    guidance: numberIn(fields.get('guidance'), 1, limits.guidance_scale, false),
    timesteps: numberIn(fields.get('timesteps'), 1, limits.num_inference_steps, true),
    negativePrompt: fields.get('not') ?? '',
    acceleration: accelerationChoices(model).find(({ key }) => key === fields.get('way'))?.key ?? null,
  };
}

function numberIn(text: string | null, min: number, max: number, isInteger: boolean): number | null {
  if (text === null || text.trim() === '') return null;
  const value = Number(text);
  return value >= min && value <= max && (!isInteger || Number.isInteger(value)) ? value : null;
}

/** The same pictures from a shell. */
export function curlOf(request: ImagesRequest, origin: string): string {
  const body = JSON.stringify(request).replaceAll("'", String.raw`'\''`);
  return [
    `curl -s ${origin}/v1/images/generations \\`,
    `  -H 'content-type: application/json' \\`,
    `  -d '${body}' |`,
    `  sed 's/.*"b64_json":"\\([^"]*\\)".*/\\1/' | base64 -d > picture.png`,
  ].join('\n');
}
