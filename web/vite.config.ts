import { defineConfig } from 'vite';

/** Where `npm run dev:web` finds a server to talk to. */
const SERVER = 'http://127.0.0.1:8080';

export default defineConfig({
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2022',
    // The policy allows no inline script and no data: URL outside of pictures.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      '/v1': { target: SERVER, ws: true },
      '/metrics': { target: SERVER },
    },
  },
});
