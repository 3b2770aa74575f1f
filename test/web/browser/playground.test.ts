import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../../support/server-process.js';
import { findChromium, PLAIN_HOST } from '../support/browser.js';
import { mockStream } from '../support/mock-stream.js';
import { download, draw, ended, expectRising, openPlayground, record, recordNotices } from '../support/playground.js';
import { useSite } from '../support/site.js';

const chromium = findChromium();
const SCREENSHOTS = process.env['ARDIFF_SCREENSHOTS'];

/** The page as built, a real server with the bundled models, and the system's Chromium. What is different for models of classes: classes.test.ts. */
describe.skipIf(chromium === null || !isAddonBuilt())('the playground', () => {
  const site = useSite(chromium);
  const { visit } = site;

  /** Of running jobs: by a cancel frame, or by closing the answer. */
  const cancellations = async (): Promise<number> => {
    const reasons = ['api', 'disconnect'].map((reason) => site.server.metric(`ardiff_cancellations_total{reason="${reason}",phase="running"}`));
    return (await Promise.all(reasons)).reduce((sum, count) => sum + count, 0);
  };

  const shoot = async (name: string, fullPage = false): Promise<void> => {
    if (SCREENSHOTS !== undefined) await site.open.page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage });
  };

  it('draws what is typed, and shows the bytes that the API gives for that seed', async () => {
    const { page, problems } = await visit();
    await page.fill('#seed', '7');
    await page.fill('#prompt', 'red apple');
    await page.keyboard.press('Enter');
    expect(await ended(page)).toMatch(/^1 picture in \d/);
    const { json } = await site.server.draw({ prompt: 'red apple', seed: 7 });
    expect(await download(page)).toEqual({ name: 'red-apple-7.png', base64: json.data[0]?.b64_json });
    expect(await page.locator('.tile img').first().evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(64);
    await expect.poll(() => page.locator('#entries li').count()).toBe(1);
    expect(page.url()).toBe(`${site.origin}/#prompt=red+apple&seed=7`);
    expect(problems).toEqual([]);
  });

  it('shows the pictures grow, and progress that never runs backwards', async () => {
    const { page, problems } = await visit();
    const frames = await record(page);
    await draw(page, { prompt: 'castle', n: 4, timesteps: 50 });
    await ended(page);
    const seen = await frames();
    expectRising(seen.map(({ fraction }) => fraction));
    const before = seen.filter(({ hasImage }) => !hasImage);
    // Some frames show a part of the picture: rows come before the picture does.
    expect(before.filter(({ paintedRows }) => paintedRows > 0 && paintedRows < 64).length).toBeGreaterThan(2);
    expect(new Set(before.map(({ fraction }) => fraction)).size).toBeGreaterThan(5);
    expect(await page.locator('.tile img').count()).toBe(4);
    expect(problems).toEqual([]);
  });

  it('measures: first row before the total, tokens, the server’s own rate', async () => {
    const { page } = await visit();
    await draw(page, { prompt: 'sunflower', n: 2, timesteps: 50 });
    await ended(page);
    const figure = async (label: string): Promise<string> => (await page.locator('#figures div', { hasText: label }).first().locator('dd').textContent()) ?? '';
    const ms = (text: string): number => Number.parseFloat(text) * (text.endsWith(' ms') ? 1 : 1000);
    expect(ms(await figure('First row'))).toBeLessThan(ms(await figure('Total')));
    expect(ms(await figure('Per token'))).toBeGreaterThan(0);
    await expect.poll(() => figure('Server')).toMatch(/^[1-9]\d* tokens\/s$/);
    expect(await page.locator('.done').first().textContent()).toBe('drawn without acceleration · 128 image tokens');
  });

  it('draws several requests at once and cancels one of them', async () => {
    const { page } = await visit();
    const before = await cancellations();
    await draw(page, { prompt: 'octopus', n: 10, timesteps: 50 });
    await draw(page, { prompt: 'rocket', n: 1, timesteps: 12 });
    const octopus = page.getByRole('article', { name: 'octopus' });
    await octopus.getByRole('button', { name: 'Cancel' }).click();
    await octopus.and(page.locator('[data-phase=cancelled]')).waitFor();
    expect(await ended(page)).toMatch(/^1 picture/);
    expect(await page.getByRole('article', { name: 'rocket' }).locator('.tile img').count()).toBe(1);
    await expect.poll(cancellations).toBe(before + 1);
  });

  it('says an error in words, and the next drawing works', async () => {
    const { page } = await visit();
    await page.getByRole('button', { name: 'Draw', exact: true }).click();
    expect(await page.locator('#prompt-problem').textContent()).toBe('Say what to draw first.');
    await draw(page, { prompt: 'a <|image_area|> thing' });
    expect(await ended(page, 'failed')).toMatch(/prompt/i);
    await draw(page, { prompt: 'word '.repeat(700) });
    expect(await ended(page, 'failed')).toBe('The prompt is too long for this model.');
    await draw(page, { prompt: 'cherries' });
    await ended(page);
  });

  it('brings back prompt and seed from the history, also after a reload, and clears it', async () => {
    const { page } = await visit();
    await page.getByRole('radio', { name: '3D' }).check();
    await draw(page, { prompt: 'teddy bear', seed: 31 });
    await ended(page);
    const first = await download(page);
    await expect.poll(() => page.locator('#entries li').count()).toBe(1);
    await page.goto(site.origin);
    await page.locator('#way[data-way=live], #way[data-way=limited]').waitFor();
    await page.getByRole('button', { name: 'Bring back teddy bear, 3d style, seed 31' }).click();
    expect([await page.inputValue('#prompt'), await page.inputValue('#seed'), await page.inputValue('input[name=style]:checked')]).toEqual(['teddy bear', '31', ', 3d style']);
    await page.getByRole('button', { name: 'Draw', exact: true }).click();
    await ended(page);
    expect(await download(page)).toEqual(first);
    await page.getByRole('button', { name: 'Clear' }).click();
    await expect.poll(() => page.locator('#entries li').count()).toBe(0);
  });

  it('keeps a locked seed, rolls another one otherwise', async () => {
    const { page } = await visit();
    await draw(page, { prompt: 'cherries', seed: 5 });
    await ended(page);
    await draw(page, { prompt: 'cherries' });
    await ended(page);
    expect(await page.inputValue('#seed')).toBe('5');
    await page.getByRole('button', { name: 'Keep this seed' }).click();
    expect(await page.inputValue('#seed')).toBe('5');
    await draw(page, { prompt: 'cherries' });
    await ended(page);
    expect(await page.inputValue('#seed')).not.toBe('5');
  });

  it('opens a link with everything filled in, and draws nothing by itself', async () => {
    const { page } = await visit({}, undefined, '#prompt=castle&style=%2C+flat+style&seed=12&n=2&guidance=3');
    expect([await page.inputValue('#prompt'), await page.inputValue('#seed'), await page.inputValue('#n'), await page.inputValue('#guidance')]).toEqual(['castle', '12', '2', '3']);
    expect(await page.locator('.drawing-card').count()).toBe(0);
    await page.getByRole('button', { name: 'Draw', exact: true }).click();
    await ended(page);
    expect(await page.locator('figcaption').allTextContents()).toEqual(['seed 12', 'seed 13']);
  });

  it('copies a link and a command that draw the same', async () => {
    const { page } = await visit({ permissions: ['clipboard-read', 'clipboard-write'] });
    await draw(page, { prompt: "pirate's flag", seed: 3 });
    await ended(page);
    await page.getByRole('button', { name: 'Copy as curl' }).click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toContain(`"prompt":"pirate'\\''s flag"`);
    await page.getByRole('button', { name: 'Copy link' }).click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe(`${site.origin}/#prompt=pirate%27s+flag&seed=3`);
  });

  it('is usable with the keyboard alone', async () => {
    const { page } = await visit();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.className)).toBe('skip');
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('model-choice');
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('prompt');
    await page.keyboard.type('rocket');
    const visited: string[] = [];
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('Tab');
      const { name, outline } = await page.evaluate(() => {
        const element = document.activeElement!;
        const ring = [element, element.parentElement!].map((candidate) => getComputedStyle(candidate)).find(({ outlineStyle }) => outlineStyle !== 'none');
        return { name: element.id || element.getAttribute('name') || element.textContent.trim(), outline: ring?.outlineWidth ?? '0px' };
      });
      visited.push(name);
      expect(Number.parseFloat(outline), `focus on ${name} is seen`).toBeGreaterThan(0);
      if (name === 'Draw') break;
    }
    expect(visited.slice(-7)).toEqual(['seed', 'roll', 'lock', 'n', 'more', 'Guidance, timesteps, speed and more', 'Draw']);
    await page.keyboard.press('Enter');
    await ended(page);
    await page.fill('#n', '10');
    await page.locator('#prompt').focus();
    await page.keyboard.press('Enter');
    await page.locator('.drawing-card[data-phase=drawing]').waitFor();
    await page.keyboard.press('Escape');
    await ended(page, 'cancelled');
  });

  for (const scheme of ['light', 'dark'] as const) {
    it(`has no accessibility problem that axe finds, in ${scheme} and on a phone`, async () => {
      for (const viewport of [{ width: 1280, height: 860 }, { width: 360, height: 740 }]) {
        const { page, close } = await visit({ viewport, colorScheme: scheme, reducedMotion: 'reduce' });
        await draw(page, { prompt: 'sunflower', n: 2 });
        await ended(page);
        await expect.poll(() => page.locator('#entries li').count()).toBe(2);
        await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'));
        const violations = await page.evaluate(async () => {
          const { axe } = window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
          return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
        });
        expect(violations).toEqual([]);
        const { background, width } = await page.evaluate(() => ({ background: getComputedStyle(document.body).backgroundColor, width: document.documentElement.scrollWidth }));
        expect(background).toBe(scheme === 'dark' ? 'rgb(20, 20, 24)' : 'rgb(247, 246, 243)');
        expect(width).toBe(viewport.width);
        await shoot(`${scheme}-${viewport.width}`, viewport.width < 400);
        await close();
      }
    });
  }

  it('fits a phone: the picture comes into view, and fingers find the buttons', async () => {
    const { page } = await visit({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
    await draw(page, { prompt: 'red apple' });
    await ended(page);
    await expect.poll(() => page.locator('.tile img').first().evaluate((image) => image.getBoundingClientRect().bottom <= innerHeight)).toBe(true);
    const small = await page.locator('button:visible, a.icon:visible').evaluateAll((buttons) => buttons.filter((button) => button.getBoundingClientRect().height < 28).map((button) => button.outerHTML));
    expect(small).toEqual([]);
  });

  it('comes back after a dropped connection: one job, its picture, and progress that goes on', async () => {
    let connections = 0;
    const { page } = await visit({}, (page) =>
      page.routeWebSocket(/\/v1\/stream$/, (socket) => {
        connections++;
        const upstream = socket.connectToServer();
        let previews = 0;
        upstream.onMessage((message) => {
          socket.send(message);
          if (connections > 1 || typeof message === 'string' || ++previews < 2) return;
          void upstream.close({ code: 1001 });
          void socket.close({ code: 1001 });
        });
      }),
    );
    const before = await site.server.metric('ardiff_images_total{model="nextstep-emoji64",format="png"}');
    const [frames, notices] = [await record(page), await recordNotices(page)];
    await draw(page, { prompt: 'castle', seed: 7, n: 4, timesteps: 50 });
    await ended(page);
    expect(connections).toBe(2);
    // Told at once, and taken back: the connection is there again.
    expect(await notices()).toContainEqual(expect.stringContaining('pictures under way are not lost'));
    expect(await page.locator('#notice').isVisible()).toBe(false);
    expectRising((await frames()).map(({ fraction }) => fraction));
    expect(await page.locator('.tile img').count()).toBe(4);
    expect(await site.server.metric('ardiff_images_total{model="nextstep-emoji64",format="png"}')).toBe(before + 4);
    const { json } = await site.server.draw({ prompt: 'castle', seed: 7, num_inference_steps: 50 });
    expect((await download(page)).base64).toBe(json.data[0]?.b64_json);
  });

  it('gets its picture from a server that was killed and started again in between', async () => {
    const first = await ServerProcess.start([], 'bundled');
    const there = await openPlayground(site.browser, `http://127.0.0.1:${first.port}`);
    const frames = await record(there.page);
    await draw(there.page, { prompt: 'castle', seed: 7, n: 4, timesteps: 50 });
    await there.page.waitForFunction(() => (document.querySelector('progress')?.value ?? 0) > 0.3);
    first.signal('SIGKILL');
    await first.exited;
    const second = await ServerProcess.start(['--port', String(first.port)], 'bundled');
    await ended(there.page);
    expectRising((await frames()).map(({ fraction }) => fraction));
    const { json } = await second.draw({ prompt: 'castle', seed: 7, num_inference_steps: 50 });
    expect((await download(there.page)).base64).toBe(json.data[0]?.b64_json);
    await there.close();
    await Promise.all([first.stop(), second.stop()]);
  });

  it('works where the browser sees no secure context, as on a phone in the same network', async () => {
    const { page, problems } = await site.visitAt(`http://${PLAIN_HOST}:${site.server.port}`);
    expect(await page.evaluate(() => isSecureContext)).toBe(false);
    await draw(page, { prompt: 'red apple' });
    await ended(page);
    expect(await page.locator('#way').getAttribute('data-way')).toBe('live');
    await page.getByRole('button', { name: 'Copy link' }).click();
    await page.getByText('Link copied').first().waitFor();
    await expect.poll(() => page.locator('#entries li').count()).toBe(1);
    expect(problems).toEqual([]);
  });

  it('takes the HTTP stream when the socket is refused, and says so', async () => {
    const { page } = await visit({}, (page) => page.routeWebSocket(/\/v1\/stream$/, (socket) => { void socket.close({ code: 1008 }); }));
    expect(await page.locator('#notice').textContent()).toContain('The WebSocket was refused');
    const frames = await record(page);
    await draw(page, { prompt: 'castle', seed: 7, n: 2, timesteps: 50 });
    await ended(page);
    expectRising((await frames()).map(({ fraction }) => fraction));
    const { json } = await site.server.draw({ prompt: 'castle', seed: 7, num_inference_steps: 50 });
    expect((await download(page)).base64).toBe(json.data[0]?.b64_json);
    await draw(page, { prompt: 'castle', n: 10, timesteps: 50 });
    await page.getByRole('button', { name: 'Cancel' }).click();
    await ended(page, 'cancelled');
  });

  it('takes plain HTTP when streaming is refused too, and says so', async () => {
    const { page } = await visit({}, async (page) => {
      await page.routeWebSocket(/\/v1\/stream$/, (socket) => { void socket.close({ code: 1008 }); });
      await page.route('**/v1/images/generations', async (route) => {
        const body = route.request().postDataJSON() as { stream?: boolean };
        if (body.stream !== true) return route.continue();
        return route.fulfill({ status: 400, json: { error: { message: 'no', type: 'invalid_request_error', param: 'stream', code: 'unsupported_value' } } });
      });
    });
    await draw(page, { prompt: 'red apple', seed: 7 });
    await ended(page);
    expect(await page.locator('#notice').textContent()).toContain('The server refused to stream');
  });

  it('colours drafts that were taken and what the model drew, when the server tells of them', async () => {
    const { page } = await visit({}, (page) => mockStream(page, { rowMs: 20, rows: 8, side: 64, withDrafts: true }));
    await draw(page, { prompt: 'red apple' });
    await ended(page);
    expect(await page.locator('canvas.map').getAttribute('aria-label')).toMatch(/^Tokens: \d+ drafts taken, \d+ drawn by the model/);
    expect(await page.locator('.legend').isVisible()).toBe(true);
    expect(await page.locator('.done').textContent()).toContain('relaxed speculation, 44 of 60 drafts taken in 20 rounds');
  });
});
