/**
 * The whole native surface as types: every value that crosses between TypeScript and C++.
 * TypeScript decides (what to run), C++ computes (how). One call per engine step, plain data both ways.
 *
 * Mirrors native/engine/step_plan.h field for field; change both in one commit and raise `ABI_VERSION`.
 * Ranges are half open: [begin, end). Typed arrays passed in are copied before the call returns, so the
 * caller may reuse them; typed arrays handed out are owned by the caller.
 */

/** Checked against `abiVersion` of the loaded binary. */
export const ABI_VERSION = 9;

/** `cuda:1` is the second device; `cuda` the first. Builds without the cuda backend refuse it. */
export type BackendName = 'reference' | 'cpu' | 'cuda' | `cuda:${number}`;

/** `auto`: bfloat16 where the processor multiplies it natively (AMX, AVX512-BF16, a GPU), else float32. */
export type ComputeDtype = 'auto' | 'float32' | 'bfloat16';

/** `maruyama` is TransDiff's, the others NextStep's. */
export type SamplerName = 'A' | 'B' | 'C-sde' | 'C-cps' | 'C-ode' | 'maruyama';

/**
 * `linear` decreases from the scale to 1 (released code of 2025), `linear-increasing` is that of 2026
 * (docs/nextstep.md 6.3).
 */
export type GuidanceSchedule = 'constant' | 'linear' | 'linear-increasing';

export interface EngineOptions {
  backend: BackendName;
  dtype: ComputeDtype;
  /** Compute threads; 0 = one per physical core available to the process. */
  threads: number;
  /** Engines that divide the processor among them where `threads` is 0; default 1. */
  sharedBy?: number;
}

export interface EngineInfo {
  backend: BackendName;
  dtype: 'float32' | 'bfloat16';
  threads: number;
  /** Instruction set the kernels were chosen for, e.g. `avx512_bf16`. */
  isa: string;
  /** Libraries and their versions, e.g. `oneDNN 2.6.3`. */
  libraries: string;
}

/** A device that the driver shows; its place in the list is the N of `cuda:N`. */
export interface CudaDeviceInfo {
  /** e.g. `NVIDIA H100 80GB HBM3`. */
  name: string;
  /** Compute capability, e.g. `9.0`. */
  architecture: string;
  /** All of its memory, whoever uses it. */
  memoryBytes: number;
  /** Why this build cannot use it; empty: it can. */
  problem: string;
}

export interface CudaDevices {
  /** Of the toolkit that the cuda backend was built with, e.g. `13.0`; empty: this build has none. */
  version: string;
  /** Why there is no device; empty: there are some. */
  problem: string;
  devices: CudaDeviceInfo[];
}

export interface LoadOptions {
  /** KV blocks in the pool of this model; one block holds `blockTokens` positions of one row. */
  kvBlocks: number;
  /** Largest number of backbone rows (tokens) of one step; sizes the workspace. */
  maxStepTokens: number;
  /** Folder with `draft.safetensors` and/or `few_step.safetensors` (TransDiff: the latter); whichever is there is loaded and checked. */
  accelerator?: string;
  /** Folder of a TransDiff model's VAE. Absent: `vae/` beside the model; empty: none, pictures are then refused. */
  vae?: string;
  /** By what a device's memory is priced before the model is loaded; absent: by weights and KV cache alone. */
  rehearsal?: Rehearsal;
  /** Of a TransDiff model, instead of kvBlocks: room for so many pictures with guidance, which all take the same. `ModelInfo.kvBlocks` says how many blocks that is. */
  kvPictures?: number;
  /** Of a TransDiff model without an accelerator. `false`: computed anew is what docs/transdiff.md 10.2 says is kept, as the model's reference does; the pictures have the same bytes. For benches. */
  caches?: boolean;
}

/** The widest step that will be asked for. */
export interface Rehearsal {
  /** In the batch at once. */
  pictures: number;
  /** Tokens of the largest picture; not read of a TransDiff model. */
  gridHeight: number;
  gridWidth: number;
  timesteps: number;
}

/** Of a device that has memory of its own: what loading the model was priced at, before anything was allocated. */
export interface MemoryPrice {
  weightBytes: number;
  kvBytes: number;
  /** Everything else, at its most. */
  workspaceBytes: number;
  /** What the device had left before. */
  freeBytes: number;
}

/** What an accelerator folder brought (docs/speculation.md). */
export interface AcceleratorInfo {
  /** Layers of the draft model; 0: there is none. */
  draftLayers: number;
  /** The draft has a head of its own, so it can draft for the model's sampler. */
  draftHead: boolean;
  /** There is a few-step head. */
  fewStep: boolean;
  parameters: number;
}

/** Of a family whose pictures are asked for by class (docs/transdiff.md). */
export interface ClassInfo {
  numClasses: number;
  /** Positions of a row before those of its first pass. */
  classTokens: number;
  /** A picture is drawn in that many passes; each sees the latents of those before. */
  numPasses: number;
  /** Positions that a pass adds: what it attends to ends at classTokens + (pass + 1) x passTokens. */
  passTokens: number;
  /** Latent pixels per side. */
  grid: number;
}

/** What the loaded checkpoint is; every number read from its config and cross-checked with tensor shapes. */
export interface ModelInfo {
  family: 'nextstep' | 'transdiff';
  hiddenSize: number;
  numLayers: number;
  vocabSize: number;
  /** D: numbers of one image token. */
  tokenSize: number;
  latentChannels: number;
  latentPatchSize: number;
  /** Pixels per side of one image token: VAE factor x patch. */
  pixelFactor: number;
  maxPositions: number;
  boiTokenId: number;
  imagePlaceholderId: number;
  /** Positions of one KV block. */
  blockTokens: number;
  /** Bytes of one KV block over all layers, K and V. */
  blockBytes: number;
  kvBlocks: number;
  parameters: number;
  weightBytes: number;
  accelerator: AcceleratorInfo;
  /** Of TransDiff only. Its vocabulary and its token ids are 0 and -1, its `tokenSize` the latent's channels. */
  classes?: ClassInfo;
  /** Absent where the engine computes in the host's memory. */
  memory?: MemoryPrice;
}

/** Timesteps of the few-step head; 0: the model's own sampler. */
export type FewStep = 0 | 1 | 2 | 4;

/**
 * Whether to go on drafting, decided before a token is sampled (docs/speculation.md, Entropy).
 * `paper`: stop below min(0.8 EMA of the target's entropy, 0.3 mean - 0.1 std).
 * `logistic`: stop when sigmoid(weights · features) < threshold; `layer` names the draft layer whose entropy is read. The features and their
 * order: native/speculation/entropy_gate.h.
 */
export type EntropyGate =
  | { kind: 'off' }
  | { kind: 'paper'; layer: number; mean: number; std: number }
  | { kind: 'logistic'; layer: number; weights: number[]; threshold: number };

/** What the calibration measured, in units of one vanilla token (a step of mode `off`, one picture at a time). */
export interface SpeculationCosts {
  /** A plain step of this mode: one token without drafting. */
  plain: number;
  /** A round with no drafts beyond a plain step's work, and its bookkeeping. */
  round: number;
  /** One more draft: its pass of the draft model and its head. */
  draft: number;
  /** One more draft to verify: its rows in the target's pass and in the head's call. */
  verify: number;
}

/** How a sequence speculates. Everything that can change its picture's bytes is in here and in its own history. */
export interface SpeculationSpec {
  /** `exact`: the model's law, by block verification. `relaxed`: drafts within `tolerance` of the target are kept. */
  mode: 'exact' | 'relaxed';
  /** `sequential`: one draft after the other, each seeing those before. `parallel`: all in one pass. */
  drafting: 'sequential' | 'parallel';
  /** Largest γ, 1 … 15. */
  maxDraftTokens: number;
  /** Relaxed: largest accepted distance (docs/speculation.md, Relaxed). 0 accepts nothing but equal tokens. Ignored by `exact`. */
  tolerance: number;
  gate: EntropyGate;
  costs: SpeculationCosts;
  /** Chance that a draft is accepted, as calibrated: what the request's own history starts from. */
  acceptance: number;
  /** False: always draft as many as allowed, for calibration and tests. */
  adaptive: boolean;
  /** Fill `DecodeResult.trace`. */
  trace: boolean;
  /** TransDiff: jumps that a reference is drafted by. Its `drafting` is sequential, one reference a round, its gate off. Not of NextStep. */
  draftJumps?: Exclude<FewStep, 0>;
}

/** One picture to draw. Its guidance rows share every drawn token and differ in their prompt. */
export interface SequenceSpec {
  /** uint32, unique among the live sequences of the model. */
  id: number;
  /**
   * Token ids of 1, 2 or 3 rows: [conditional], [conditional, unconditional] or
   * [conditional, image-only, unconditional]. Each ends with boi.
   */
  promptRows: Int32Array[];
  /** Of a TransDiff model: the class. Such a sequence has no prompt rows; with guidance it has a second row, of no class. */
  classLabel?: number;
  /** (n, D) tokens of an input picture; they replace the image placeholders of each row, in order. */
  inputImageTokens?: Float32Array;
  /** Token grid; the picture has gridHeight x pixelFactor rows of gridWidth x pixelFactor pixels. */
  gridHeight: number;
  gridWidth: number;
  /** Integer in [0, 2^53). With the token number it determines all randomness of the picture. */
  seed: number;
  sampler: SamplerName;
  /** Noise level of sampler C (sde, cps); 0.8 in the released code. Ignored by A and B. */
  samplerLevel: number;
  /** Network evaluations per token. */
  timesteps: number;
  timestepShift: number;
  guidanceScale: number;
  imageGuidanceScale: number;
  guidanceSchedule: GuidanceSchedule;
  /** Of `maruyama`, scale_0 and scale_1 of the model: factors of drift and noise. Absent: 1. */
  driftScale?: number;
  noiseScale?: number;
  /** Layer-normalise each drawn token (no affine, eps 1e-6). */
  useNorm: boolean;
  /**
   * Not 0: tokens by the few-step head in that many jumps. Its guidance is distilled in, so there is one prompt row, and
   * sampler, timesteps and guidance are ignored. Absent: 0. TransDiff: passes by the few-step decoder; with `speculation` the last one, and
   * references by drafts, or where those are refused by the model's sampler.
   */
  fewStep?: FewStep;
  /** Absent: no drafting. */
  speculation?: SpeculationSpec;
  /**
   * Recorded noise instead of drawn noise, for golden cases: (L, draws, D) with draws = timesteps for
   * sampler A and timesteps + 1 for the others (C-ode reads only draw 0); 1 with few steps. Not with `exact`.
   */
  noise?: Float32Array;
}

/**
 * Run the backbone over known inputs (prompt ids, then emitted image tokens) of one row. TransDiff: the transformer over whole passes of one row: begin is 0 or the
 * end of a pass, end that of a later one, at most of the pass that is drawn next.
 */
export interface PrefillEntry {
  sequence: number;
  /** Guidance row, index into promptRows. */
  row: number;
  /** Positions [begin, end); begin = positions of this row already in its KV blocks. */
  begin: number;
  end: number;
  /** Pool indices of the blocks that hold positions [0, end); block i holds [i*blockTokens, …). */
  blockTable: Uint32Array;
}

/**
 * Draw image tokens of the sequence and append them (but the last of the picture) to every row. A round draws one token,
 * of a speculating sequence 1 … maxDraftTokens + 1: drafted, verified, the accepted ones kept.
 * TransDiff: a round is one timestep of the current pass, whose positions must be computed in every row, by a prefill of the same step at the latest. Where the
 * pass is a reference that begins and is drafted, it may be over at once, all its timesteps counted; refused, its first timesteps are drawn as planned.
 */
export interface DecodeEntry {
  sequence: number;
  /**
   * One table per row, large enough for all positions that the rounds may append: rounds, or of a speculating sequence
   * rounds x (maxDraftTokens + 1), but no more than the picture lacks less one.
   */
  blockTables: Uint32Array[];
  /**
   * At least 1, at most the tokens the picture still lacks. A speculating sequence may need fewer to be complete. TransDiff: at most 8, and what the pass still lacks.
   */
  rounds: number;
}

/**
 * The first `tokens` image tokens -> RGB, the others latent 0. Fewer than are drawn is usual: a partial picture shows
 * whole rows although the sequence has gone on.
 */
export interface VaeEntry {
  sequence: number;
  /**
   * 0 … what is drawn after the decodes of this step. All of them: the finished picture. TransDiff: timesteps over all passes, a multiple of those of a pass: the
   * picture that this pass ended with.
   */
  tokens: number;
}

/** Hand out the drawn tokens [begin, end), those of this step included. Costs a copy, and nobody who does not ask. Not of TransDiff. */
export interface ReadEntry {
  sequence: number;
  begin: number;
  end: number;
}

/**
 * One engine step. Order of execution: release, admit, copies; then rounds: flow heads (the pending token of every decode
 * entry that has rounds left), drafts, one backbone pass over the decoded and drafted rows, in the first round over all
 * prefill rows too, verification; reads; VAE decodes. TransDiff: release, admit, copies, transformer, timesteps, VAE decodes.
 */
export interface StepPlan {
  /** Live sequences whose state is dropped. */
  release: number[];
  admit: SequenceSpec[];
  /** Copy-on-write: (source, destination) block pairs, flattened. No destination twice, none that is also a source. */
  copies: Uint32Array;
  prefill: PrefillEntry[];
  decode: DecodeEntry[];
  vae: VaeEntry[];
  read: ReadEntry[];
}

/** One round of a speculating sequence that drafted or could have. */
export interface RoundRecord {
  /** γ: tokens drafted. */
  drafted: number;
  /** Of those, the accepted prefix. */
  accepted: number;
  /** The entropy gate ended the drafting. */
  gateStopped: boolean;
  /** Attention entropy of the draft's rows (the gate's layer), mean over the drafts; NaN without drafts. */
  draftEntropy: number;
  /** That of the target's penultimate layer over the verified rows, mean; NaN where the gate does not read it. */
  targetEntropy: number;
}

/**
 * Numbers per drafted token in `DecodeResult.trace`, in this order: image token, index j in its round (1 …), drafted
 * and not reached because an earlier one was rejected (1) or judged (0), accepted (1 or 0), statistic (relaxed: the
 * distance that is compared with the tolerance; exact: the token's path gap D), EMA of the target's entropy before
 * the round, then the draft's entropy of layers 0 … draftLayers - 1.
 */
export const TRACE_COLUMNS = 6;

export interface DecodeResult {
  sequence: number;
  /** Image tokens drawn so far, after this step. TransDiff: timesteps over all passes. */
  emittedTokens: number;
  /** The cancel flag was seen: fewer tokens than planned were drawn, the sequence must be released. */
  cancelled: boolean;
  /** Of a speculating sequence, one number per token (TransDiff: timestep) drawn in this step: 1 accepted draft, 0 drawn by the target. */
  accepted?: Uint8Array;
  /** Of a speculating sequence, its rounds in this step. TransDiff: of the reference that it began, counted in passes; of other steps none. */
  rounds?: RoundRecord[];
  /** (drafts, TRACE_COLUMNS + draftLayers), if the sequence asks for it. */
  trace?: Float32Array;
}

export interface DecodedImage {
  sequence: number;
  /** As in the plan: how many of its tokens it shows. */
  tokens: number;
  width: number;
  height: number;
  /** height x width x 3, row major, RGB. */
  rgb: Uint8Array;
}

export interface DrawnTokens {
  sequence: number;
  begin: number;
  end: number;
  /** (end - begin, D), as the backbone sees them. */
  data: Float32Array;
}

/** Wall time inside the step, in seconds. */
export interface StepTimings {
  total: number;
  flowHead: number;
  backbone: number;
  /** Draft model and the drafts' heads. */
  draft: number;
  /** Head calls and decisions of verification. */
  verify: number;
  /** Finished pictures. */
  vae: number;
  /** Unfinished pictures and reads. */
  preview: number;
}

export interface StepResult {
  /** In the order of plan.decode. */
  decode: DecodeResult[];
  /** In the order of plan.vae; cancelled sequences are left out. */
  images: DecodedImage[];
  /** In the order of plan.read, likewise. */
  tokens: DrawnTokens[];
  timings: StepTimings;
  /** Flow-head network evaluations (timestep x guidance row), for metrics. */
  flowHeadEvaluations: number;
  /** Rows of the backbone passes. */
  backboneTokens: number;
}

/** A dense float32 tensor. */
export interface Tensor {
  data: Float32Array;
  shape: number[];
}

/** Runs one part of the model on given inputs: golden cases, calibration. Never part of serving. */
export interface ProbeRequest {
  kind:
    | 'flow_head'
    | 'few_step'
    | 'draft'
    | 'draft_head'
    | 'sampler'
    | 'backbone'
    | 'decoder_call'
    | 'class_to_latent'
    | 'vae_decode'
    | 'vae_encode'
    | 'tokens'
    | 'latents';
  /**
   * flow_head, draft_head: x (R, D), t (R), condition (R, H) -> out (R, D).
   * few_step: x (R, D), t (R), r (R), condition (R, H) -> out (R, D): the average velocity from t to r.
   * draft: features (T, H) of positions 0 … T - 1, inputs (T, H) embeddings of positions 1 … T; params.parallel = n
   * mask rows behind them -> features (T + n, H) of positions 1 … T + n; entropy (T + n - f, draft layers) of the
   * attention over keys from params.firstKey = f on, of the rows from there on.
   * sampler: condition (rows, H), noise (draws, D) -> out (D).
   * backbone: ids (T), step_embedding (S, H) -> prefill (T, H), step (S, H).
   * vae_decode: latent (B, C, h, w) -> image (B, 3, H, W). vae_encode: pixels (B, 3, H, W) -> latent (B, C, h, w).
   * tokens: no input, params.sequence -> tokens (emitted, D) of a live sequence.
   * TransDiff: decoder_call: x (R, N, C), condition (R, M, D), t_times_1000 (R) -> v (R, N, C).
   * few_step: x (R, N, C), t (R), r (R), condition (R, M, D) -> out (R, N, C).
   * class_to_latent: labels (B), noise (1, B, N, C), step_noise (draws, B, N, C), sampler settings in params -> latents
   * (B, C, h, w), and for each pass i what it attends to, z{i} (R, tokens, D): rows of the classes, then with guidance of none.
   * With params.fewStep there is one row, and no step_noise.
   * latents: no input, params.sequence -> latents (passes begun, N, C) of a live sequence.
   */
  tensors: Record<string, Tensor>;
  params: Record<string, number | string | boolean>;
}

/** Error codes thrown by the addon as `error.code`; each maps to one class in src/errors.ts. */
export type NativeErrorCode =
  | 'invalid_argument' // a value of the wrong type or range crossed the boundary
  | 'invalid_plan' // the plan contradicts the engine's state; a bug above, no state was changed
  | 'invalid_model' // the model folder is broken; the message names file, tensor and offset
  | 'out_of_memory'
  | 'closed' // the engine was closed
  | 'internal';

/** A handle to one loaded model. */
export type ModelHandle = number;

/** Class exported by the addon. All methods that compute run on the engine's own thread, in call order. */
export interface NativeEngine {
  readonly info: EngineInfo;
  /** Of weights that were read into the engine, as they are stored, over all models; grows while one is loaded. */
  readonly loadedBytes: number;
  load(directory: string, options: LoadOptions): Promise<{ handle: ModelHandle; model: ModelInfo }>;
  unload(model: ModelHandle): Promise<void>;
  /**
   * Rejects with `invalid_plan` or `invalid_argument` before anything has changed; with any other code after having
   * dropped every sequence of the model, which may then be admitted again.
   */
  step(model: ModelHandle, plan: StepPlan): Promise<StepResult>;
  probe(model: ModelHandle, request: ProbeRequest): Promise<Record<string, Tensor>>;
  /** Sets the sequence's atomic cancel flag; polled at every timestep. Unknown ids are ignored. Never waits. */
  cancel(model: ModelHandle, sequence: number): void;
  /** Joins the engine thread; later calls reject with `closed`. Idempotent. */
  close(): void;
}

export interface NativeModule {
  readonly abiVersion: number;
  /** What there is, without taking any of it into use. */
  cudaDevices(): CudaDevices;
  Engine: new (options: EngineOptions) => NativeEngine;
}
