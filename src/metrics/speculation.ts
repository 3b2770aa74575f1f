import { Counter, Histogram, type Registry } from 'prom-client';
import type { RoundRecord, StepPlan, StepResult } from '../engine/native-types.js';
import { ENTROPY_BUCKETS, ROUND_BUCKETS } from './buckets.js';

export interface SpeculationMetrics {
  step(result: StepResult): void;
}

/** Drafting: names as in vLLM where it has them, so that its queries carry over. Acceptance = accepted / draft tokens. `drawsPasses`: a token is a pass. */
export function createSpeculationMetrics(registry: Registry, model: string, drawsPasses = false): SpeculationMetrics {
  const registers = [registry];
  const labelNames = ['model'] as const;
  const counter = (name: string, help: string): Counter<'model'> => {
    const made = new Counter({ name: `ardiff_spec_decode_${name}`, help, labelNames, registers });
    made.inc({ model }, 0);
    return made;
  };
  const rounds = counter('rounds_total', 'Rounds of speculating sequences, those without a draft included.');
  const drafts = counter('drafts_total', 'Rounds that drafted.');
  const draftTokens = counter('draft_tokens_total', 'Tokens that were drafted.');
  const acceptedTokens = counter('accepted_tokens_total', 'Of those, tokens that were accepted.');
  const gateStops = counter('gate_stops_total', 'Rounds whose drafting the entropy gate ended.');
  const perPosition = new Counter({
    name: 'ardiff_spec_decode_accepted_tokens_per_pos_total',
    help: 'Accepted tokens by their place among the drafts of a round, from 0.',
    labelNames: ['model', 'position'],
    registers,
  });
  const tokensPerRound = new Histogram({
    name: 'ardiff_spec_decode_tokens_per_round',
    help: 'Image tokens that a round came to: one, and the accepted drafts.',
    labelNames,
    buckets: ROUND_BUCKETS,
    registers,
  });
  const entropy = new Histogram({
    name: 'ardiff_spec_decode_entropy_ratio',
    help: 'Attention entropy over the image, 0 to 1, mean over a round: of the draft model before its tokens are sampled, of the target where a gate reads it.',
    labelNames: ['model', 'side'],
    buckets: ENTROPY_BUCKETS,
    registers,
  });
  const observe = (side: 'draft' | 'target', value: number): void => {
    if (!Number.isNaN(value)) entropy.observe({ model, side }, value);
  };
  const note = ({ drafted, accepted, gateStopped, draftEntropy, targetEntropy }: RoundRecord): void => {
    rounds.inc({ model });
    // A reference is its draft or is drawn anew: one pass either way.
    if (!drawsPasses) tokensPerRound.observe({ model }, accepted + 1);
    if (gateStopped) gateStops.inc({ model });
    if (drafted === 0) return;
    drafts.inc({ model });
    draftTokens.inc({ model }, drafted);
    acceptedTokens.inc({ model }, accepted);
    for (let position = 0; position < accepted; position += 1) perPosition.inc({ model, position: String(position) });
    observe('draft', draftEntropy);
    observe('target', targetEntropy);
  };
  return {
    step: ({ decode }) => {
      for (const { rounds: records, cancelled } of decode) if (!cancelled) records?.forEach(note);
    },
  };
}

/** Image tokens that a decode entry came to; of a cancelled sequence nobody gets them. */
export function tokensDrawn({ decode }: StepPlan, result: StepResult): number {
  return decode.reduce((sum, { rounds }, i) => {
    const decoded = result.decode[i];
    return sum + (decoded?.cancelled === true ? 0 : (decoded?.accepted?.length ?? rounds));
  }, 0);
}
