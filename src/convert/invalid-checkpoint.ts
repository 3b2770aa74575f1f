/** A checkpoint archive that is broken, hostile or of a kind this converter does not read. */
export class InvalidCheckpoint extends Error {
  override readonly name = 'InvalidCheckpoint';
}
