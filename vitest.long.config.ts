import { defineConfig } from 'vitest/config';

/** The slow tests of `npm run test:long`: minutes, real servers, programs that not every machine has. */
export default defineConfig({
  test: {
    include: ['test/long/**/*.long.ts'],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 120_000,
  },
});
