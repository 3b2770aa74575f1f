import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';

/** One file of the page, in memory: it is small, and what is not in the list cannot be asked for. */
export interface PageFile {
  bytes: Buffer;
  contentType: string;
  /** Quoted, as the header wants it. */
  etag: string;
  /** Its name holds a hash of its content, so that a browser need never ask again. */
  immutable: boolean;
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
};

/** What vite left in `directory`, by URL path; `index.html` is `/`. Empty when there is no such folder. */
export function readPageFiles(directory: string): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  if (!existsSync(join(directory, 'index.html'))) return files;
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const contentType = CONTENT_TYPES[extname(entry.name)];
    // Set-up's stamp, and whatever else is no part of a page.
    if (!entry.isFile() || contentType === undefined) continue;
    const path = join(entry.parentPath, entry.name);
    const url = `/${relative(directory, path).split(sep).join('/')}`;
    const bytes = readFileSync(path);
    const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
    files.set(url === '/index.html' ? '/' : url, { bytes, contentType, etag, immutable: url.startsWith('/assets/') });
  }
  return files;
}
