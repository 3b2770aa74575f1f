import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { envelopeOf, ServerError, toServerError } from '../../errors.js';
import type { JobHandle } from '../../jobs/backend.js';
import { previewCounter } from '../preview-count.js';
import { describeJob } from '../job-view.js';
import type { GatewayDeps } from '../deps.js';
import { STREAM_LIMITS, type ClientFrame, type ClientFrameOf, type PreviewWish, type ServerFrame } from './frames.js';
import { DEFAULT_GRACE_MS, generate, policyOf } from './generate.js';
import { JobFeed, type Outgoing } from './job-feed.js';
import { Outlet, unsentBytes, type Sink } from './outlet.js';
import { parseFrame, type FrameSubject } from './parse-frame.js';
import type { PumpQueue } from './pump-queue.js';

/** Replies that a client may leave unread before it is taken for one that never reads. */
const MAX_REPLIES = 1024;

/** How often a waiting client is told its place in the queue, when that has changed. */
const POSITION_MS = 1000;

/** The first event of every log, and its only one while the job waits. */
const QUEUED_SEQ = 1;

/** When a restarting server is worth another try. */
const RECONNECT_MS = 2000;

interface Followed {
  job: JobHandle;
  feed: JobFeed;
  unsubscribe: () => void;
  /** Place in the queue as it was last told. */
  position: number;
}

/** One socket: what it follows, what it has asked for, and its way out. */
export class StreamSession {
  private readonly id = randomUUID();
  /** Answers that are not part of a job's log; they go first. */
  private readonly replies: Outgoing[] = [];
  /** In turn, so that no job starves another. */
  private readonly followed = new Map<string, Followed>();
  private readonly leave = new Map<string, () => void>();
  private readonly outlet: Outlet;
  private readonly positions: NodeJS.Timeout;
  private preview: PreviewWish | null = null;
  private window = Infinity;
  private isWelcome = false;
  private isClosed = false;

  constructor(
    private readonly socket: WebSocket,
    private readonly deps: GatewayDeps,
    queue: PumpQueue,
    connection: Socket,
    /** Of the caller's credentials. */
    private readonly scope: string,
  ) {
    this.outlet = new Outlet(sinkOf(socket, connection), queue, () => this.next(), deps.patience.slowReaderMs, () => {
      socket.close(1013, 'too slow');
    });
    this.positions = setInterval(() => {
      this.tellPositions();
    }, POSITION_MS).unref();
  }

  get bufferedBytes(): number {
    return this.socket.bufferedAmount;
  }

  receiveText(text: string): void {
    const parsed = parseFrame(text);
    if ('error' in parsed) {
      this.refuse(parsed.error, parsed.subject);
      return;
    }
    const { frame } = parsed;
    try {
      this.obey(frame);
    } catch (thrown) {
      this.refuse(toServerError(thrown), subjectOf(frame));
    }
  }

  refuse(error: ServerError, subject: FrameSubject = {}): void {
    this.reply({ t: 'error', ...envelopeOf(error), ...subject });
  }

  /** The server goes away: the client is told when to come back, and its jobs are kept for it as it asked. */
  drain(): void {
    this.reply({ t: 'draining', reconnect_after_ms: RECONNECT_MS });
    this.end(1001, 'draining');
  }

  /** After what was said. */
  end(code: number, reason: string): void {
    this.outlet.flush();
    this.socket.close(code, reason);
  }

  /** Without a word. */
  terminate(): void {
    this.socket.terminate();
  }

  /** The socket is gone. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearInterval(this.positions);
    this.outlet.close();
    for (const { unsubscribe } of this.followed.values()) unsubscribe();
    this.followed.clear();
    for (const leave of this.leave.values()) leave();
    this.leave.clear();
  }

  private obey(frame: ClientFrame): void {
    if (frame.t === 'hello') {
      this.hello(frame);
      return;
    }
    this.welcome();
    switch (frame.t) {
      case 'generate':
        this.generate(frame);
        return;
      case 'subscribe':
        this.subscribe(frame);
        return;
      case 'unsubscribe':
        this.unfollow(frame.job);
        return;
      case 'cancel':
        this.find(frame.job, false).cancel('api');
        return;
      case 'ack':
        this.followed.get(frame.job)?.feed.ack(frame.seq);
        this.outlet.pump();
        return;
      case 'ping':
        this.reply({ t: 'pong' });
    }
  }

  private hello({ preview, window, resume = [] }: ClientFrameOf<'hello'>): void {
    this.preview = preview ?? null;
    this.window = window ?? Infinity;
    this.welcome();
    for (const point of resume) {
      try {
        this.resume(point);
      } catch (thrown) {
        this.refuse(toServerError(thrown), { job: point.job });
      }
    }
  }

  private welcome(): void {
    if (this.isWelcome) return;
    this.isWelcome = true;
    const { frameBytes, jobs, graceMs } = STREAM_LIMITS;
    this.reply({
      t: 'welcome',
      session: this.id,
      heartbeat_ms: this.deps.patience.pingMs,
      limits: { frame_bytes: frameBytes, jobs, grace_ms: graceMs },
      models: this.deps.serving.models.map((model) => model.manifest.id),
    });
  }

  private generate(frame: ClientFrameOf<'generate'>): void {
    this.refuseTooMany();
    const { job, joined } = generate(this.deps, frame, this.scope, this.preview !== null);
    this.attach(job, policyOf(frame.on_disconnect));
    this.reply({
      // Nothing of the log is told yet: who resumes from here gets all of it.
      ...this.head('accepted', job, 0),
      id: frame.id,
      epoch: job.log.epoch,
      position: job.position,
      eta_ms: this.etaMs(job),
      seeds: [...job.request.seeds],
      joined,
    });
    this.follow(job, 0);
  }

  private subscribe({ job: id, epoch, after }: ClientFrameOf<'subscribe'>): void {
    this.refuseTooMany();
    const job = this.find(id, after !== undefined);
    const start = startOf(job, epoch, after ?? 0);
    this.reply({ ...this.head('subscribed', job, start), epoch: job.log.epoch, status: job.status });
    if (after === undefined) this.follow(job, 0);
    else this.followAgain(job, epoch, start);
  }

  /** Who resumes had asked for the job, or stood for who did: while it is here, the job is wanted. */
  private resume({ job: id, epoch, after }: { job: string; epoch: string; after: number }): void {
    this.refuseTooMany();
    const job = this.find(id, true);
    const start = startOf(job, epoch, after);
    this.attach(job, { graceMs: DEFAULT_GRACE_MS });
    this.followAgain(job, epoch, start);
  }

  private followAgain(job: JobHandle, epoch: string | undefined, start: number): void {
    const { gap } = job.log.since(start);
    const isWhole = gap === null && isEpochOf(job, epoch);
    this.deps.metrics.streams.resumed(isWhole ? 'ok' : 'gap');
    if (!isWhole) this.tellGap(job, gap ?? { from: 1, to: 0 });
    this.follow(job, start);
  }

  private tellGap(job: JobHandle, { from, to }: { from: number; to: number }): void {
    const { status, progress, queue_position: position } = describeJob(job);
    this.reply({ t: 'gap', job: job.id, epoch: job.log.epoch, from, to });
    this.reply({ t: 'snapshot', job: job.id, status, progress, queue_position: position });
  }

  private follow(job: JobHandle, after: number): void {
    this.unfollow(job.id);
    const began = performance.now();
    const onPreview = previewCounter(this.deps.metrics.previews, 'ws', job.request.model, () => (performance.now() - began) / 1000);
    const feed = new JobFeed(job, {
      after,
      preview: this.preview,
      window: this.window,
      etaMs: () => this.etaMs(job),
      onPreview,
      now: () => performance.now(),
    });
    const unsubscribe = job.log.subscribe(({ event }) => {
      if (event.kind === 'tokens' || event.kind === 'preview') this.outlet.pumpLater();
      else this.outlet.pump();
    });
    this.followed.set(job.id, { job, feed, unsubscribe, position: job.position });
    this.outlet.pump();
  }

  private unfollow(id: string): void {
    this.followed.get(id)?.unsubscribe();
    this.followed.delete(id);
  }

  private attach(job: JobHandle, policy: Parameters<JobHandle['attach']>[0]): void {
    const before = this.leave.get(job.id);
    const leave = job.attach(policy);
    before?.();
    this.leave.set(job.id, leave);
    // A job that is over needs nobody any more, and a socket may live much longer than its jobs are kept.
    const forget = (): void => {
      if (this.leave.get(job.id) === leave) this.leave.delete(job.id);
    };
    job.result.then(forget, forget);
  }

  private next(): Outgoing | null {
    const reply = this.replies.shift();
    if (reply !== undefined) return reply;
    for (const [id, { feed }] of [...this.followed]) {
      const outgoing = feed.next();
      if (feed.isOver) this.finish(id);
      else if (outgoing !== null) this.rotate(id);
      if (outgoing !== null) return outgoing;
    }
    return null;
  }

  /** To the end of the line. */
  private rotate(id: string): void {
    const followed = this.followed.get(id);
    if (followed === undefined || this.followed.size === 1) return;
    this.followed.delete(id);
    this.followed.set(id, followed);
  }

  private finish(id: string): void {
    this.unfollow(id);
    this.leave.get(id)?.();
    this.leave.delete(id);
  }

  private tellPositions(): void {
    for (const followed of this.followed.values()) {
      const { job } = followed;
      if (job.status !== 'queued' || job.position === followed.position) continue;
      followed.position = job.position;
      this.reply({ ...this.head('queued', job, QUEUED_SEQ), position: job.position, eta_ms: this.etaMs(job) });
    }
  }

  private reply(text: ServerFrame): void {
    if (this.isClosed) return;
    if (this.replies.length >= MAX_REPLIES) {
      this.socket.close(1008, 'too many unread replies');
      return;
    }
    this.replies.push({ text });
    this.outlet.pump();
  }

  private find(id: string, isReturning: boolean): JobHandle {
    const job = this.deps.serving.backend?.get(id) ?? null;
    if (job !== null) return job;
    if (isReturning) this.deps.metrics.streams.resumed('unknown');
    throw new ServerError('job_not_found', 'There is no job with this id. Finished jobs are kept for ten minutes.', { param: 'job' });
  }

  private refuseTooMany(): void {
    if (this.followed.size < STREAM_LIMITS.jobs) return;
    throw new ServerError('unsupported_value', `One socket follows at most ${STREAM_LIMITS.jobs} jobs.`);
  }

  private etaMs({ request }: JobHandle): number | null {
    const { waitSeconds } = this.deps.workload.of(request.model);
    return waitSeconds === null ? null : Math.round(waitSeconds * 1000);
  }

  private head<T extends string>(t: T, job: JobHandle, seq: number): { t: T; job: string; seq: number; ts: number } {
    return { t, job: job.id, seq, ts: Date.now() };
  }
}

function sinkOf(socket: WebSocket, connection: Socket): Sink {
  return {
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
    get unsentBytes() {
      return unsentBytes(connection);
    },
    send: socket.send.bind(socket) as Sink['send'],
    cork: () => {
      connection.cork();
    },
    uncork: () => {
      connection.uncork();
    },
  };
}

function subjectOf(frame: ClientFrame): FrameSubject {
  return { ...('id' in frame ? { id: frame.id } : {}), ...('job' in frame ? { job: frame.job } : {}) };
}

function isEpochOf({ log }: JobHandle, epoch: string | undefined): boolean {
  return epoch === undefined || epoch === log.epoch;
}

/** After which seq to begin for a client that has the log up to `after`: from the start, if that was another log. */
function startOf(job: JobHandle, epoch: string | undefined, after: number): number {
  if (!isEpochOf(job, epoch)) return 0;
  if (after > job.log.lastSeq) throw new ServerError('invalid_value', 'after names an event that did not happen yet.', { param: 'after' });
  return after;
}
