import { readFileSync } from 'node:fs';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { expect } from 'vitest';

/** A page under watch: what went wrong in it, and whom it talked to. */
export interface Playground {
  page: Page;
  /** Uncaught errors, violations of the content policy, and what else the console calls an error. */
  problems: string[];
  close(): Promise<void>;
}

/** Opens the page in a browser profile of its own. `prepare`: before it loads. */
export async function openPlayground(browser: Browser, origin: string, options: BrowserContextOptions = {}, prepare?: (page: Page) => Promise<void>, hash = ''): Promise<Playground> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => { if (message.type() === 'error') problems.push(message.text()); });
  page.on('request', (request) => { if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== origin) problems.push(`asks ${request.url()}`); });
  await prepare?.(page);
  await page.goto(`${origin}/${hash}`);
  await page.locator('#model:not(:empty)').waitFor({ state: 'attached' });
  await page.locator('#way:not([data-way=connecting])').waitFor();
  return { page, problems, close: () => context.close() };
}

export interface Wanted {
  prompt: string;
  n?: number;
  seed?: number;
  timesteps?: number;
}

/** Fills in the form and presses Draw; does not wait. */
export async function draw(page: Page, { prompt, n = 1, seed, timesteps }: Wanted): Promise<void> {
  await page.fill('#prompt', prompt);
  await page.fill('#n', String(n));
  await page.locator('#n').dispatchEvent('change');
  if (seed !== undefined) await page.fill('#seed', String(seed));
  if (timesteps !== undefined) await setSlider(page, '#timesteps', timesteps);
  await page.getByRole('button', { name: 'Draw', exact: true }).click();
}

async function setSlider(page: Page, selector: string, value: number): Promise<void> {
  await page.locator('details').evaluate((details: HTMLDetailsElement) => { details.open = true; });
  await page.locator(selector).fill(String(value));
}

/** The newest drawing on the stage, once it has ended. */
export async function ended(page: Page, phase: 'done' | 'failed' | 'cancelled' = 'done'): Promise<string> {
  const card = page.locator('.drawing-card').first();
  await card.and(page.locator(`[data-phase=${phase}]`)).waitFor({ timeout: 60_000 });
  return (await card.locator('.status').textContent()) ?? '';
}

/** Records what the newest card shows at every frame from now on: for claims about the whole way and not its end. */
export async function record(page: Page): Promise<() => Promise<{ fraction: number; paintedRows: number; hasImage: boolean }[]>> {
  await page.evaluate(() => {
    const frames: { fraction: number; paintedRows: number; hasImage: boolean }[] = [];
    Object.assign(window, { recordedFrames: frames });
    const look = (): void => {
      requestAnimationFrame(look);
      const card = document.querySelector('.drawing-card');
      if (card === null) return;
      const canvas = card.querySelector<HTMLCanvasElement>('.frame canvas');
      let paintedRows = 0;
      if (canvas !== null) {
        const { data, width, height } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
        for (let y = 0; y < height; y++) if (data[(y * width + (width >> 1)) * 4 + 3]! > 0) paintedRows++;
      }
      frames.push({ fraction: card.querySelector('progress')!.value, paintedRows, hasImage: card.querySelector('.frame img') !== null });
    };
    look();
  });
  return () => page.evaluate(() => (window as unknown as { recordedFrames: { fraction: number; paintedRows: number; hasImage: boolean }[] }).recordedFrames);
}

/** Every sentence about the connection from now on, also those that stay for a moment only. */
export async function recordNotices(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const notice = document.querySelector('#notice')!;
    const sentences: string[] = [];
    Object.assign(window, { recordedNotices: sentences });
    new MutationObserver(() => sentences.push(notice.textContent)).observe(notice, { childList: true });
  });
  return () => page.evaluate(() => (window as unknown as { recordedNotices: string[] }).recordedNotices);
}

export function expectRising(values: readonly number[]): void {
  values.forEach((value, i) => { expect(value, `value ${i} of ${values.join(' ')}`).toBeGreaterThanOrEqual(values[i - 1] ?? 0); });
}

/** What Download saves of the first finished picture on the stage, as base64, and its file name. */
export async function download(page: Page): Promise<{ name: string; base64: string }> {
  const [saved] = await Promise.all([page.waitForEvent('download'), page.locator('.tile a[download]').first().click()]);
  return { name: saved.suggestedFilename(), base64: readFileSync(await saved.path(), 'base64') };
}
