import { PARTIAL_IMAGES, type Model } from '../protocol/http.js';
import type { Unit } from './drawing.js';
import { tokensOf } from './settings.js';

export function drawsClasses({ prompt_mode: mode }: Model): boolean {
  return mode === 'class';
}

/** By id; null, and models that this server does not have: its first. */
export function modelFor(models: readonly [Model, ...Model[]], id: string | null | undefined): Model {
  return models.find((model) => model.id === id) ?? models[0];
}

/** As settings name it. */
export function keyOf(models: readonly Model[], { id }: Model): string | null {
  return models[0]?.id === id ? null : id;
}

/** One line of the picker: its name, and what may be asked of it. */
export function modelInWords(model: Model): string {
  if (!drawsClasses(model)) return `${model.id} · captions`;
  return model.num_classes === undefined ? `${model.id} · classes` : `${model.id} · ${model.num_classes} classes`;
}

/** What a picture of that size is drawn in: a grid of tokens, or passes over the whole of it. */
export interface Drawn {
  width: number;
  height: number;
  /** Of tokens; one cell where there are none. */
  columns: number;
  rows: number;
  unit: Unit;
  /** Of one picture: how many of the unit. */
  count: number;
}

export function drawnBy(model: Model, size: string): Drawn {
  const { columns, rows, width, height } = tokensOf(size, model.pixels_per_token);
  if (model.passes !== undefined) return { width, height, columns: 1, rows: 1, unit: 'pass', count: model.passes };
  return { width, height, columns, rows, unit: 'token', count: columns * rows };
}

/** Whole pictures to ask for over the socket: where finished rows can be shown, they say more and cost less. */
export function partialImagesOf({ row_previews: hasRows }: Model): number {
  return hasRows === false ? PARTIAL_IMAGES : 0;
}
