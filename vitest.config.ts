import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // These drive a real browser: `npm run test:long` (vitest.browser.config.ts).
    exclude: ['test/web/browser/**'],
    // The e2e files start real servers; run beside each other they would measure one another.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
