import type { ApiError } from '../protocol/frames.js';
import { isOver, passUnderWay, type DrawingState } from './drawing.js';

/** 84 ms · 1.24 s · 2 min 5 s */
export function duration(ms: number): string {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export function pictures(n: number): string {
  return n === 1 ? '1 picture' : `${n} pictures`;
}

/** What a person can do about it; the server's own sentence where it is about the request. */
export function errorInWords({ code, message, param, suggestions = [] }: ApiError): string {
  if (suggestions.length > 0) return 'That names no single class of this model. Did you mean:';
  switch (code) {
    case 'queue_full':
      return 'The server is busy: its queue is full. Try again in a moment.';
    case 'rate_limit_exceeded':
      return 'Too many requests at once. Try again in a moment.';
    case 'model_loading':
      return 'The model is still being loaded. Try again in a moment.';
    case 'draining':
      return 'The server is shutting down. Try again when it is back.';
    case 'invalid_api_key':
      return 'This server wants an API key, which this page cannot send yet.';
    case 'job_not_found':
      return 'The server no longer knows this picture. Draw it again: the seed gives the same one.';
    case 'string_above_max_length':
      return param === 'negative_prompt' ? 'The text under “Leave out” is too long for this model.' : 'The prompt is too long for this model.';
    case 'unreachable':
      return 'The connection to the server broke. Is it still running?';
    default:
      return message;
  }
}

/** One line for eyes and ears. */
export function statusOf(state: DrawingState): string {
  const many = state.pictures.length;
  if (state.isInterrupted && !isOver(state)) return 'Connection lost. The server goes on drawing; reconnecting …';
  switch (state.phase) {
    case 'sent':
      return 'Sending …';
    case 'queued':
      return state.position === null || state.position === 0 ? 'Next in line …' : `Waiting: ${state.position} ahead`;
    case 'drawing': {
      // The first tokens say little about the rest, and the last seconds need no number.
      const left = state.etaMs === null || state.etaMs < 2000 || state.fraction < 0.1 ? '' : `, about ${Math.round(state.etaMs / 1000)} s left`;
      const under = passUnderWay(state);
      const pass = under === null ? '' : `pass ${under.pass} of ${under.of}, `;
      return `Drawing ${pictures(many)}: ${pass}${Math.floor(state.fraction * 100)} %${left}`;
    }
    case 'done':
      return `${pictures(many)} in ${duration((state.clock.endedAt ?? state.clock.sentAt) - state.clock.sentAt)}`;
    case 'failed':
      return state.error === null ? 'It failed.' : errorInWords(state.error);
    case 'cancelled':
      return 'Cancelled';
  }
}

/** What came out, as the server counts it. */
export function outputInWords({ usage, unit }: DrawingState): string | null {
  if (usage === null) return null;
  const { output_tokens: count } = usage;
  if (unit === 'pass') return count === 1 ? '1 pass' : `${count} passes`;
  return `${count} image tokens`;
}

/** `usage.acceleration` as a sentence; null where the answer says nothing. */
export function accelerationInWords(state: DrawingState): string | null {
  const done = state.usage?.acceleration;
  if (done === undefined) return null;
  if (done.mode === 'off' && done.few_step === 0) return 'drawn without acceleration';
  const isPass = state.unit === 'pass';
  // One token a round is the model's own. Passes are drafted one by one, where a round says nothing.
  const rounds = ` in ${done.rounds} rounds, ${((done.rounds + done.accepted_tokens) / Math.max(1, done.rounds)).toFixed(1)} tokens a round`;
  const parts = [
    done.mode === 'off' ? null : `${done.mode} speculation, ${done.accepted_tokens} of ${done.draft_tokens} ${isPass ? 'drafted passes' : 'drafts'} taken${isPass ? '' : rounds}`,
    done.few_step === 0 ? null : `${done.few_step}-step ${isPass ? 'decoder' : 'head'}`,
    done.throughput === true ? 'chosen by the load' : null,
  ];
  return parts.filter((part) => part !== null).join(' · ');
}
