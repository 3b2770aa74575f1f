import { fetchClasses, type ImageClass } from '../protocol/classes.js';
import { grouped, matchClasses, promptOf, randomClass, type ClassMatch } from '../state/classes.js';
import { Combobox, type OptionGroup } from './combobox.js';
import { byId } from './dom.js';

/** The prompt of a model that draws classes: one of them, found by name or synonym, or left to chance. What is typed is sent as it is; the server knows best. */
export class ClassField {
  readonly input = byId('class', HTMLInputElement);
  private readonly random = byId('class-random', HTMLButtonElement);
  private readonly combobox: Combobox;
  /** Lists that were fetched, by model. */
  private readonly lists = new Map<string, readonly ImageClass[]>();
  private model: string | null = null;
  private isFailed = false;

  constructor({ onEnter, onChange }: { onEnter: () => void; onChange: () => void }) {
    const parts = { input: this.input, list: byId('class-list', HTMLElement), toggle: byId('class-open', HTMLButtonElement) };
    this.combobox = new Combobox(parts, { find: (query) => this.find(query), nothing: () => this.nothing(), onEnter, onChange });
    this.input.addEventListener('focus', () => { if (this.isFailed && this.model !== null) void this.load(this.model); });
    this.random.addEventListener('click', () => {
      const entry = randomClass(this.classes);
      if (entry === null) return;
      this.value = promptOf(entry, this.classes);
      onChange();
    });
  }

  get value(): string {
    return this.input.value;
  }

  set value(text: string) {
    this.combobox.value = text;
  }

  describe(model: string): void {
    this.model = model;
    if (!this.lists.has(model)) void this.load(model);
    this.showCount();
  }

  private get classes(): readonly ImageClass[] {
    return (this.model === null ? undefined : this.lists.get(this.model)) ?? [];
  }

  private async load(model: string): Promise<void> {
    this.isFailed = false;
    try {
      this.lists.set(model, await fetchClasses(model));
    } catch {
      this.isFailed = true;
    }
    if (this.model !== model) return;
    this.showCount();
    this.combobox.refresh();
  }

  private showCount(): void {
    const count = this.classes.length;
    this.random.disabled = count === 0;
    this.input.placeholder = count === 0 ? 'The name of a class' : `Find one of ${count} classes`;
  }

  private find(query: string): OptionGroup[] {
    const { classes } = this;
    const optionOf = ({ entry, via }: ClassMatch): OptionGroup['options'][number] => {
      const value = promptOf(entry, classes);
      // Classes of one name are told apart by what else they are called.
      const hint = via ?? (value === entry.name ? null : entry.synonyms.join(', '));
      return { value, label: entry.name, hint };
    };
    return grouped(matchClasses(classes, query)).map(({ name, matches }) => ({ name, options: matches.map(optionOf) }));
  }

  private nothing(): string {
    if (this.isFailed) return 'The list of classes could not be loaded.';
    return this.classes.length === 0 ? 'Loading the classes …' : 'No class is called so. Enter finds what is close.';
  }
}
