import { describe, expect, it } from 'vitest';
import { VERSION } from '../../src/version.js';
import { runCli } from '../support/terminal.js';

const COMMANDS = ['serve', 'generate', 'models', 'convert', 'bench'];

describe('the command line', () => {
  it.each([['--help'], ['-h'], ['help']])('lists its commands for %s', async (flag) => {
    const { status, out } = await runCli([flag]);
    expect(status).toBe(0);
    for (const name of COMMANDS) expect(out).toMatch(new RegExp(`^  ${name} `, 'm'));
  });

  it('shows the same when nothing is asked, as an error', async () => {
    expect((await runCli([])).status).toBe(2);
  });

  it.each(COMMANDS)('%s --help starts with how to call it and fits a wide terminal', async (name) => {
    const { status, out, err } = await runCli([name, '--help']);
    expect([status, err]).toEqual([0, '']);
    expect(out).toMatch(new RegExp(`^Usage: fast-ardiff ${name} `));
    for (const line of out.split('\n')) expect(line.length).toBeLessThan(160);
  });

  it.each([
    [['nothing'], 'unknown command "nothing"'],
    [['constructor'], 'unknown command "constructor"'],
    [['generate'], 'a prompt is missing'],
    [['generate', 'red', 'apple'], 'put it in quotes'],
    [['generate', 'x', '--step', '3'], "'--step'"],
    [['generate', 'x', '-n', '11'], '--n: expected an integer from 1 to 10'],
    [['generate', 'x', '-n', '2', '-o', '-'], '--out'],
    [['generate', 'x', '--url', 'http://localhost:1', '--threads', '2'], '--threads'],
    [['generate', 'x', '--dtype', 'float8'], '--dtype'],
    [['models', 'a', 'b'], 'one folder'],
    [['models', 'a', '--url', 'http://localhost:1'], '--url'],
    [['convert'], 'a folder or a file'],
    [['convert', '/nowhere.pt'], '/nowhere.pt'],
    [['bench', '--url', 'x'], '--url'],
    [['bench', '--url', 'http://localhost:1', '--requests', '0'], '--requests'],
  ])('%j exits with 2 and names what is wrong', async (argv, message) => {
    const { status, out, err } = await runCli(argv);
    expect(status).toBe(2);
    expect(err).toContain(message);
    expect(out).toBe('');
  });

  it('says its version', async () => {
    expect(await runCli(['--version'])).toMatchObject({ status: 0, out: `${VERSION}\n` });
  });
});
