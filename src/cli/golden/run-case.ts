import type { EngineModel } from '../../engine/engine.js';
import type { ProbeRequest, SequenceSpec, Tensor } from '../../engine/native-types.js';
import type { ModelManifest } from '../../model/manifest.js';
import type { PromptTokenizer } from '../../model/tokenizer.js';
import { drawTokens } from './draw.js';
import { patchify, unpatchify } from './layout.js';
import { fixture, inputOf, type GoldenCase, type GoldenFolder } from './manifest.js';

export interface GoldenRun {
  folder: GoldenFolder;
  manifest: ModelManifest;
  /** Null where no case needs it: a folder may then have none. */
  tokenizer: PromptTokenizer | null;
  model: EngineModel;
  maxStepTokens: number;
}

let nextSequence = 1;

/** What the engine gives for the case, in the order of `expect`; null for a kind this family does not have. */
export async function runCase(run: GoldenRun, goldenCase: GoldenCase): Promise<Float32Array[] | null> {
  const { folder, model } = run;
  const input = (role: string): Tensor => inputOf(folder, goldenCase, role);
  const probe = async (kind: ProbeRequest['kind'], roles: string[], outputs: string[], params: ProbeRequest['params'] = {}) => {
    const tensors = Object.fromEntries(roles.map((role) => [role, input(role)]));
    const answer = await model.probe({ kind, tensors, params });
    return outputs.map((name) => answer[name]?.data ?? new Float32Array());
  };
  switch (goldenCase.kind) {
    case 'flow_head':
    case 'draft_head':
      return probe(goldenCase.kind, ['x', 't', 'condition'], ['out']);
    case 'few_step':
      return probe('few_step', ['x', 't', 'r', 'condition'], ['out']);
    case 'draft':
      return probe('draft', ['features', 'inputs'], ['features', 'entropy'], { parallel: goldenCase.masked, firstKey: goldenCase.firstKey });
    case 'sampler':
      return probe('sampler', ['condition', 'noise'], ['out'], samplerSettings(goldenCase));
    case 'backbone':
      return probe('backbone', ['ids', 'step_embedding'], ['prefill', 'step']);
    case 'vae_decode':
      return probe('vae_decode', ['latent'], ['image']);
    case 'vae_encode':
      return probe('vae_encode', ['pixels'], ['latent']);
    case 'text_to_image':
      return drawPicture(run, goldenCase, undefined);
    case 'edit':
      return drawPicture(run, goldenCase, await encodeInput(run, input('pixels')));
    default:
      return null;
  }
}

/**
 * Prompt and seed instead of recorded rows and noise: the ids our tokenizer gives per row, and the tokens drawn from
 * them with our own noise. Null for cases that do not say where they came from.
 */
export async function runFromOrigin(run: GoldenRun, goldenCase: GoldenCase): Promise<{ rows: Int32Array[]; tokens: Float32Array } | null> {
  const { origin, params } = goldenCase;
  const { tokenizer } = run;
  if (origin === null || tokenizer === null) return null;
  const rows = [origin.prompt, origin.negativePrompt].slice(0, goldenCase.rows.length).map((text) => {
    const caption = tokenizer.encodeCaption(text, Infinity) ?? new Int32Array();
    return tokenizer.promptRow(caption, { height: params.grid[0], width: params.grid[1] });
  });
  const spec = { ...specOf(run, goldenCase, undefined), promptRows: rows, seed: origin.seed };
  delete spec.noise;
  const tokens = await drawTokens(run.model, spec, run.maxStepTokens);
  return { rows, tokens };
}

/** The sampler's settings, as SequenceSpec and the probe name them. */
function samplerSettings({ params }: GoldenCase) {
  return {
    sampler: params.sampler,
    samplerLevel: params.level,
    timesteps: params.timesteps,
    timestepShift: params.timestep_shift,
    guidanceScale: params.guidance_scale,
    imageGuidanceScale: params.image_guidance_scale,
    guidanceSchedule: params.guidance_schedule,
    useNorm: params.use_norm,
  };
}

/** Tokens, then the float picture: unpatchified, scaled back, decoded. */
async function drawPicture(run: GoldenRun, goldenCase: GoldenCase, inputImageTokens: Float32Array | undefined): Promise<Float32Array[]> {
  const { manifest, model } = run;
  const tokens = await drawTokens(model, specOf(run, goldenCase, inputImageTokens), run.maxStepTokens);
  const [height, width] = goldenCase.params.grid;
  const latent = unpatchify(tokens, { channels: manifest.latentChannels, patch: manifest.latentPatchSize, height, width });
  latent.data = latent.data.map((value) => value / manifest.scalingFactor + manifest.shiftFactor);
  const { image } = await model.probe({ kind: 'vae_decode', tensors: { latent }, params: {} });
  return [tokens, image?.data ?? new Float32Array()];
}

/** Pixels (3, H, W) of the picture to edit → its tokens. */
async function encodeInput({ manifest, model }: GoldenRun, pixels: Tensor): Promise<Float32Array> {
  const batched = { data: pixels.data, shape: [1, ...pixels.shape.slice(-3)] };
  const { latent } = await model.probe({ kind: 'vae_encode', tensors: { pixels: batched }, params: {} });
  if (latent === undefined) throw new Error('the engine returned no latent');
  const [, channels, h, w] = latent.shape as [number, number, number, number];
  const scaled = latent.data.map((value) => (value - manifest.shiftFactor) * manifest.scalingFactor);
  const patch = manifest.latentPatchSize;
  return patchify(scaled, { channels, patch, height: h / patch, width: w / patch });
}

function specOf({ folder }: GoldenRun, goldenCase: GoldenCase, inputImageTokens: Float32Array | undefined): SequenceSpec {
  const { params } = goldenCase;
  const id = nextSequence;
  nextSequence += 1;
  return {
    id,
    // Ids are stored as floats.
    promptRows: goldenCase.rows.map((name) => Int32Array.from(fixture(folder, name).data)),
    ...(inputImageTokens === undefined ? {} : { inputImageTokens }),
    gridHeight: params.grid[0],
    gridWidth: params.grid[1],
    seed: 0,
    fewStep: params.few_step,
    ...samplerSettings(goldenCase),
    noise: inputOf(folder, goldenCase, 'noise').data,
  };
}
