import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { EngineModel } from '../src/engine/engine.js';
import { PACKAGE_ROOT } from '../src/engine/native.js';
import type { SequenceSpec } from '../src/engine/native-types.js';
import type { Bench } from './context.js';
import { draw, MAX_STEP_TOKENS } from './draw.js';
import { LineProcess } from './line-process.js';
import type { PartReport, Row } from './report.js';
import { writeSynthetic, type SyntheticShape } from './synthetic.js';
import { ratiosOf, show, spreadOf } from './stats.js';

const AIM = 0.7;
const BUFFER_MEGABYTES = 512;
/** 113M parameters, the proportions of the released backbone. */
const SHAPE: SyntheticShape = { hidden: 1024, intermediate: 2816, layers: 10, heads: 16, kvHeads: 4, headDim: 64 };
const PROMPT_TOKENS = 16;
const GRID = 6;

/** A decode step of a backbone that no cache holds, beside the time that reading its weights once takes. */
export async function benchBandwidth(bench: Bench): Promise<PartReport> {
  const folder = join(bench.scratch, 'synthetic');
  bench.log('bandwidth: writing random weights');
  const { backboneBytes, parameters } = writeSynthetic(folder, SHAPE);
  const probe = LineProcess.start(compileProbe(bench.scratch), [String(bench.info.threads), String(BUFFER_MEGABYTES), '5']);
  const engine = bench.openEngine(bench.info.dtype);
  try {
    const model = await engine.load(folder, { kvBlocks: 64, maxStepTokens: MAX_STEP_TOKENS });
    // float32 mode keeps float32 weights: twice the bytes of the file.
    const bytes = bench.info.dtype === 'bfloat16' ? backboneBytes : 2 * backboneBytes;
    const rows: Row[] = [];
    const figures: Record<string, unknown> = { parameters, bytesPerStep: bytes, dtype: bench.info.dtype, shape: SHAPE };
    for (const guidanceRows of [1, 2]) {
      const { stepSeconds, bandwidths } = await measure(bench, model, probe, guidanceRows);
      const floors = bandwidths.map((bandwidth) => bytes / bandwidth);
      const share = spreadOf(ratiosOf(floors, stepSeconds));
      const name = guidanceRows === 1 ? 'without guidance' : 'with guidance (2 rows)';
      if (guidanceRows === 1) {
        rows.push({ what: 'main memory read bandwidth', measured: show(spreadOf(bandwidths), 'GB/s', 1e-9), aim: '' });
        rows.push({ what: `floor: ${(bytes / 1e6).toFixed(0)} MB read once`, measured: show(spreadOf(floors), 'ms', 1e3), aim: '' });
      }
      rows.push({ what: `decode step, ${name}`, measured: show(spreadOf(stepSeconds), 'ms', 1e3), aim: '' });
      rows.push({ what: `share of the floor, ${name}`, measured: show(share, '%', 100), aim: `≥ ${AIM * 100}%`, reached: share.median >= AIM });
      figures[`rows${guidanceRows}`] = { stepSeconds, bandwidths, share };
    }
    return { title: `decode step of ${(parameters / 1e6).toFixed(0)}M random weights (${bench.info.dtype}) and the memory floor`, rows, figures };
  } finally {
    engine.close();
    probe.stop();
  }
}

function compileProbe(scratch: string): string {
  const program = join(scratch, 'read_bandwidth');
  const source = join(PACKAGE_ROOT, 'bench', 'read_bandwidth.cpp');
  execFileSync(process.env['CXX'] ?? 'g++', ['-O3', '-march=native', '-pthread', source, '-o', program]);
  return program;
}

/** Probe and engine take turns. A step counts with its backbone pass alone: the flow head here is a stub. */
async function measure(bench: Bench, model: EngineModel, probe: LineProcess, guidanceRows: number): Promise<{ stepSeconds: number[]; bandwidths: number[] }> {
  const ids = Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => (i + 1 === PROMPT_TOKENS ? 3 : 10 + i));
  const spec: SequenceSpec = {
    id: 0,
    promptRows: guidanceRows === 1 ? [ids] : [ids, ids],
    gridHeight: GRID,
    gridWidth: GRID,
    seed: 7,
    sampler: 'B',
    samplerLevel: 0,
    timesteps: 2,
    timestepShift: 1,
    guidanceScale: guidanceRows === 1 ? 1 : 2,
    imageGuidanceScale: 1,
    guidanceSchedule: 'constant',
    useNorm: true,
  };
  await draw(model, [spec]);
  const stepSeconds: number[] = [];
  const bandwidths: number[] = [];
  for (let round = 0; round < bench.options.rounds; round += 1) {
    const probed = (await probe.ask('')).split(' ').map(Number);
    const { steps } = await draw(model, [spec]);
    // A floor is what the machine can do at its best.
    bandwidths.push(spreadOf(probed).max);
    // The first step is the prefill, the last token's has no backbone pass, the last step is the picture.
    stepSeconds.push(spreadOf(steps.slice(1, GRID * GRID - 1).map((timings) => timings.backbone)).median);
  }
  return { stepSeconds, bandwidths };
}
