import type { Model } from '../protocol/http.js';
import { accelerationChoices, INITIAL, rollSeed, type Settings } from '../state/settings.js';
import { byId, h, setText } from './dom.js';
import { setIcon } from './icons.js';

/** Sliders end where pictures stop changing for the better, unless the default lies beyond; the API takes more. */
const SLIDER_SPAN = { guidance: 10, timesteps: 50 } as const;

/** The form: shows settings, reads them, asks for drawings. */
export class Composer {
  private readonly form = byId('composer', HTMLFormElement);
  private readonly prompt = byId('prompt', HTMLTextAreaElement);
  private readonly problem = byId('prompt-problem', HTMLParagraphElement);
  private readonly seed = byId('seed', HTMLInputElement);
  private readonly lock = byId('lock', HTMLButtonElement);
  private readonly n = byId('n', HTMLInputElement);
  private readonly size = byId('size', HTMLSelectElement);
  private readonly guidance = byId('guidance', HTMLInputElement);
  private readonly timesteps = byId('timesteps', HTMLInputElement);
  private readonly negative = byId('negative', HTMLInputElement);
  private readonly way = byId('acceleration', HTMLSelectElement);
  private model: Model | null = null;
  /** The shown seed has been drawn with: it stays to be seen and kept, and the next drawing rolls another. */
  private isSeedUsed = false;

  constructor(private readonly onDraw: () => void) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.prompt.addEventListener('keydown', (event) => {
      // While an input method composes a word, Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.prompt.addEventListener('input', () => { this.complain(''); });
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

  /** Offers what the model does. */
  describe(model: Model): void {
    this.model = model;
    this.prompt.maxLength = model.limits.prompt_characters;
    this.n.max = String(model.limits.n);
    const { defaults, limits } = model;
    this.guidance.max = String(Math.min(limits.guidance_scale, Math.max(SLIDER_SPAN.guidance, defaults.guidance_scale)));
    this.timesteps.max = String(Math.min(limits.num_inference_steps, Math.max(SLIDER_SPAN.timesteps, defaults.num_inference_steps)));
    this.size.replaceChildren(...model.sizes.map((size) => h('option', { value: size }, size.replace('x', ' × '))));
    byId('size-field', HTMLElement).hidden = model.sizes.length < 2;
    const ways = accelerationChoices(model);
    this.way.replaceChildren(h('option', { value: '' }, 'as the server chooses'), ...ways.map(({ key, label }) => h('option', { value: key }, label)));
    byId('acceleration-field', HTMLElement).hidden = ways.length === 0;
    this.showExamples(model);
    this.showStyles(model);
    this.showDefaults();
  }

  read(): Settings {
    const { model } = this;
    const unlessDefault = (value: number, fallback: number | undefined): number | null => (value === fallback ? null : value);
    return {
      prompt: this.prompt.value,
      style: this.form.querySelector<HTMLInputElement>('input[name=style]:checked')?.value ?? '',
      seed: this.readSeed(),
      isSeedLocked: this.lock.getAttribute('aria-pressed') === 'true',
      n: this.readN(),
      size: model === null || this.size.value === model.default_size ? null : this.size.value,
      guidance: unlessDefault(Number(this.guidance.value), model?.defaults.guidance_scale),
      timesteps: unlessDefault(Number(this.timesteps.value), model?.defaults.num_inference_steps),
      negativePrompt: this.negative.value,
      acceleration: this.way.value === '' ? null : this.way.value,
    };
  }

  show(settings: Settings): void {
    const { model } = this;
    this.prompt.value = settings.prompt;
    this.complain('');
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
    if (this.prompt.value.trim() === '') {
      this.complain('Say what to draw first.');
      this.prompt.focus();
      return;
    }
    this.onDraw();
  }

  private complain(text: string): void {
    setText(this.problem, text);
    this.problem.hidden = text === '';
    this.prompt.toggleAttribute('aria-invalid', text !== '');
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
    this.show({ ...INITIAL, prompt: this.prompt.value, style: this.read().style, seed: this.readSeed(), isSeedLocked: this.read().isSeedLocked, n: this.readN() });
  }

  private showSliders(): void {
    const { defaults } = this.model ?? {};
    const label = (value: string, fallback: number | undefined): string => (Number(value) === fallback ? `${value} (default)` : value);
    setText(byId('guidance-value', HTMLOutputElement), Number(this.guidance.value) === 1 ? 'off' : label(this.guidance.value, defaults?.guidance_scale));
    setText(byId('timesteps-value', HTMLOutputElement), label(this.timesteps.value, defaults?.num_inference_steps));
  }

  private showExamples({ example_prompts: examples }: Model): void {
    const box = byId('examples', HTMLElement);
    box.hidden = examples.length === 0;
    box.replaceChildren(
      ...examples.map((text) => {
        const chip = h('button', { type: 'button', class: 'chip' }, text);
        chip.addEventListener('click', () => {
          this.prompt.value = text;
          this.complain('');
          this.prompt.focus();
        });
        return chip;
      }),
    );
  }

  private showStyles({ styles }: Model): void {
    const box = byId('styles', HTMLFieldSetElement);
    box.hidden = styles.length === 0;
    box.querySelector('.chips')?.replaceChildren(
      ...styles.map(({ name, suffix }, i) => h('label', { class: 'chip radio' }, h('input', { type: 'radio', name: 'style', value: suffix, checked: i === 0 }), h('span', {}, name))),
    );
  }
}
