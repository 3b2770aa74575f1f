import { Counter, Histogram, type Registry } from 'prom-client';
import type { JobHandle } from '../jobs/backend.js';
import type { CancelReason, JobEvent, JobStatus } from '../jobs/job.js';
import { QUEUE_BUCKETS } from './buckets.js';

/** What jobs tell by themselves, whichever surface they came in by: each counts once, however many watch it. */
export function createJobEventMetrics(registry: Registry): (job: JobHandle, event: JobEvent, before: JobStatus) => void {
  const registers = [registry];
  const queueSeconds = new Histogram({
    name: 'ardiff_request_queue_seconds',
    help: 'Submission of a job to admission of its first picture.',
    labelNames: ['model', 'priority'],
    buckets: QUEUE_BUCKETS,
    registers,
  });
  const cancellations = new Counter({
    name: 'ardiff_cancellations_total',
    help: 'Jobs ended before their pictures were done.',
    labelNames: ['reason', 'phase'],
    registers,
  });
  for (const reason of ['disconnect', 'api', 'timeout', 'shutdown'] as const) {
    for (const phase of ['queued', 'running']) cancellations.inc({ reason, phase }, 0);
  }
  const prompt = new Counter({
    name: 'ardiff_prompt_tokens_total',
    help: 'Prompt tokens of accepted requests: of text over all guidance rows, 1 of a class.',
    labelNames: ['model'],
    registers,
  });
  const images = new Counter({ name: 'ardiff_images_total', help: 'Pictures finished.', labelNames: ['model', 'format'], registers });
  const pixels = new Counter({ name: 'ardiff_image_pixels_total', help: 'Their pixels.', labelNames: ['model', 'format'], registers });
  /** performance.now() of submission, for queue times below the millisecond of `createdAt`. */
  const submitted = new WeakMap<JobHandle, number>();
  const cancelled = (reason: CancelReason, before: JobStatus): void => {
    cancellations.inc({ reason, phase: before === 'queued' ? 'queued' : 'running' });
  };
  return (job, event, before) => {
    const { model } = job.request;
    switch (event.kind) {
      case 'queued':
        submitted.set(job, performance.now());
        prompt.inc({ model }, job.request.prompt === 'text' ? job.request.promptRows.reduce((sum, row) => sum + row.length, 0) : 1);
        break;
      case 'started':
        // Started again after a crash of its worker, it has waited before.
        if (before === 'queued') queueSeconds.observe({ model, priority: 'normal' }, (performance.now() - submitted.get(job)!) / 1000);
        break;
      case 'image':
        images.inc({ model, format: event.image.format });
        pixels.inc({ model, format: event.image.format }, event.image.width * event.image.height);
        break;
      case 'cancelled':
        cancelled(event.reason, before);
        break;
      case 'failed':
        if (event.error.code === 'draining') cancelled('shutdown', before);
        break;
      case 'tokens':
      case 'preview':
      case 'succeeded':
        break;
    }
  };
}
