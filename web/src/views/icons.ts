import { svg } from './dom.js';

/** Stroked paths on a 24 x 24 field. */
const PATHS = {
  dice: ['M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2z', 'M8.5 8.5h.01', 'M15.5 8.5h.01', 'M12 12h.01', 'M8.5 15.5h.01', 'M15.5 15.5h.01'],
  locked: ['M6 11h12a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1z', 'M8 11V7.5a4 4 0 0 1 8 0V11'],
  unlocked: ['M6 11h12a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1z', 'M8 11V7.5a4 4 0 0 1 7.6-1.7'],
  down: ['M7 10l5 5 5-5'],
  minus: ['M6 12h12'],
  plus: ['M6 12h12', 'M12 6v12'],
  download: ['M12 4v11', 'M7.5 11l4.5 4.5 4.5-4.5', 'M5 20h14'],
  link: ['M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.7l-1 1', 'M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1'],
  terminal: ['M5 7l5 5-5 5', 'M12.5 17H19'],
  close: ['M6.5 6.5l11 11', 'M17.5 6.5l-11 11'],
} as const;

export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGElement {
  const paths = PATHS[name].map((d) => svg('path', { d }));
  return svg('svg', { viewBox: '0 0 24 24', class: 'glyph', 'aria-hidden': 'true', focusable: 'false' }, ...paths);
}

/** Buttons of index.html name their picture in `data-icon`. */
export function fillIcons(root: ParentNode): void {
  for (const element of root.querySelectorAll<HTMLElement>('[data-icon]')) setIcon(element, element.dataset['icon'] as IconName);
}

export function setIcon(element: HTMLElement, name: IconName): void {
  element.replaceChildren(icon(name));
}
