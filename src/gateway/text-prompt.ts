import { ServerError } from '../errors.js';
import type { TextModel } from '../model/served-model.js';
import type { Grid } from '../model/sizes.js';
import { checkText, invalid, unsupported } from './refusals.js';
import { LIMITS, type ImagesRequest } from './schemas.js';

/** The token rows of a caption: with guidance that of the negative prompt beside it. */
export function promptRowsOf(body: ImagesRequest, model: TextModel, grid: Grid, guidanceScale: number): number[][] {
  const conditional = rowOf('prompt', body.prompt, model, grid);
  if (guidanceScale > 1) return [conditional, rowOf('negative_prompt', body.negative_prompt ?? model.manifest.sampling.negativePrompt, model, grid)];
  if (body.negative_prompt !== undefined && body.negative_prompt !== '') {
    throw unsupported('negative_prompt', 'A negative prompt needs guidance_scale above 1.');
  }
  return [conditional];
}

function rowOf(param: string, text: string, { tokenizer, manifest }: TextModel, grid: Grid): number[] {
  checkText(param, text);
  const special = tokenizer.findSpecialToken(text);
  if (special !== null) throw invalid(param, `must not contain the control token ${JSON.stringify(special)}`);
  const caption = tokenizer.encodeCaption(text, LIMITS.promptTokens);
  if (caption === null) throw new ServerError('string_above_max_length', `${param} is longer than ${LIMITS.promptTokens} tokens.`, { param });
  const ids = tokenizer.promptRow(caption, grid);
  if (ids.length + grid.height * grid.width > manifest.maxPositions) {
    throw new ServerError('string_above_max_length', `${param} and picture together are longer than the model can see.`, { param });
  }
  return [...ids];
}
