/** Released TransDiff pickles, model and VAE -> a model folder. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withCheckpoint, writeTensors, type Converted } from './convert.js';
import { imagenetClasses } from './imagenet-classes.js';
import { InvalidCheckpoint } from './invalid-checkpoint.js';
import { readKlVaeShapes, vaeTensors, type KlVaeShapes } from './kl-vae-shapes.js';
import { configOf, type TransDiffConfig } from './transdiff-config.js';
import { isTransDiff, readTransDiffShapes, type TransDiffShapes } from './transdiff-shapes.js';

export interface TransDiffSources {
  model: string;
  vae: string;
  /** Where the published table does not say. */
  heads?: number;
}

export interface ConvertedFolder {
  config: TransDiffConfig;
  /** classes.json was written. */
  named: boolean;
  model: Converted;
  vae: Converted;
}

/** Both files are checked completely before anything is written. config.json comes last: a folder with it is whole. */
export async function convertTransDiff({ model: modelPath, vae: vaePath, heads }: TransDiffSources, folder: string): Promise<ConvertedFolder> {
  return withCheckpoint(modelPath, (modelTensors, modelArchive) =>
    withCheckpoint(vaePath, async (allVaeTensors, vaeArchive) => {
      const model = naming(modelPath, (): TransDiffShapes => {
        if (!isTransDiff(modelTensors)) throw new InvalidCheckpoint('is no TransDiff model: class_emb.weight or diffdecoder.net.input_proj.weight is missing');
        return readTransDiffShapes(modelTensors);
      });
      const autoencoder = vaeTensors(allVaeTensors);
      const vae = naming(vaePath, (): KlVaeShapes => readKlVaeShapes(autoencoder));
      const config = configOf(model, vae, heads);
      await mkdir(join(folder, 'vae'), { recursive: true });
      const written = {
        model: await writeTensors(modelArchive, modelTensors, join(folder, 'model.safetensors')),
        vae: await writeTensors(vaeArchive, autoencoder, join(folder, 'vae', 'model.safetensors')),
      };
      const named = await writeClasses(folder, model);
      await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
      return { config, named, ...written };
    }),
  );
}

/** No checkpoint names its classes; a thousand are those of ImageNet, which all released models draw. A list that is there stays. */
async function writeClasses(folder: string, { classes }: TransDiffShapes): Promise<boolean> {
  const path = join(folder, 'classes.json');
  const list = imagenetClasses();
  if (classes !== list.classes.length || existsSync(path)) return false;
  await writeFile(path, `${JSON.stringify(list)}\n`);
  return true;
}

/** Two files are read; an error must say which it is about. */
function naming<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof InvalidCheckpoint ? new InvalidCheckpoint(`${path}: ${error.message}`) : error;
  }
}
