import { describe, expect, it } from 'vitest';
import { ConfigError, onlyDevice, onlyModel, readConfig, usage } from '../src/config.js';

describe('readConfig', () => {
  it.each([
    [['--port', '70000'], {}, '--port'],
    [['--port', 'x'], {}, '--port'],
    [[], { PORT: '-1' }, 'PORT'],
    [['--backend', 'gpu'], {}, '--backend'],
    [['--backend', 'cuda:01'], {}, '--backend'],
    [['--device', 'gpu'], {}, '--device'],
    [[], { ARDIFF_DEVICE: 'cpu,auto' }, 'ARDIFF_DEVICE'],
    [['--dtype', 'int8'], {}, '--dtype'],
    [['--kv-sequences', '0'], {}, '--kv-sequences'],
    [['--nonsense', '1'], {}, '--nonsense'],
    [['folder'], {}, 'folder'],
  ])('refuses %j %j and names it', (argv, env, name) => {
    expect(() => readConfig(argv, env)).toThrow(ConfigError);
    expect(() => readConfig(argv, env)).toThrow(name);
  });

  it('has a default for everything', () => {
    expect(readConfig([], {})).toMatchObject({ port: 8080, devices: ['auto'], dtype: 'auto', threads: 0, kvSequences: 16, queue: 64 });
  });

  it('serves the bundled models, captions first; commands that work on one take that', () => {
    const config = readConfig([], {});
    expect(config.modelDirectories).toEqual([expect.stringMatching(/models\/nextstep-emoji64$/), expect.stringMatching(/models\/transdiff-emoji64$/)]);
    expect(onlyModel(config)).toBe(config.modelDirectories[0]);
    expect(usage()).toContain('default the bundled demo models');
  });

  it('takes the environment, and flags before it; empty variables are absent', () => {
    expect(readConfig([], { PORT: '9000', HOST: '' })).toMatchObject({ port: 9000, host: '0.0.0.0' });
    expect(readConfig(['--port=0', '--model', 'm'], { PORT: '9000' })).toMatchObject({ port: 0, modelDirectories: ['m'] });
  });

  it('takes several models, whose names differ', () => {
    expect(readConfig(['--model', 'models/a, /other/b/'], {}).modelDirectories).toEqual(['models/a', '/other/b/']);
    expect(() => readConfig(['--model', 'models/a,/other/a'], {})).toThrow(/two model folders are called "a"/);
    expect(() => readConfig(['--model', ','], {})).toThrow(/expected a model folder/);
    expect(() => onlyModel(readConfig(['--model', 'a,b'], {}))).toThrow(ConfigError);
    expect(onlyModel(readConfig(['--model', 'a'], {}))).toBe('a');
  });

  it('takes devices by flag, variable, or the backend that names one', () => {
    expect(readConfig(['--device', 'cuda:0,cuda:1'], { ARDIFF_DEVICE: 'cpu' }).devices).toEqual(['cuda:0', 'cuda:1']);
    expect(readConfig([], { ARDIFF_DEVICE: 'cuda' }).devices).toEqual(['cuda:0']);
    expect(readConfig(['--backend', 'reference'], {}).devices).toEqual(['reference']);
    expect(() => readConfig(['--device', 'cpu'], { ARDIFF_BACKEND: 'cuda' })).toThrow(ConfigError);
    expect(() => onlyDevice(readConfig(['--device', 'cpu,cpu'], {}))).toThrow(/one device is expected, received 2/);
  });

  it('is frozen', () => {
    expect(Object.isFrozen(readConfig([], {}))).toBe(true);
  });

  it('documents every flag', () => {
    for (const flag of ['--port', '--model', '--dtype', '--queue', '--log-level']) expect(usage()).toContain(flag);
  });
});
