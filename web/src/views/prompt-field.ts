import type { Model } from '../protocol/http.js';
import { drawsClasses } from '../state/models.js';
import { ClassField } from './class-field.js';
import { byId, h, setText } from './dom.js';

/** What is to be drawn, in whichever way the model wants to be told: a caption, or one of its classes. */
export class PromptField {
  private readonly caption = byId('prompt', HTMLTextAreaElement);
  private readonly problem = byId('prompt-problem', HTMLParagraphElement);
  private readonly classes: ClassField;
  private isClass = false;

  constructor(onSubmit: () => void) {
    this.classes = new ClassField({ onEnter: onSubmit, onChange: () => { this.complain(''); } });
    this.caption.addEventListener('keydown', (event) => {
      // While an input method composes a word, Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      onSubmit();
    });
    this.caption.addEventListener('input', () => { this.complain(''); });
  }

  /** Each way keeps its own text while the other one is used. */
  describe(model: Model): void {
    this.isClass = drawsClasses(model);
    this.caption.maxLength = model.limits.prompt_characters;
    byId('caption-field', HTMLElement).hidden = this.isClass;
    byId('class-field', HTMLElement).hidden = !this.isClass;
    if (this.isClass) this.classes.describe(model.id);
    this.complain('');
    this.showExamples(model.example_prompts);
  }

  get value(): string {
    return this.isClass ? this.classes.value : this.caption.value;
  }

  set value(text: string) {
    if (this.isClass) this.classes.value = text;
    else this.caption.value = text;
    this.complain('');
  }

  focus(): void {
    this.input.focus();
  }

  /** False, and told, where nothing was asked for. */
  check(): boolean {
    if (this.value.trim() !== '') return true;
    this.complain(this.isClass ? 'Choose a class first.' : 'Say what to draw first.');
    this.focus();
    return false;
  }

  private get input(): HTMLInputElement | HTMLTextAreaElement {
    return this.isClass ? this.classes.input : this.caption;
  }

  private complain(text: string): void {
    setText(this.problem, text);
    this.problem.hidden = text === '';
    for (const input of [this.caption, this.classes.input]) input.toggleAttribute('aria-invalid', text !== '' && input === this.input);
  }

  private showExamples(examples: readonly string[]): void {
    const box = byId('examples', HTMLElement);
    box.hidden = examples.length === 0;
    box.setAttribute('aria-label', this.isClass ? 'Example classes' : 'Example prompts');
    box.replaceChildren(
      ...examples.map((text) => {
        const chip = h('button', { type: 'button', class: 'chip' }, text);
        chip.addEventListener('click', () => {
          this.value = text;
          this.focus();
        });
        return chip;
      }),
    );
  }
}
