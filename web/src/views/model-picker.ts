import type { Model } from '../protocol/http.js';
import { modelInWords } from '../state/models.js';
import { byId, h, setText } from './dom.js';

/** The models of the server: a choice where there are several, a name where there is one. */
export class ModelPicker {
  private readonly field = byId('model-field', HTMLElement);
  private readonly select = byId('model-choice', HTMLSelectElement);
  private readonly name = byId('model', HTMLParagraphElement);

  constructor(onPick: (id: string) => void) {
    this.select.addEventListener('change', () => { onPick(this.select.value); });
  }

  offer(models: readonly Model[]): void {
    this.select.replaceChildren(...models.map((model) => h('option', { value: model.id }, modelInWords(model))));
    this.field.hidden = models.length < 2;
    this.name.hidden = models.length > 1;
  }

  show({ id }: Model): void {
    this.select.value = id;
    setText(this.name, id);
  }
}
