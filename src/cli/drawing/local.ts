import { randomInt } from 'node:crypto';
import { Registry } from 'prom-client';
import type { Config } from '../../config.js';
import type { DeviceChoice } from '../../engine/device-choice.js';
import type { Engine } from '../../engine/engine.js';
import { openEngine } from '../../engine/open-engine.js';
import { prepareRequest } from '../../gateway/image-request.js';
import type { JobHandle } from '../../jobs/backend.js';
import { EmbeddedBackend } from '../../jobs/embedded.js';
import { advance, startProgress, type Progress } from '../../jobs/progress.js';
import { openModelFolder } from '../../model/served-model.js';
import { startLocalWorker } from '../../worker/local-worker.js';
import type { Draw, DrawingEvent } from './drawing.js';

export type LocalOptions = Pick<Config, 'dtype' | 'threads' | 'kvSequences' | 'maxBatch' | 'acceleration'> & { modelDirectory: string; device: DeviceChoice };

/** Makes the engine; tests hand in another. */
export type MakeEngine = (options: LocalOptions) => Engine;

const realEngine: MakeEngine = (options) => openEngine(options).engine;

/** Draws in this process, by the same path as the server: request → job → scheduler → engine → picture. */
export function localDraw(options: LocalOptions, makeEngine: MakeEngine = realEngine): Draw {
  return async function* draw(request, signal): AsyncGenerator<DrawingEvent> {
    const served = openModelFolder(options.modelDirectory, { acceleration: options.acceleration });
    const prepared = prepareRequest(request, served, () => randomInt(2 ** 48 - 1));
    const engine = makeEngine(options);
    const log = { error: () => undefined };
    const worker = await startLocalWorker(engine, served.manifest, { ...options, name: 'local' }, new Registry(), log);
    const backend = new EmbeddedBackend(worker, { capacity: 1 });
    try {
      const { job } = backend.submit(prepared);
      signal.addEventListener('abort', () => { job.cancel('api'); }, { once: true });
      if (signal.aborted) job.cancel('api');
      yield* follow(job);
    } finally {
      await backend.drain(0);
      engine.close();
    }
  };
}

/** A job's log as it grows; the end of the job is the end, its error the iterator's. */
async function* follow(job: JobHandle): AsyncGenerator<DrawingEvent> {
  let state = startProgress(job.request);
  let seen = 0;
  let wake: () => void = () => undefined;
  const stop = job.log.subscribe(() => { wake(); });
  try {
    for (;;) {
      const grown = new Promise<void>((resolve) => (wake = resolve));
      for (const entry of job.log.since(seen).entries) {
        seen = entry.seq;
        let progress: Progress | null;
        ({ state, progress } = advance(state, entry));
        if (progress !== null) yield { kind: 'progress', fraction: progress.fraction, etaMs: progress.etaMs };
        if (entry.event.kind === 'image') yield { kind: 'image', ...entry.event.image };
      }
      if (job.log.closed && seen >= job.log.lastSeq) break;
      await grown;
    }
  } finally {
    stop();
  }
  await job.result;
}
