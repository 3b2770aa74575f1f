/** 128 random bits. `crypto.randomUUID` is for https and localhost only, and phones on the same network have neither. */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((word) => word.toString(16).padStart(8, '0')).join('');
}
