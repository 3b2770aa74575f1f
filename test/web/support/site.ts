import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { ServerProcess } from '../../support/server-process.js';
import { launch } from './browser.js';
import { openPlayground, type Playground } from './playground.js';

type VisitOptions = Parameters<typeof openPlayground> extends [unknown, unknown, ...infer Rest] ? Rest : never;

/** A server with the bundled models, a browser, and the page that is open in it. */
export class Site {
  browser!: Browser;
  server!: ServerProcess;
  private page: Playground | null = null;

  get origin(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  get open(): Playground {
    if (this.page === null) throw new Error('no page is open');
    return this.page;
  }

  /** The page, closed after its test; `origin`: the server under another name. */
  async visitAt(origin: string, ...rest: VisitOptions): Promise<Playground> {
    this.page = await openPlayground(this.browser, origin, ...rest);
    return this.page;
  }

  readonly visit = (...rest: VisitOptions): Promise<Playground> => this.visitAt(this.origin, ...rest);

  async leave(): Promise<void> {
    await this.page?.close();
    this.page = null;
  }
}

/** One server and one browser for all tests of the `describe` that calls it. */
export function useSite(chromium: string | null): Site {
  const site = new Site();
  beforeAll(async () => {
    [site.browser, site.server] = await Promise.all([launch(chromium!), ServerProcess.start([], 'bundled')]);
  });
  afterEach(() => site.leave());
  afterAll(async () => {
    await site.browser.close();
    await site.server.stop();
  });
  return site;
}
