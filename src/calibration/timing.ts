import type { Prompt } from '../quality/pack.js';
import { drawGroup, tokensOf } from './draw.js';
import { mean } from './least-squares.js';
import { vanillaSpec, type Studio, type Way } from './studio.js';

/** One picture, drawn alone. Seconds. */
export interface PictureTime {
  /** Image tokens, or passes. */
  tokens: number;
  /** Engine time of the whole picture: prompt, tokens, decode. */
  total: number;
  /** Of its tokens. */
  decode: number;
  /** Of those, draft model and draft heads; 0 without drafts. */
  draft: number;
  /** Likewise, judging the drafts. */
  verify: number;
  /** Rounds that drafted, their drafts, and the rounds that did not (one token each). */
  rounds: number;
  drafted: number;
  accepted: number;
  plainRounds: number;
}

/**
 * Times ways of drawing against each other: every repetition draws every picture every way, so that what slows the machine
 * down slows all of them. Per way and picture the median repetition.
 */
export async function timeWays<K extends string>(studio: Studio, ways: Readonly<Record<K, Way>>, prompts: readonly Prompt[], repetitions: number): Promise<Record<K, PictureTime[]>> {
  const names = Object.keys(ways) as K[];
  const times = new Map<K, PictureTime[][]>(names.map((name) => [name, prompts.map(() => [])]));
  // What is slow only once (buffers, caches) is drawn ahead.
  for (const name of names) await timePicture(studio, prompts[0]!, ways[name]);
  for (let repetition = 0; repetition < repetitions; repetition += 1) {
    for (const [i, prompt] of prompts.entries()) for (const name of names) times.get(name)![i]!.push(await timePicture(studio, prompt, ways[name]));
  }
  const entries = names.map((name) => [name, times.get(name)!.map(medianTime)] as const);
  return Object.fromEntries(entries) as Record<K, PictureTime[]>;
}

async function timePicture(studio: Studio, prompt: Prompt, way: Way): Promise<PictureTime> {
  const spec = way(vanillaSpec(studio, prompt, 0));
  const { pictures, decodeTimings, totalSeconds } = await drawGroup(studio.model, studio.maxStepTokens, [spec]);
  const rounds = pictures[0]!.decode.rounds ?? [];
  const drafting = rounds.filter(({ drafted }) => drafted > 0);
  return {
    tokens: studio.model.info.classes?.numPasses ?? tokensOf(spec),
    total: totalSeconds,
    decode: decodeTimings.total,
    draft: decodeTimings.draft,
    verify: decodeTimings.verify,
    rounds: drafting.length,
    drafted: drafting.reduce((sum, { drafted }) => sum + drafted, 0),
    accepted: drafting.reduce((sum, { accepted }) => sum + accepted, 0),
    plainRounds: rounds.length - drafting.length,
  };
}

/** The repetition in the middle by total time: its parts belong together. */
function medianTime(repetitions: readonly PictureTime[]): PictureTime {
  return [...repetitions].sort((a, b) => a.total - b.total)[Math.floor((repetitions.length - 1) / 2)]!;
}

export function meanOf(times: readonly PictureTime[], field: keyof PictureTime): number {
  return mean(times.map((time) => time[field]));
}
