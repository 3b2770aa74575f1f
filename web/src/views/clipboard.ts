import { h } from './dom.js';

/** Resolves with whether the text is on the clipboard. Pages that are not on localhost or https only have the old way. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text: string): boolean {
  const before = document.activeElement;
  const field = h('textarea', { class: 'unseen', readonly: true, 'aria-hidden': 'true' }, text);
  document.body.append(field);
  field.select();
  // Deprecated, and the only way outside of secure contexts.
  const copied = (document as unknown as { execCommand(command: string): boolean }).execCommand('copy');
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}
