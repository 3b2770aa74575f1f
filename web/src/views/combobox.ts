import { h } from './dom.js';

export interface Option {
  /** What the field says once it is picked. */
  value: string;
  label: string;
  /** Said beside the label in a softer voice. */
  hint: string | null;
}

export interface OptionGroup {
  name: string | null;
  options: readonly Option[];
}

export interface ComboboxParts {
  input: HTMLInputElement;
  list: HTMLElement;
  /** Shows all options; for hands, the keyboard has the arrows. */
  toggle: HTMLButtonElement;
}

export interface ComboboxOptions {
  /** An empty query asks for everything. */
  find: (query: string) => readonly OptionGroup[];
  /** Instead of options that are not there. */
  nothing: () => string;
  /** Enter where no option is marked. */
  onEnter: () => void;
  /** The field says something else, by typing or picking. */
  onChange: () => void;
}

const PAGE = 8;

/** A field with a list of what it may say (ARIA's editable combobox): focus stays in the field, the arrows mark an option, Enter takes it. */
export class Combobox {
  private shown: HTMLElement[] = [];
  private marked: number | null = null;
  /** Nobody has typed since an option was picked: the list is then not narrowed by what the field says. */
  private isPicked = true;

  constructor(
    private readonly parts: ComboboxParts,
    private readonly options: ComboboxOptions,
  ) {
    const { input, list, toggle } = parts;
    input.addEventListener('input', () => {
      this.isPicked = false;
      this.open();
      options.onChange();
    });
    input.addEventListener('keydown', (event) => { this.onKey(event); });
    input.addEventListener('blur', () => { this.close(); });
    // Pressing must not take the focus, which would close the list before the press is done.
    for (const element of [list, toggle]) element.addEventListener('mousedown', (event) => { event.preventDefault(); });
    toggle.addEventListener('click', () => {
      input.focus();
      if (this.isOpen) this.close();
      else this.open('');
    });
    list.addEventListener('click', (event) => {
      const option = (event.target as Element).closest<HTMLElement>('[role=option]');
      if (option !== null) this.pick(option);
    });
  }

  set value(text: string) {
    this.parts.input.value = text;
    this.isPicked = true;
    this.close();
  }

  /** The options are others now. */
  refresh(): void {
    if (this.isOpen) this.open();
  }

  private get isOpen(): boolean {
    return !this.parts.list.hidden;
  }

  private onKey(event: KeyboardEvent): void {
    // While an input method composes a word, the keys belong to it.
    if (event.isComposing) return;
    if (this.act(event)) event.preventDefault();
  }

  /** Whether the key was for the list or the form. */
  private act(event: KeyboardEvent): boolean {
    switch (event.key) {
      case 'ArrowDown':
        return this.move(1);
      case 'ArrowUp':
        return this.move(-1);
      case 'PageDown':
        return this.isOpen && this.move(PAGE);
      case 'PageUp':
        return this.isOpen && this.move(-PAGE);
      case 'Escape':
        if (!this.isOpen) return false;
        // Once for the list; the next one may cancel a drawing.
        event.stopPropagation();
        this.close();
        return true;
      case 'Enter': {
        const option = this.marked === null ? undefined : this.shown[this.marked];
        if (this.isOpen && option !== undefined) this.pick(option);
        else {
          this.close();
          this.options.onEnter();
        }
        return true;
      }
      default:
        return false;
    }
  }

  private open(query = this.isPicked ? '' : this.parts.input.value): void {
    const { input, list, toggle } = this.parts;
    const groups = this.options.find(query);
    this.shown = [];
    list.replaceChildren(...groups.map((group, i) => this.group(group, i)));
    if (this.shown.length === 0) list.replaceChildren(h('div', { role: 'option', 'aria-disabled': 'true', class: 'none' }, this.options.nothing()));
    list.hidden = false;
    input.setAttribute('aria-expanded', 'true');
    toggle.setAttribute('aria-expanded', 'true');
    list.scrollTop = 0;
    this.mark(query === '' ? this.indexOf(input.value) : null);
  }

  private close(): void {
    const { input, list, toggle } = this.parts;
    list.hidden = true;
    input.setAttribute('aria-expanded', 'false');
    toggle.setAttribute('aria-expanded', 'false');
    this.mark(null);
  }

  private group({ name, options }: OptionGroup, index: number): HTMLElement {
    const elements = options.map(({ value, label, hint }) => {
      const element = h('div', { role: 'option', id: `${this.parts.list.id}-${this.shown.length}`, 'data-value': value, 'aria-selected': 'false' }, h('span', {}, label));
      if (hint !== null) element.append(h('span', { class: 'soft' }, hint));
      this.shown.push(element);
      return element;
    });
    if (name === null) return h('div', { role: 'group', 'aria-label': 'Others' }, ...elements);
    const id = `${this.parts.list.id}-group-${index}`;
    return h('div', { role: 'group', 'aria-labelledby': id }, h('div', { id, role: 'presentation', class: 'group-name' }, name), ...elements);
  }

  /** Opens the list, or marks another option; round from one end to the other by single steps. */
  private move(by: number): boolean {
    if (!this.isOpen) {
      this.open();
      if (this.marked !== null) return true;
    }
    const last = this.shown.length - 1;
    if (last < 0) return true;
    const from = this.marked ?? (by > 0 ? -1 : last + 1);
    const to = from + by;
    if (Math.abs(by) === 1) this.mark(to < 0 ? last : to > last ? 0 : to);
    else this.mark(Math.min(Math.max(to, 0), last));
    return true;
  }

  private mark(index: number | null): void {
    if (this.marked !== null) this.shown[this.marked]?.setAttribute('aria-selected', 'false');
    this.marked = index;
    const option = index === null ? undefined : this.shown[index];
    if (option === undefined) {
      this.parts.input.removeAttribute('aria-activedescendant');
      return;
    }
    option.setAttribute('aria-selected', 'true');
    this.parts.input.setAttribute('aria-activedescendant', option.id);
    // By hand: scrollIntoView would also move the page.
    const { list } = this.parts;
    const [top, bottom] = [option.offsetTop, option.offsetTop + option.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = index === 0 ? 0 : top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  }

  private indexOf(value: string): number | null {
    const index = this.shown.findIndex((option) => option.dataset['value'] === value);
    return index < 0 ? null : index;
  }

  private pick(option: HTMLElement): void {
    const value = option.dataset['value'];
    if (value === undefined) return;
    this.value = value;
    this.options.onChange();
  }
}
