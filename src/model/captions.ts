import { InvalidModelFile, readObject, readOptional, readString } from './json-file.js';

/** How to talk to a model: for people at a prompt box, nothing that the server draws by. */
export interface Captions {
  /** What to append to a caption for a style the model was trained on; empty: the model has none to offer. */
  styles: readonly CaptionStyle[];
  /** Prompts that it draws well. */
  examples: readonly string[];
}

export interface CaptionStyle {
  name: string;
  suffix: string;
}

/** For folders without captions.json, as all released ones are. */
export const NO_CAPTIONS: Captions = { styles: [], examples: [] };

/** `captions.json` of a model folder. */
export function parseCaptions(file: string, value: unknown): Captions {
  const json = readObject(file, value);
  const text = readString(file);
  return {
    styles: readOptional(json, 'styles', [], listOf(file, (key, item) => {
      const style = readObject(file, item);
      return { name: text(`${key}.name`, style['name']), suffix: text(`${key}.suffix`, style['suffix']) };
    })),
    examples: readOptional(json, 'examples', [], listOf(file, text)),
  };
}

function listOf<T>(file: string, read: (key: string, value: unknown) => T) {
  return (key: string, value: unknown): readonly T[] => {
    if (!Array.isArray(value)) throw new InvalidModelFile(file, `"${key}" must be a list`);
    return value.map((item, i) => read(`${key}[${i}]`, item));
  };
}
