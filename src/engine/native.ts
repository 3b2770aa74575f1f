import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../errors.js';
import { ABI_VERSION, type NativeModule } from './native-types.js';

/** Root of the package: the folder above `src/` or `dist/`, wherever this file runs from. */
export const PACKAGE_ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Where cmake-js leaves the addon. */
export const ADDON_PATH = join(PACKAGE_ROOT, 'build', 'Release', 'fast_ardiff.node');

/** Loads the addon and refuses one that was built from another version of `native-types.ts`. */
export function loadNativeModule(path: string = ADDON_PATH): NativeModule {
  if (!existsSync(path)) {
    throw new EngineError('internal', `The native engine is not built: ${path} is missing. Run "npm run build".`);
  }
  const loaded: unknown = createRequire(import.meta.url)(path);
  if (!isNativeModule(loaded)) {
    throw new EngineError('internal', `${path} does not export abiVersion, cudaDevices and Engine; rebuild it with "npm run build".`);
  }
  if (loaded.abiVersion !== ABI_VERSION) {
    throw new EngineError(
      'internal',
      `${path} speaks ABI ${loaded.abiVersion}, this code speaks ${ABI_VERSION}; rebuild it with "npm run build".`,
    );
  }
  return loaded;
}

function isNativeModule(value: unknown): value is NativeModule {
  return (
    typeof value === 'object' &&
    value !== null &&
    'abiVersion' in value &&
    typeof value.abiVersion === 'number' &&
    'cudaDevices' in value &&
    typeof value.cudaDevices === 'function' &&
    'Engine' in value &&
    typeof value.Engine === 'function'
  );
}
