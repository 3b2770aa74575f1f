import type { Model } from '../protocol/http.js';
import { drawsClasses, keyOf, modelFor } from '../state/models.js';
import { accelerationChoices, INITIAL, rollSeed, type Settings } from '../state/settings.js';
import { byId, h, setText } from './dom.js';
import { setIcon } from './icons.js';
import { ModelPicker } from './model-picker.js';
import { PromptField } from './prompt-field.js';

/** Sliders end where pictures stop changing for the better, unless the default lies beyond; the API takes more. */
const SLIDER_SPAN = { guidance: 10, timesteps: 50 } as const;

/** The form: shows settings, reads them, asks for drawings. */
export class Composer {
  private readonly form = byId('composer', HTMLFormElement);
  private readonly picker = new ModelPicker((id) => { this.pick(id); });
  private readonly prompt: PromptField;
  private readonly seed = byId('seed', HTMLInputElement);
  private readonly lock = byId('lock', HTMLButtonElement);
  private readonly n = byId('n', HTMLInputElement);
  private readonly size = byId('size', HTMLSelectElement);
  private readonly guidance = byId('guidance', HTMLInputElement);
  private readonly timesteps = byId('timesteps', HTMLInputElement);
  private readonly negative = byId('negative', HTMLInputElement);
  private readonly way = byId('acceleration', HTMLSelectElement);
  private models: readonly [Model, ...Model[]] | null = null;
  private chosen: Model | null = null;
  /** The shown seed has been drawn with: it stays to be seen and kept, and the next drawing rolls another. */
  private isSeedUsed = false;

  constructor(private readonly onDraw: () => void) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.prompt = new PromptField(() => { this.submit(); });
    byId('roll', HTMLButtonElement).addEventListener('click', () => { this.roll(); });
    this.lock.addEventListener('click', () => { this.setLock(this.lock.getAttribute('aria-pressed') !== 'true'); });
    // A seed that somebody typed is a seed that somebody wants.
    this.seed.addEventListener('input', () => { this.setLock(true); });
    this.seed.addEventListener('change', () => { this.seed.value = String(this.readSeed()); });
    byId('fewer', HTMLButtonElement).addEventListener('click', () => { this.step(-1); });
    byId('more', HTMLButtonElement).addEventListener('click', () => { this.step(1); });
    this.n.addEventListener('change', () => { this.step(0); });
    for (const slider of [this.guidance, this.timesteps]) slider.addEventListener('input', () => { this.showSliders(); });
    byId('defaults', HTMLButtonElement).addEventListener('click', () => { this.showDefaults(); });
    this.roll();
  }

  /** That draws what the form asks for; null before the server has answered. */
  get model(): Model | null {
    return this.chosen;
  }

  offer(models: readonly [Model, ...Model[]]): void {
    this.models = models;
    this.picker.offer(models);
    this.describe(models[0]);
  }

  /** Offers what the model does. */
  private describe(model: Model): void {
    this.chosen = model;
    this.picker.show(model);
    this.prompt.describe(model);
    this.n.max = String(model.limits.n);
    const { defaults, limits } = model;
    this.guidance.max = String(Math.min(limits.guidance_scale, Math.max(SLIDER_SPAN.guidance, defaults.guidance_scale)));
    this.timesteps.max = String(Math.min(limits.num_inference_steps, Math.max(SLIDER_SPAN.timesteps, defaults.num_inference_steps)));
    this.size.replaceChildren(...model.sizes.map((size) => h('option', { value: size }, size.replace('x', ' × '))));
    byId('size-field', HTMLElement).hidden = model.sizes.length < 2;
    const ways = accelerationChoices(model);
    this.way.replaceChildren(h('option', { value: '' }, 'as the server chooses'), ...ways.map(({ key, label }) => h('option', { value: key }, label)));
    byId('acceleration-field', HTMLElement).hidden = ways.length === 0;
    const isClass = drawsClasses(model);
    setText(byId('timesteps-label', HTMLElement), model.passes === undefined ? 'Timesteps per token' : 'Timesteps per pass');
    byId('negative-field', HTMLElement).hidden = isClass;
    this.showStyles(model);
    this.showDefaults();
  }

  pick(id: string): void {
    if (this.models !== null) this.describe(modelFor(this.models, id));
  }

  read(): Settings {
    const { model } = this;
    const unlessDefault = (value: number, fallback: number | undefined): number | null => (value === fallback ? null : value);
    return {
      model: model === null || this.models === null ? null : keyOf(this.models, model),
      prompt: this.prompt.value,
      style: this.form.querySelector<HTMLInputElement>('input[name=style]:checked')?.value ?? '',
      seed: this.readSeed(),
      isSeedLocked: this.lock.getAttribute('aria-pressed') === 'true',
      n: this.readN(),
      size: model === null || this.size.value === model.default_size ? null : this.size.value,
      guidance: unlessDefault(Number(this.guidance.value), model?.defaults.guidance_scale),
      timesteps: unlessDefault(Number(this.timesteps.value), model?.defaults.num_inference_steps),
      negativePrompt: model !== null && drawsClasses(model) ? '' : this.negative.value,
      acceleration: this.way.value === '' ? null : this.way.value,
    };
  }

  /** Of the model that they name. */
  show(settings: Settings): void {
    const wanted = this.models === null ? null : modelFor(this.models, settings.model);
    if (wanted !== null && wanted !== this.chosen) this.describe(wanted);
    const { model } = this;
    this.prompt.value = settings.prompt;
    for (const radio of this.form.querySelectorAll<HTMLInputElement>('input[name=style]')) radio.checked = radio.value === settings.style;
    this.seed.value = String(settings.seed);
    this.setLock(settings.isSeedLocked);
    this.n.value = String(settings.n);
    this.step(0);
    if (model !== null) {
      this.size.value = settings.size ?? model.default_size;
      // A link may ask for more than the slider offers.
      for (const [slider, value] of [[this.guidance, settings.guidance], [this.timesteps, settings.timesteps]] as const) {
        slider.max = String(Math.max(Number(slider.max), value ?? 0));
      }
      this.guidance.value = String(settings.guidance ?? model.defaults.guidance_scale);
      this.timesteps.value = String(settings.timesteps ?? model.defaults.num_inference_steps);
    }
    this.negative.value = settings.negativePrompt;
    this.way.value = settings.acceleration ?? '';
    this.showSliders();
  }

  /** The settings of a drawing that starts now. */
  take(): Settings {
    if (this.isSeedUsed && this.lock.getAttribute('aria-pressed') !== 'true') this.roll();
    this.isSeedUsed = true;
    this.seed.value = String(this.readSeed());
    return this.read();
  }

  focus(): void {
    this.prompt.focus();
  }

  private submit(): void {
    if (this.prompt.check()) this.onDraw();
  }

  private roll(): void {
    this.seed.value = String(rollSeed());
    this.isSeedUsed = false;
  }

  private readSeed(): number {
    const value = Number(this.seed.value);
    const isSeed = /^\d+$/.test(this.seed.value.trim()) && value <= Number.MAX_SAFE_INTEGER;
    return isSeed ? value : rollSeed();
  }

  private readN(): number {
    const value = Math.round(Number(this.n.value));
    return Math.min(Math.max(Number.isFinite(value) ? value : 1, 1), Number(this.n.max) || 1);
  }

  private step(by: number): void {
    this.n.value = String(this.readN() + by);
    this.n.value = String(this.readN());
    byId('fewer', HTMLButtonElement).disabled = this.readN() <= 1;
    byId('more', HTMLButtonElement).disabled = this.readN() >= Number(this.n.max);
  }

  private setLock(isLocked: boolean): void {
    this.lock.setAttribute('aria-pressed', String(isLocked));
    this.lock.title = isLocked ? 'The seed stays. Press for a new one each time.' : 'Keep this seed';
    setIcon(this.lock, isLocked ? 'locked' : 'unlocked');
  }

  private showDefaults(): void {
    if (this.model === null) return;
    const { model, prompt, style, seed, isSeedLocked, n } = this.read();
    this.show({ ...INITIAL, model: model ?? null, prompt, style, seed, isSeedLocked, n });
  }

  private showSliders(): void {
    const { defaults } = this.model ?? {};
    const label = (value: string, fallback: number | undefined): string => (Number(value) === fallback ? `${value} (default)` : value);
    setText(byId('guidance-value', HTMLOutputElement), Number(this.guidance.value) === 1 ? 'off' : label(this.guidance.value, defaults?.guidance_scale));
    setText(byId('timesteps-value', HTMLOutputElement), label(this.timesteps.value, defaults?.num_inference_steps));
  }

  private showStyles({ styles }: Model): void {
    const box = byId('styles', HTMLFieldSetElement);
    box.hidden = styles.length === 0;
    box.querySelector('.chips')?.replaceChildren(
      ...styles.map(({ name, suffix }, i) => h('label', { class: 'chip radio' }, h('input', { type: 'radio', name: 'style', value: suffix, checked: i === 0 }), h('span', {}, name))),
    );
  }
}
