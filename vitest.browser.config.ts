import { defineConfig } from 'vitest/config';

/** The page in a real Chromium against a real server with the bundled model; part of `npm run test:long`. */
export default defineConfig({
  test: {
    include: ['test/web/browser/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
