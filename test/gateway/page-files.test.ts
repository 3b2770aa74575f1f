import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readPageFiles } from '../../src/gateway/page-files.js';

let directory = '';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ardiff-page-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('readPageFiles', () => {
  it('has no page when there is no folder, or one without an entry', () => {
    expect(readPageFiles(join(directory, 'nowhere')).size).toBe(0);
    expect(readPageFiles(directory).size).toBe(0);
  });

  it('reads the entry and hashed files by URL, and leaves out what is no part of a page', () => {
    mkdirSync(join(directory, 'assets'));
    writeFileSync(join(directory, 'index.html'), '<!doctype html>');
    writeFileSync(join(directory, '.setup-stamp'), 'stamp');
    writeFileSync(join(directory, 'assets', 'index-abc.js'), 'export {};');
    writeFileSync(join(directory, 'assets', 'index-abc.css'), 'p {}');
    const files = readPageFiles(directory);
    expect([...files.keys()].sort()).toEqual(['/', '/assets/index-abc.css', '/assets/index-abc.js']);
    expect(files.get('/')).toMatchObject({ contentType: 'text/html; charset=utf-8', immutable: false });
    expect(files.get('/assets/index-abc.js')).toMatchObject({ contentType: 'text/javascript; charset=utf-8', immutable: true });
    expect(files.get('/')?.etag).not.toBe(files.get('/assets/index-abc.js')?.etag);
  });
});
