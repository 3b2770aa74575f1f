import type {
  DecodeEntry,
  DecodedImage,
  DrawnTokens,
  EngineInfo,
  LoadOptions,
  ModelInfo,
  NativeEngine,
  NativeErrorCode,
  PrefillEntry,
  ProbeRequest,
  ReadEntry,
  RoundRecord,
  SequenceSpec,
  StepPlan,
  StepResult,
  Tensor,
  VaeEntry,
} from '../../src/engine/native-types.js';

/** Dimensions of the pretend model; those of the tiny golden model where it matters. */
export const FAKE_MODEL: ModelInfo = {
  family: 'nextstep',
  hiddenSize: 48,
  numLayers: 3,
  vocabSize: 133,
  tokenSize: 16,
  latentChannels: 4,
  latentPatchSize: 2,
  pixelFactor: 16,
  maxPositions: 4096,
  boiTokenId: 130,
  imagePlaceholderId: 132,
  blockTokens: 16,
  blockBytes: 16 * 48 * 2 * 3 * 4,
  kvBlocks: 0,
  parameters: 1,
  weightBytes: 4,
  accelerator: { draftLayers: 0, draftHead: false, fewStep: false, parameters: 0 },
};

export interface FakeEngineOptions {
  blockTokens?: number;
  pixelFactor?: number;
  /** How long a step pretends to work. 0: one turn of the event loop. */
  stepMs?: number;
  loadMs?: number;
  /** What a round of tokens says it took. Below 4 ms the step loop asks for several tokens a step. */
  roundSeconds?: number;
}

interface FakeRow {
  ids: Int32Array;
  computed: number;
}

interface FakeSequence {
  spec: SequenceSpec;
  rows: FakeRow[];
  emitted: number;
}

/** What drafting comes to is a function of the spec and of how far the sequence is, as in the engine. */
interface FakeRound extends RoundRecord {
  tokens: number;
}

/** What is in a block: per slot, a hash over every input from position 0 up to it. Equal hash = equal KV. */
type Block = (number | undefined)[];

/**
 * The engine without arithmetic. It refuses every plan that the real one would compute garbage from: KV content is
 * tracked as hashes of what was written, so a wrong block table, a missed copy or a shared block written in place
 * shows as `invalid_plan` instead of a slightly wrong picture. A picture is a pure function of its spec.
 */
export class FakeEngine implements NativeEngine {
  readonly info: EngineInfo = { backend: 'reference', dtype: 'float32', threads: 1, isa: 'none', libraries: 'none' };
  readonly loadedBytes = 0;
  /** Every plan that was accepted, for tests that look at decisions. */
  readonly plans: StepPlan[] = [];
  readonly live = new Map<number, FakeSequence>();
  /** Most steps that ever waited or ran at once. */
  deepestQueue = 0;
  private queued = 0;
  private blocks: Block[] = [];
  private readonly cancelled = new Set<number>();
  private readonly failures: NativeErrorCode[] = [];
  private model: ModelInfo = FAKE_MODEL;
  private maxStepTokens = 0;
  private closed = false;
  private queue: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: FakeEngineOptions = {}) {}

  /** The next step that computes something rejects with this code, as the engine does: see `step`. */
  failNextStep(code: NativeErrorCode): void {
    this.failures.push(code);
  }

  async load(_directory: string, options: LoadOptions): Promise<{ handle: number; model: ModelInfo }> {
    await pause(this.options.loadMs ?? 0);
    this.blocks = Array.from({ length: options.kvBlocks }, () => []);
    this.maxStepTokens = options.maxStepTokens;
    const { blockTokens = FAKE_MODEL.blockTokens, pixelFactor = FAKE_MODEL.pixelFactor } = this.options;
    const accelerator = options.accelerator === undefined ? FAKE_MODEL.accelerator : { draftLayers: 2, draftHead: true, fewStep: true, parameters: 1 };
    this.model = { ...FAKE_MODEL, kvBlocks: options.kvBlocks, blockTokens, pixelFactor, accelerator };
    return { handle: 1, model: this.model };
  }

  async unload(): Promise<void> {
    await pause(0);
    this.live.clear();
  }

  /** Steps run in the order of the calls, one after the other, as on the engine's one thread. */
  step(_model: number, plan: StepPlan): Promise<StepResult> {
    this.queued += 1;
    this.deepestQueue = Math.max(this.deepestQueue, this.queued);
    const result = this.queue.then(() => this.runSlowly(plan)).finally(() => (this.queued -= 1));
    this.queue = result.catch(() => undefined);
    return result;
  }

  private async runSlowly(plan: StepPlan): Promise<StepResult> {
    // Half before the work and half after, so that a cancel can hit a step in flight.
    await pause((this.options.stepMs ?? 0) / 2);
    if (this.closed) throw nativeError('closed', 'engine is closed');
    const computes = plan.prefill.length + plan.decode.length + plan.vae.length > 0;
    const failure = computes ? this.failures.shift() : undefined;
    if (failure !== undefined) {
      // A refused plan changes nothing; a step that breaks off drops every sequence.
      if (failure !== 'invalid_plan' && failure !== 'invalid_argument') this.live.clear();
      throw nativeError(failure, `injected ${failure}`);
    }
    const result = this.run(plan);
    await pause((this.options.stepMs ?? 0) / 2);
    this.plans.push(plan);
    return result;
  }

  async probe(_model: number, request: ProbeRequest): Promise<Record<string, Tensor>> {
    await pause(0);
    throw nativeError('invalid_argument', `the fake engine cannot probe ${request.kind}`);
  }

  cancel(_model: number, sequence: number): void {
    if (this.live.has(sequence)) this.cancelled.add(sequence);
  }

  close(): void {
    this.closed = true;
  }

  private run(plan: StepPlan): StepResult {
    for (const id of plan.release) {
      must(this.live.has(id), `sequence ${id} is released but not live`);
      this.live.delete(id);
      this.cancelled.delete(id);
    }
    for (const spec of plan.admit) this.admit(spec);
    this.copyBlocks(plan);
    const writes = new Map<number, string>();
    for (const entry of plan.prefill) this.checkPrefill(entry, writes);
    for (const entry of plan.decode) this.checkDecode(entry, writes);
    this.checkSharing(plan, writes);
    for (const entry of plan.vae) this.checkDrawn(plan, entry.sequence, 0, entry.tokens);
    for (const entry of plan.read) this.checkDrawn(plan, entry.sequence, entry.begin, entry.end);
    const rows = plan.prefill.reduce((sum, entry) => sum + entry.end - entry.begin, 0);
    const decodeRows = plan.decode.reduce((sum, entry) => sum + entry.blockTables.length * Math.min(tokensPerRound(this.find(entry.sequence).spec), this.appended(entry)), 0);
    must(rows + decodeRows <= this.maxStepTokens, `${rows + decodeRows} backbone rows, at most ${this.maxStepTokens}`);
    for (const entry of plan.prefill) this.prefill(entry);
    const decode = plan.decode.map((entry) => this.decode(entry));
    const alive = <T extends { sequence: number }>(entries: T[]): T[] => entries.filter(({ sequence }) => !this.cancelled.has(sequence));
    return {
      decode,
      images: alive(plan.vae).map((entry) => this.image(entry)),
      tokens: alive(plan.read).map((entry) => this.read(entry)),
      timings: this.timings(plan),
      flowHeadEvaluations: plan.decode.reduce((sum, { sequence, rounds }) => sum + this.evaluations(sequence) * rounds, 0),
      backboneTokens: rows + plan.decode.reduce((sum, entry) => sum + entry.blockTables.length * entry.rounds, 0),
    };
  }

  private timings(plan: StepPlan): StepResult['timings'] {
    const rounds = Math.max(1, ...plan.decode.map((entry) => entry.rounds));
    const half = ((this.options.roundSeconds ?? 0.01) / 2) * rounds;
    // Stages that have nothing to do take no time.
    const drafts = plan.decode.some(({ sequence }) => this.find(sequence).spec.speculation !== undefined);
    const flowHead = plan.decode.length > 0 ? half : 0;
    const [draft, verify] = drafts ? [half / 4, half / 8] : [0, 0];
    const backbone = plan.decode.length + plan.prefill.length > 0 ? half : 0;
    const isWhole = ({ sequence, tokens }: VaeEntry): boolean => tokens === this.totalTokens(this.find(sequence));
    const vae = 0.001 * plan.vae.filter(isWhole).length;
    const preview = 0.001 * (plan.vae.length + plan.read.length) - vae;
    return { total: flowHead + backbone + draft + verify + vae + preview, flowHead, backbone, draft, verify, vae, preview };
  }

  private admit(spec: SequenceSpec): void {
    must(!this.live.has(spec.id), `sequence ${spec.id} is already live`);
    must(spec.promptRows.length >= 1 && spec.promptRows.length <= 3, `${spec.promptRows.length} prompt rows`);
    for (const ids of spec.promptRows) must(ids.at(-1) === this.model.boiTokenId, 'a prompt row must end with boi');
    must(Number.isSafeInteger(spec.seed) && spec.seed >= 0, `seed ${spec.seed}`);
    const { fewStep = 0, speculation } = spec;
    must(fewStep === 0 || (this.model.accelerator.fewStep && spec.promptRows.length === 1), `few_step ${fewStep} with ${spec.promptRows.length} rows`);
    must(speculation === undefined || (this.model.accelerator.draftLayers > 0 && speculation.maxDraftTokens >= 1 && speculation.maxDraftTokens <= 15), 'speculation');
    must(!(fewStep > 0 && speculation?.mode === 'exact'), 'few steps cannot be verified exactly');
    this.live.set(spec.id, { spec, rows: spec.promptRows.map((ids) => ({ ids, computed: 0 })), emitted: 0 });
  }

  private copyBlocks(plan: StepPlan): void {
    must(plan.copies.length % 2 === 0, 'copies come in pairs');
    const sources = new Set(plan.copies.filter((_, i) => i % 2 === 0));
    const destinations = plan.copies.filter((_, i) => i % 2 === 1);
    must(new Set(destinations).size === destinations.length, 'a block is copied to twice');
    must(!destinations.some((block) => sources.has(block)), 'a block is source and destination of copies');
    for (let i = 0; i < plan.copies.length; i += 2) {
      const source = this.block(plan.copies[i]!);
      this.block(plan.copies[i + 1]!);
      this.blocks[plan.copies[i + 1]!] = [...source];
    }
  }

  private checkPrefill(entry: PrefillEntry, writes: Map<number, string>): void {
    const sequence = this.find(entry.sequence);
    const row = sequence.rows[entry.row];
    must(row !== undefined, `sequence ${entry.sequence} has no row ${entry.row}`);
    const known = row!.ids.length + sequence.emitted;
    must(entry.begin < entry.end && entry.end <= known, `prefill [${entry.begin}, ${entry.end}) of ${known} known positions`);
    this.checkContent(sequence, entry.row, entry.begin, entry.blockTable);
    this.noteWrites(entry.sequence, entry.row, entry.begin, entry.end, entry.blockTable, writes);
  }

  private checkDecode(entry: DecodeEntry, writes: Map<number, string>): void {
    const sequence = this.find(entry.sequence);
    must(entry.blockTables.length === sequence.rows.length, 'one block table per row');
    const lacking = this.totalTokens(sequence) - sequence.emitted;
    must(entry.rounds >= 1 && entry.rounds <= lacking, `${entry.rounds} tokens of the ${lacking} that sequence ${entry.sequence} lacks`);
    const appended = this.appended(entry);
    for (const [index, row] of sequence.rows.entries()) {
      const position = row.ids.length + sequence.emitted;
      must(row.computed === position, `row ${index} of ${entry.sequence} has ${row.computed} of ${position} positions`);
      this.checkContent(sequence, index, position, entry.blockTables[index]!);
      if (appended > 0) this.noteWrites(entry.sequence, index, position, position + appended, entry.blockTables[index]!, writes);
    }
  }

  /** Positions that the step may append to every row. */
  private appended({ sequence: id, rounds }: DecodeEntry): number {
    const sequence = this.find(id);
    return Math.min(rounds * tokensPerRound(sequence.spec), this.totalTokens(sequence) - sequence.emitted - 1);
  }

  /** Pictures and tokens are taken after the decodes of the same step. */
  private checkDrawn(plan: StepPlan, id: number, begin: number, end: number): void {
    const { emitted } = this.find(id);
    // The plan may have been made before the cancel, and count on tokens that were not drawn.
    if (this.cancelled.has(id)) return;
    const drawn = emitted + (plan.decode.find((entry) => entry.sequence === id)?.rounds ?? 0);
    must(begin >= 0 && begin <= end && end <= drawn, `tokens [${begin}, ${end}) of sequence ${id}, which has drawn ${drawn}`);
  }

  /** The blocks of [0, end) must hold exactly this row's inputs. */
  private checkContent(sequence: FakeSequence, row: number, end: number, table: Uint32Array): void {
    let hash = rowHash(sequence, row);
    for (let position = 0; position < end; position += 1) {
      hash = mix(hash, this.input(sequence, row, position));
      const found = this.slot(table, position)[position % this.model.blockTokens];
      must(found === hash, `position ${position} of row ${row} of sequence ${sequence.spec.id} is not in its blocks`);
    }
  }

  private noteWrites(id: number, row: number, begin: number, end: number, table: Uint32Array, writes: Map<number, string>): void {
    const size = this.model.blockTokens;
    for (let index = Math.floor(begin / size); index * size < end; index += 1) {
      must(index < table.length, `block table of row ${row} of sequence ${id} ends before position ${end - 1}`);
      this.block(table[index]!);
      const owner = writes.get(table[index]!);
      must(owner === undefined || owner === `${id}/${row}`, `block ${table[index]} is written by ${owner} and ${id}/${row}`);
      writes.set(table[index]!, `${id}/${row}`);
    }
  }

  /** A block that is written must be in nobody else's table: that is what copies are for. */
  private checkSharing(plan: StepPlan, writes: Map<number, string>): void {
    const check = (owner: string, table: Uint32Array): void => {
      for (const block of table) {
        const writer = writes.get(block);
        must(writer === undefined || writer === owner, `block ${block} of ${owner} is written by ${writer}`);
      }
    };
    for (const entry of plan.prefill) check(`${entry.sequence}/${entry.row}`, entry.blockTable);
    for (const entry of plan.decode) {
      for (const [row, table] of entry.blockTables.entries()) check(`${entry.sequence}/${row}`, table);
    }
  }

  private prefill(entry: PrefillEntry): void {
    const sequence = this.find(entry.sequence);
    this.write(sequence, entry.row, entry.begin, entry.end, entry.blockTable);
    sequence.rows[entry.row]!.computed = entry.end;
  }

  private decode(entry: DecodeEntry): StepResult['decode'][number] {
    const sequence = this.find(entry.sequence);
    if (this.cancelled.has(entry.sequence)) {
      return { sequence: entry.sequence, emittedTokens: sequence.emitted, cancelled: true };
    }
    const rounds: RoundRecord[] = [];
    const accepted: number[] = [];
    const total = this.totalTokens(sequence);
    for (let i = 0; i < entry.rounds && sequence.emitted < total; i += 1) {
      const { tokens, ...record } = this.round(sequence);
      rounds.push(record);
      accepted.push(0, ...Array.from({ length: tokens - 1 }, () => 1));
      sequence.emitted += tokens;
      // The last token of a picture is not appended.
      const appended = sequence.emitted === total ? tokens - 1 : tokens;
      for (const [index, row] of sequence.rows.entries()) {
        this.write(sequence, index, row.computed, row.computed + appended, entry.blockTables[index]!);
        // What was drafted and not taken is in the cache as well, until it is overwritten.
        for (let rejected = 0; rejected < record.drafted - record.accepted && row.computed + appended + rejected < row.ids.length + total - 1; rejected += 1) {
          this.slot(entry.blockTables[index]!, row.computed + appended + rejected)[(row.computed + appended + rejected) % this.model.blockTokens] = -1;
        }
        row.computed += appended;
      }
    }
    const answer = { sequence: entry.sequence, emittedTokens: sequence.emitted, cancelled: false };
    return sequence.spec.speculation === undefined ? answer : { ...answer, accepted: Uint8Array.from(accepted), rounds };
  }

  private round(sequence: FakeSequence): FakeRound {
    const { spec, emitted } = sequence;
    const chance = mix(specHash(spec), emitted);
    const most = Math.min(tokensPerRound(spec) - 1, this.totalTokens(sequence) - emitted - 1);
    const drafted = Math.min(most, chance % 7);
    const accepted = Math.min(drafted, (chance >>> 8) % 5);
    const targetEntropy = drafted === 0 ? NaN : 0.75;
    return { tokens: accepted + 1, drafted, accepted, gateStopped: drafted < most && chance % 2 === 0, draftEntropy: drafted === 0 ? NaN : 0.5, targetEntropy };
  }

  private write(sequence: FakeSequence, row: number, begin: number, end: number, table: Uint32Array): void {
    const size = this.model.blockTokens;
    let hash = rowHash(sequence, row);
    for (let position = 0; position < end; position += 1) {
      hash = mix(hash, this.input(sequence, row, position));
      if (position >= begin) this.slot(table, position)[position % size] = hash;
    }
  }

  private slot(table: Uint32Array, position: number): Block {
    const index = Math.floor(position / this.model.blockTokens);
    must(index < table.length, `block table of ${table.length} blocks ends before position ${position}`);
    return this.block(table[index]!);
  }

  private block(index: number): Block {
    const block = this.blocks[index];
    if (block === undefined) throw nativeError('invalid_plan', `block ${index} of ${this.blocks.length}`);
    return block;
  }

  /** Identity of what goes into the backbone at a position: a prompt id or a drawn token. */
  private input(sequence: FakeSequence, row: number, position: number): number {
    const { ids } = sequence.rows[row]!;
    if (position < ids.length) return ids[position]!;
    return mix(specHash(sequence.spec), position - ids.length);
  }

  /** Like a decoder that sees the whole latent: every pixel depends on how many tokens there are. */
  private image({ sequence: id, tokens }: VaeEntry): DecodedImage {
    const sequence = this.find(id);
    const height = sequence.spec.gridHeight * this.model.pixelFactor;
    const width = sequence.spec.gridWidth * this.model.pixelFactor;
    const rgb = new Uint8Array(height * width * 3);
    const hash = mix(specHash(sequence.spec), tokens);
    // Bands, so that the picture compresses like one.
    for (let i = 0; i < rgb.length; i += 1) rgb[i] = mix(hash, Math.floor(i / (width * 12))) & 0xff;
    return { sequence: id, tokens, width, height, rgb };
  }

  private read({ sequence: id, begin, end }: ReadEntry): DrawnTokens {
    const hash = specHash(this.find(id).spec);
    const { tokenSize } = this.model;
    const data = Float32Array.from({ length: (end - begin) * tokenSize }, (_, i) => (mix(hash, begin * tokenSize + i) % 1000) / 1000);
    return { sequence: id, begin, end, data };
  }

  private evaluations(id: number): number {
    const { spec } = this.find(id);
    return (spec.fewStep ?? 0) || spec.timesteps * spec.promptRows.length;
  }

  private totalTokens(sequence: FakeSequence): number {
    return sequence.spec.gridHeight * sequence.spec.gridWidth;
  }

  private find(id: number): FakeSequence {
    const sequence = this.live.get(id);
    if (sequence === undefined) throw nativeError('invalid_plan', `sequence ${id} is not live`);
    return sequence;
  }
}

function tokensPerRound({ speculation }: SequenceSpec): number {
  return speculation === undefined ? 1 : speculation.maxDraftTokens + 1;
}

/** The draft model's keys and values are in the blocks of a speculating sequence's first row, and in no others. */
function rowHash({ spec }: FakeSequence, row: number): number {
  return row === 0 && spec.speculation !== undefined ? 0xd : 0;
}

function must(condition: boolean, message: string): void {
  if (!condition) throw nativeError('invalid_plan', message);
}

export function nativeError(code: NativeErrorCode, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    if (milliseconds > 0) setTimeout(resolve, milliseconds);
    else setImmediate(resolve);
  });
}

/** 32-bit mixing (murmur3's finaliser): equal hashes for unequal contents are out of reach of a test. */
function mix(hash: number, value: number): number {
  let h = (Math.imul(hash ^ 0x9e3779b9, 0x85ebca6b) + value) | 0;
  h = Math.imul(h ^ (h >>> 16), 0xc2b2ae35);
  return (h ^ (h >>> 13)) >>> 0;
}

/** Everything but the id and the recorded noise. */
function specHash(spec: SequenceSpec): number {
  const { promptRows, gridHeight, gridWidth, seed, timesteps, guidanceScale, timestepShift, useNorm } = spec;
  const numbers = [gridHeight, gridWidth, seed % 2 ** 31, timesteps, guidanceScale * 1000, timestepShift * 1000, useNorm ? 1 : 0];
  const { mode = '', tolerance = 0, maxDraftTokens = 0 } = spec.speculation ?? {};
  numbers.push(spec.fewStep ?? 0, mode.length, tolerance * 1000, maxDraftTokens);
  return [...numbers, spec.sampler.length, ...promptRows.flatMap((ids) => [ids.length, ...ids])].reduce(mix, 1);
}
