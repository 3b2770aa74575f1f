import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { isAddonBuilt, ServerProcess } from '../../support/server-process.js';
import { findChromium, launch } from '../support/browser.js';
import { download, ended, expectRising, openPlayground, record } from '../support/playground.js';
import { useSite } from '../support/site.js';

const chromium = findChromium();
const CLASSES = 'transdiff-emoji64';

/** The page with several models, of which one draws classes, as `npm start` serves them. */
describe.skipIf(chromium === null || !isAddonBuilt())('the playground with a model of classes', () => {
  const site = useSite(chromium);
  const { visit } = site;

  const refuseSocket = (page: Page): Promise<void> => page.routeWebSocket(/\/v1\/stream$/, (socket) => { void socket.close({ code: 1008 }); });
  const press = (page: Page): Promise<void> => page.getByRole('button', { name: 'Draw', exact: true }).click();

  it('chooses between the models of the server, and describes itself for each', async () => {
    const { page, problems } = await visit();
    const picker = page.getByLabel('Model');
    expect(await picker.locator('option').allTextContents()).toEqual(['nextstep-emoji64 · captions', `${CLASSES} · 477 classes`]);
    const field = (id: string): Promise<boolean> => page.locator(`#${id}`).isVisible();
    await page.locator('details').evaluate((details: HTMLDetailsElement) => { details.open = true; });
    expect([await field('prompt'), await field('class'), await field('negative'), await field('styles')]).toEqual([true, false, true, true]);
    expect(await page.locator('#timesteps-label').textContent()).toBe('Timesteps per token');
    await page.fill('#prompt', 'an old caption');
    await picker.selectOption(CLASSES);
    expect([await field('prompt'), await field('class'), await field('negative'), await field('styles')]).toEqual([false, true, false, false]);
    expect(await page.locator('#timesteps-label').textContent()).toBe('Timesteps per pass');
    const { defaults } = JSON.parse((await site.server.get(`/v1/models/${CLASSES}`)).text) as { defaults: { guidance_scale: number; num_inference_steps: number } };
    expect([Number(await page.inputValue('#guidance')), Number(await page.inputValue('#timesteps'))]).toEqual([defaults.guidance_scale, defaults.num_inference_steps]);
    // Each keeps what was typed.
    await picker.selectOption('nextstep-emoji64');
    expect(await page.inputValue('#prompt')).toBe('an old caption');
    expect(problems).toEqual([]);
  });

  it('finds a class by keyboard and draws it, to the bytes that the API gives', async () => {
    const { page, problems } = await visit({}, undefined, `#model=${CLASSES}&prompt=pizza&seed=7`);
    const input = page.getByRole('combobox', { name: 'Class' });
    await input.fill('');
    await page.keyboard.type('APP');
    expect(await input.getAttribute('aria-expanded')).toBe('true');
    const options = page.locator('#class-list [role=option]');
    await expect.poll(() => options.first().textContent()).toBe('red appleapple');
    expect(await input.getAttribute('aria-activedescendant')).toBeNull();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowUp');
    const marked = await input.getAttribute('aria-activedescendant');
    expect(await page.locator(`#${marked}`).getAttribute('aria-selected')).toBe('true');
    expect(await page.locator('#class-list [aria-selected=true]').count()).toBe(1);
    // The list is closed first; nothing was drawn that could be cancelled.
    await page.keyboard.press('Escape');
    expect([await input.getAttribute('aria-expanded'), await input.inputValue()]).toEqual(['false', 'APP']);
    // Opens it again, at the first one.
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    expect([await input.getAttribute('aria-expanded'), await input.inputValue()]).toEqual(['false', 'red apple']);
    expect(await page.locator('.drawing-card').count()).toBe(0);
    await page.keyboard.press('Enter');
    expect(await ended(page)).toMatch(/^1 picture in \d/);
    const { json } = await site.server.draw({ model: CLASSES, prompt: 'red apple', seed: 7 });
    expect(await download(page)).toEqual({ name: 'red-apple-7.png', base64: json.data[0]?.b64_json });
    expect(page.url()).toBe(`${site.origin}/#prompt=red+apple&model=${CLASSES}&seed=7`);
    expect(problems).toEqual([]);
  });

  it('finds a class with the pointer, by example and by chance', async () => {
    const { page } = await visit({}, undefined, `#model=${CLASSES}&prompt=pizza`);
    const input = page.locator('#class');
    await page.getByRole('button', { name: 'All classes' }).click();
    expect(await page.locator('#class-list [role=option]').count()).toBe(477);
    // The chosen one is there to be seen.
    expect(await page.locator('#class-list [aria-selected=true]').textContent()).toBe('pizza');
    await page.locator('#class-list').getByText('hamburger', { exact: true }).click();
    expect([await input.inputValue(), await page.locator('#class-list').isVisible()]).toEqual(['hamburger', false]);
    await page.getByRole('group', { name: 'Example classes' }).getByRole('button', { name: 'rocket' }).click();
    expect(await input.inputValue()).toBe('rocket');
    const names = new Set<string>();
    for (let i = 0; i < 5; i++) {
      await page.getByRole('button', { name: 'A class by chance' }).click();
      names.add(await input.inputValue());
    }
    expect(names.size).toBeGreaterThan(1);
  });

  for (const way of ['the socket', 'the HTTP stream'] as const) {
    it(`shows the passes as they come over ${way}, and says which one is under way`, async () => {
      const { page, problems } = await visit({}, way === 'the socket' ? undefined : refuseSocket, `#model=${CLASSES}&prompt=rocket&seed=3&n=2&timesteps=40`);
      const frames = await record(page);
      await page.evaluate(() => {
        const seen: { status: string; steps: number; hasImage: boolean }[] = [];
        Object.assign(window, { seenPasses: seen });
        const look = (): void => {
          requestAnimationFrame(look);
          const card = document.querySelector('.drawing-card');
          const tile = card?.querySelector('.tile');
          if (card == null || tile == null) return;
          seen.push({ status: card.querySelector('.status')?.textContent ?? '', steps: tile.querySelectorAll('.passes img').length, hasImage: tile.querySelector('.frame img') !== null });
        };
        look();
      });
      await press(page);
      await ended(page);
      await expect.poll(() => page.locator('.frame img').count()).toBe(2);
      const seen = await page.evaluate(() => (window as unknown as { seenPasses: { status: string; steps: number; hasImage: boolean }[] }).seenPasses);
      expectRising(seen.map(({ steps }) => steps));
      // The earlier passes are there before the picture is, one by one. A busy machine may skip a frame.
      const before = new Set(seen.filter(({ hasImage }) => !hasImage).map(({ steps }) => steps));
      expect(before.size).toBeGreaterThan(2);
      const words = [...new Set(seen.flatMap(({ status }) => /pass (\d) of 4/.exec(status)?.[1] ?? []))].map(Number);
      expectRising(words);
      expect(words.length).toBeGreaterThan(2);
      expectRising((await frames()).map(({ fraction }) => fraction));
      // Three different pictures, of each of the two.
      const alts = await page.locator('.passes img').evaluateAll((images) => images.map((image) => (image as HTMLImageElement).alt));
      expect(alts).toEqual([...[1, 2, 3], ...[1, 2, 3]].map((pass) => `rocket: pass ${pass} of 4`));
      const pixels = await page.locator('.passes img').evaluateAll((images) =>
        images.map((image) => {
          const canvas = document.createElement('canvas');
          canvas.getContext('2d')!.drawImage(image as HTMLImageElement, 0, 0);
          return canvas.toDataURL();
        }),
      );
      expect(new Set(pixels.slice(0, 3)).size).toBe(3);
      expect(await page.locator('.done').textContent()).toContain('8 passes');
      expect(problems.filter((problem) => !problem.includes('WebSocket'))).toEqual([]);
    });
  }

  for (const way of ['the socket', 'the HTTP stream'] as const) {
    it(`offers what may have been meant over ${way}, and draws what is pressed`, async () => {
      const { page } = await visit({}, way === 'the socket' ? undefined : refuseSocket, `#model=${CLASSES}&prompt=aple&seed=7`);
      await press(page);
      expect(await ended(page, 'failed')).toMatch(/Did you mean/);
      const choices = page.getByRole('group', { name: 'Did you mean' });
      expect(await choices.getByRole('button').allTextContents()).toContain('red apple');
      await choices.getByRole('button', { name: 'red apple' }).click();
      await ended(page);
      expect([await page.locator('.drawing-card h2').first().textContent(), await page.inputValue('#class')]).toEqual(['red apple', 'red apple']);
      const { json } = await site.server.draw({ model: CLASSES, prompt: 'red apple', seed: 7 });
      expect((await download(page)).base64).toBe(json.data[0]?.b64_json);
    });
  }

  it('brings back the model with a picture of the history and with a link; one that is gone is said', async () => {
    const { page } = await visit({}, undefined, `#model=${CLASSES}&prompt=penguin&seed=5`);
    await press(page);
    await ended(page);
    await expect.poll(() => page.locator('#entries li').count()).toBe(1);
    await page.goto(`${site.origin}/#prompt=fox&seed=1`);
    await page.reload();
    await page.locator('#way[data-way=live]').waitFor();
    expect(await page.inputValue('#model-choice')).toBe('nextstep-emoji64');
    await page.getByRole('button', { name: 'Bring back penguin, seed 5' }).click();
    expect([await page.inputValue('#model-choice'), await page.inputValue('#class'), await page.inputValue('#seed')]).toEqual([CLASSES, 'penguin', '5']);
    await page.goto(`${site.origin}/#prompt=fox&model=gone&seed=1`);
    await page.getByText('This server has no model “gone”').first().waitFor();
    expect([await page.inputValue('#model-choice'), await page.inputValue('#prompt')]).toEqual(['nextstep-emoji64', 'fox']);
    // A link may name a model alone.
    await page.goto(`${site.origin}/#model=${CLASSES}`);
    await expect.poll(() => page.inputValue('#model-choice')).toBe(CLASSES);
  });

  it('has no accessibility problem that axe finds, with the list open, light and dark, wide and on a phone', async () => {
    for (const [colorScheme, width] of [['light', 1280], ['dark', 390]] as const) {
      const { page, close } = await visit({ viewport: { width, height: 844 }, colorScheme, reducedMotion: 'reduce' }, undefined, `#model=${CLASSES}&prompt=robot&seed=3`);
      await press(page);
      await ended(page);
      await page.fill('#class', 'face');
      await page.keyboard.press('ArrowDown');
      await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'));
      const violations = await page.evaluate(async () => {
        const { axe } = window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } };
        return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
      });
      expect(violations).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
      await close();
    }
  });
});

/** A server of before, or of one model: there is nothing to choose. */
describe.skipIf(chromium === null || !isAddonBuilt())('the playground with one model', () => {
  it('names it and offers no choice', async () => {
    const [browser, server] = await Promise.all([launch(chromium!), ServerProcess.start()]);
    const { page, close } = await openPlayground(browser, `http://127.0.0.1:${server.port}`);
    expect([await page.locator('#model').textContent(), await page.locator('#model').isVisible(), await page.getByLabel('Model').isVisible()]).toEqual(['tiny', true, false]);
    await close();
    await browser.close();
    await server.stop();
  });
});
