import { describe, expect, it } from 'vitest';
import { UNMEASURED, wayOf } from '../../src/calibration/settings.js';
import { compareLaws, useLawBench, worst } from '../support/exact-law.js';
import { isAddonBuilt } from '../support/server-process.js';

/**
 * Exact speculation draws by the law of the model's own sampler, on the bundled model: few pictures here, 2,000 in test/long.
 * A fixed γ, because the adaptive rule may rightly never draft on a small model.
 */
const PICTURES = 64;
/** Hundreds of pictures, on machines that do other things too. */
const TIMEOUT_MS = 300_000;
const SETTINGS = { drafting: 'sequential', maxDraftTokens: 3, ...UNMEASURED } as const;

describe.skipIf(!isAddonBuilt())('exact speculation', () => {
  const { draw, vanilla } = useLawBench(PICTURES, TIMEOUT_MS);


  it('keeps the law of the pictures', async () => {
    const exact = await draw(wayOf({ mode: 'exact', fewStep: 0 }, { ...SETTINGS, tolerance: 0 }, { adaptive: false }), 2);
    // Where draft and target lie far apart all drafts may be rejected; then it is the corrections that are tested.
    expect(exact.rounds.filter(({ drafted }) => drafted > 0).length).toBeGreaterThan(exact.rounds.length / 2);
    const { name, p } = worst(compareLaws(vanilla(), exact, false));
    expect(p, name).toBeGreaterThan(1e-5);
  }, TIMEOUT_MS);

  it('is told from accepting every draft', async () => {
    const lax = await draw(wayOf({ mode: 'relaxed', fewStep: 0 }, { ...SETTINGS, tolerance: 1e9 }, { adaptive: false }), 2);
    expect(lax.rounds.every(({ drafted, accepted }) => accepted === drafted)).toBe(true);
    expect(worst(compareLaws(vanilla(), lax, false)).p).toBeLessThan(1e-6);
  }, TIMEOUT_MS);
});
