import { describe, expect, it } from 'vitest';
import { UNMEASURED, wayOf, fewStepWay } from '../../src/calibration/settings.js';
import { compareLaws, useLawBench, worst } from '../support/exact-law.js';
import { isAddonBuilt } from '../support/server-process.js';

/**
 * 2,000 pictures by exact speculation against 2,000 without it, and against each other way to get it wrong: features of the
 * pictures, all numbers of all tokens, mean and covariance at every token position.
 */
const PICTURES = Number(process.env['EXACT_LAW_PICTURES'] ?? 2000);
/** Drawing, then 8 million distances between pictures of 4,096 numbers. */
const TIMEOUT_MS = 3_600_000;

describe.skipIf(!isAddonBuilt())('exact speculation, 2,000 pictures', () => {
  const { draw, vanilla } = useLawBench(PICTURES, TIMEOUT_MS);


  it.each(['sequential', 'parallel'] as const)('keeps the law of the pictures with %s drafts', async (drafting) => {
    const settings = { drafting, maxDraftTokens: 4, tolerance: 0, ...UNMEASURED };
    // Other seeds for each: one fresh sample per comparison.
    const exact = await draw(wayOf({ mode: 'exact', fewStep: 0 }, settings, { adaptive: false }), drafting === 'sequential' ? 2 : 3);
    // Where draft and target lie far apart all drafts may be rejected; then it is the corrections that are tested.
    expect(exact.rounds.filter(({ drafted }) => drafted > 0).length).toBeGreaterThan(exact.rounds.length / 2);
    const { name, p } = worst(compareLaws(vanilla(), exact, true));
    console.log(`${drafting}: smallest p after Bonferroni ${p.toPrecision(3)} (${name})`);
    expect(p, name).toBeGreaterThan(1e-5);
  }, TIMEOUT_MS);

  it('is told from accepting every draft', async () => {
    const settings = { drafting: 'sequential', maxDraftTokens: 4, tolerance: 1e9, ...UNMEASURED } as const;
    const lax = await draw(wayOf({ mode: 'relaxed', fewStep: 0 }, settings, { adaptive: false }), 4);
    const { name, p } = worst(compareLaws(vanilla(), lax, true));
    console.log(`everything accepted: smallest p after Bonferroni ${p.toPrecision(3)} (${name})`);
    expect(p).toBeLessThan(1e-6);
  }, TIMEOUT_MS);

  it('passes vanilla against itself with other seeds', async () => {
    const again = await draw(fewStepWay(0), 5);
    const { name, p } = worst(compareLaws(vanilla(), again, true));
    expect(p, name).toBeGreaterThan(1e-5);
  }, TIMEOUT_MS);
});
