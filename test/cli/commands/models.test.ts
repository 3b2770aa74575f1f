import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { ModelDescription } from '../../../src/gateway/schemas.js';
import { writeAccelerator } from '../../support/accelerator-folder.js';
import { createGateway } from '../../support/gateway-harness.js';
import { writeModelFolder } from '../../support/model-folder.js';
import { runCli } from '../../support/terminal.js';

describe('models', () => {
  it('inspects the bundled models', async () => {
    const { status, out } = await runCli(['models']);
    expect(status).toBe(0);
    expect(out).toMatch(/^nextstep-emoji64$/m);
    expect(out).toMatch(/^ {2}weights +1 file, \d+\.\d MB$/m);
    expect(out).toMatch(/^ {2}sizes +64x64$/m);
  });

  it('says what a folder lacks', async () => {
    const folder = writeModelFolder();
    const { status, out } = await runCli(['models', folder.directory]);
    expect(status).toBe(0);
    expect(out).toMatch(/^tiny$/m);
    expect(out).toMatch(/^ {2}weights +missing$/m);
    expect(out).toMatch(/^ {2}vae +missing/m);
    folder.remove();
  });

  it('shows what was calibrated, fastest first', async () => {
    const folder = writeModelFolder();
    expect((await runCli(['models', folder.directory])).out).toMatch(/^ {2}accelerations none$/m);
    writeAccelerator(folder.directory);
    const { out } = await runCli(['models', folder.directory]);
    expect(out).toMatch(/^ {2}accelerations 4\.50x relaxed, up to 6 drafts, few_step 1\n {16}3\.50x few_step 1$/m);
    expect(out).toMatch(/2\.00x few_step 4 \(worse than vanilla, only by name\)$/m);
    folder.remove();
  });

  it('names the file of a broken folder', async () => {
    const folder = writeModelFolder({ config: { vocab_size: 'many' } });
    const { status, err } = await runCli(['models', folder.directory]);
    expect(status).toBe(1);
    expect(err).toContain('config.json');
    folder.remove();
    expect((await runCli(['models', '/nowhere'])).err).toContain('/nowhere: no such folder');
  });

  it('lists those of a server, as it says itself with --json', async () => {
    const gateway = await createGateway();
    await gateway.app.listen({ port: 0, host: '127.0.0.1' });
    const url = `http://127.0.0.1:${(gateway.app.server.address() as AddressInfo).port}`;
    expect((await runCli(['models', '--url', url])).out).toMatch(/^ {2}sizes +64x64, 96x32, 128x128$/m);
    const { out } = await runCli(['models', '--url', url, '--json']);
    const direct = await gateway.app.inject('/v1/models');
    expect(JSON.parse(out) as { data: ModelDescription[] }).toEqual(direct.json());
    await gateway.close();
  });
});
