import type { Engine, EngineModel } from '../../engine/engine.js';
import type { ProbeRequest, Tensor } from '../../engine/native-types.js';
import { judgeOutputs, type Report } from './judge.js';
import { inputOf, type GoldenCase, type GoldenFolder } from './manifest.js';

const MAX_STEP_TOKENS = 65536;

/** The cases of a TransDiff folder (docs/transdiff.md): every one is a probe, with recorded noise. */
export async function runTransDiffFolder(engine: Engine, folder: GoldenFolder, report: Report): Promise<void> {
  // Probes bring their own KV blocks.
  const vae = folder.vae === undefined ? {} : { vae: folder.vae ?? '' };
  const accelerator = folder.accelerator === null ? {} : { accelerator: folder.accelerator };
  const model = await engine.load(folder.model, { kvBlocks: 1, maxStepTokens: MAX_STEP_TOKENS, ...vae, ...accelerator });
  try {
    for (const goldenCase of folder.cases) judgeOutputs(folder, goldenCase, await runCase(model, folder, goldenCase), report);
  } finally {
    await model.unload();
  }
}

async function runCase(model: EngineModel, folder: GoldenFolder, goldenCase: GoldenCase): Promise<Float32Array[] | null> {
  const { params } = goldenCase;
  const input = (role: string): Tensor => inputOf(folder, goldenCase, role);
  const probe = async (kind: ProbeRequest['kind'], tensors: Record<string, Tensor>, outputs: string[], settings: ProbeRequest['params'] = {}) => {
    const answer = await model.probe({ kind, tensors, params: settings });
    return outputs.map((name) => answer[name]?.data ?? new Float32Array());
  };
  switch (goldenCase.kind) {
    case 'decoder_call': {
      const tensors = { x: input('x'), condition: input('condition'), t_times_1000: input('t_times_1000') };
      return probe('decoder_call', tensors, ['v']);
    }
    case 'few_step':
      return probe('few_step', { x: input('x'), t: input('t'), r: input('r'), condition: input('condition') }, ['out']);
    case 'class_to_latent': {
      // Jumps draw the initial noise alone.
      const stepNoise = params.few_step > 0 ? {} : { step_noise: input('step_noise') };
      const tensors = { labels: input('labels'), noise: input('noise'), ...stepNoise };
      // z0 … of every pass, then the latents of the last one.
      const outputs = [...goldenCase.expect.slice(0, -1).map((_, pass) => `z${pass}`), 'latents'];
      return probe('class_to_latent', tensors, outputs, {
        sampler: 'maruyama',
        samplerLevel: 0.8,
        timesteps: params.steps,
        timestepShift: 1,
        guidanceScale: params.cfg,
        imageGuidanceScale: 1,
        guidanceSchedule: 'constant',
        driftScale: params.scale_0,
        noiseScale: params.scale_1,
        fewStep: params.few_step,
      });
    }
    case 'vae_decode': {
      const { data, shape } = input('latent');
      const [recorded, ...sides] = shape as [number, ...number[]];
      const pictures = goldenCase.pictures ?? recorded;
      const numbers = data.slice(0, (data.length / recorded) * pictures).map((value) => value / params.divide_by);
      return probe('vae_decode', { latent: { data: numbers, shape: [pictures, ...sides] } }, ['image']);
    }
    case 'vae_encode':
      return probe('vae_encode', { pixels: input('pixels') }, ['latent']);
    default:
      return null;
  }
}
