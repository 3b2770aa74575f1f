import type { Rect } from '../protocol/frames.js';
import { hasDrafts, Mark, type DrawingState, type PictureState } from '../state/drawing.js';
import type { Drawn } from '../state/models.js';
import { h, setText } from './dom.js';
import { icon } from './icons.js';
import { PassStrip } from './pass-strip.js';

/** Where a picture is drawn: pixels, how many image tokens that is, or in how many passes over it. */
export type TileShape = Drawn;

export interface Preview {
  rect: Rect | null;
  partial: number | null;
  mime: string;
  bytes: Uint8Array<ArrayBuffer>;
}

const MARK_COLOURS = ['--mark-none', '--mark-drawn', '--mark-accepted', '--mark-target'] as const;

/** One picture: strips as they come, smoothed, then the picture itself with a way to keep it. */
export class PictureTile {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly frame: HTMLElement;
  private readonly edge = h('div', { class: 'edge' });
  private readonly map: HTMLCanvasElement;
  private readonly passes: PassStrip | null;
  private readonly caption = h('span', {});
  private readonly figcaption = h('figcaption', {});
  /** The strips side by side in their own, small size: enlarged together, they have no seams. */
  private rough: HTMLCanvasElement | null = null;
  /** Bytes become pixels out of turn; what is painted must not. */
  private painted: Promise<unknown> = Promise.resolve();
  private shownMarks: readonly number[] | null = null;
  private url: string | null = null;

  constructor(
    private readonly prompt: string,
    private readonly shape: TileShape,
  ) {
    const { width, height, columns, rows, unit, count } = shape;
    this.canvas = h('canvas', { width, height, role: 'img' });
    this.map = h('canvas', { width: columns, height: rows, class: 'map', role: 'img', hidden: true });
    this.frame = h('div', { class: 'frame' }, this.canvas, this.edge);
    this.frame.style.setProperty('--ratio', `${width} / ${height}`);
    this.frame.style.setProperty('--columns', String(columns));
    this.frame.style.setProperty('--rows', String(rows));
    this.figcaption.append(this.map, this.caption);
    this.passes = unit === 'pass' && count > 1 ? new PassStrip(prompt, count) : null;
    this.element = h('figure', { class: 'tile' }, this.frame, ...(this.passes === null ? [] : [this.passes.element]), this.figcaption);
  }

  /** A strip of finished rows, the whole picture so far, or what a pass drew. */
  preview({ rect, partial, mime, bytes }: Preview): void {
    if (partial !== null) this.passes?.show(partial, mime, bytes);
    const { width, height } = this.shape;
    this.paint(mime, bytes, (bitmap, context) => {
      if (rect === null) context.drawImage(bitmap, 0, 0, width, height);
      else this.paintStrip(bitmap, rect, context);
    });
  }

  /** The finished picture, as the file that Download saves. */
  finish(mime: string, bytes: Uint8Array<ArrayBuffer>, seed: number): void {
    const url = URL.createObjectURL(new Blob([bytes], { type: mime }));
    this.url = url;
    const image = h('img', { src: url, alt: this.prompt, width: this.shape.width, height: this.shape.height });
    const name = `${fileName(this.prompt)}-${seed}.${mime.split('/')[1] ?? 'png'}`;
    const save = h('a', { class: 'icon', href: url, download: name, 'aria-label': `Download ${this.prompt}, seed ${seed}`, title: 'Download' }, icon('download'));
    this.figcaption.append(save);
    // Decoded first, so that nothing flickers between the last rows and the picture.
    this.painted = this.painted.then(() => image.decode()).then(() => {
      this.canvas.replaceWith(image);
      this.frame.classList.add('finished');
    });
  }

  update(state: DrawingState, picture: PictureState, isStill: boolean): void {
    const { marks, seed } = picture;
    setText(this.caption, `seed ${seed}`);
    const drawn = marks.filter((mark) => mark !== Mark.none).length;
    this.canvas.setAttribute('aria-label', `${this.prompt}, seed ${seed}: ${drawn} of ${marks.length} parts drawn`);
    this.frame.style.setProperty('--done', String(Math.floor(drawn / this.shape.columns) / this.shape.rows));
    // A pass writes no line of its own.
    this.frame.classList.toggle('drawing', !isStill && !picture.isFinished && drawn > 0 && this.shape.unit === 'token');
    this.frame.classList.toggle('stopped', isStill && !picture.isFinished);
    if (hasDrafts(state) && this.shownMarks !== marks) {
      if (this.passes === null) this.showMap(marks);
      else this.passes.mark(marks);
    }
    this.shownMarks = marks;
  }

  /** Frees the picture's bytes; the tile is gone after this. */
  dispose(): void {
    if (this.url !== null) URL.revokeObjectURL(this.url);
    this.passes?.dispose();
  }

  private paint(mime: string, bytes: Uint8Array<ArrayBuffer>, draw: (bitmap: ImageBitmap, context: CanvasRenderingContext2D) => void): void {
    const bitmap = createImageBitmap(new Blob([bytes], { type: mime }));
    this.painted = this.painted
      .then(() => bitmap)
      .then((decoded) => {
        const context = this.canvas.getContext('2d');
        if (context === null) return;
        context.imageSmoothingEnabled = true;
        context.imageSmoothingQuality = 'high';
        draw(decoded, context);
        decoded.close();
      })
      // A strip that cannot be read is only a strip: the picture itself is still to come.
      .catch(() => undefined);
  }

  private paintStrip(bitmap: ImageBitmap, { x, y, width, height }: Rect, context: CanvasRenderingContext2D): void {
    const [scaleX, scaleY] = [bitmap.width / width, bitmap.height / height];
    this.rough ??= h('canvas', { width: Math.round(this.shape.width * scaleX), height: Math.round(this.shape.height * scaleY) });
    this.rough.getContext('2d')?.drawImage(bitmap, x * scaleX, y * scaleY);
    // Down to the end of this strip: what is below is not drawn yet and must not bleed in.
    const bottom = y + height;
    context.drawImage(this.rough, 0, 0, this.rough.width, bottom * scaleY, 0, 0, this.shape.width, bottom);
  }

  /** One pixel per token, coloured by how it came to be. */
  private showMap(marks: readonly number[]): void {
    const context = this.map.getContext('2d');
    if (context === null) return;
    this.map.hidden = false;
    const style = getComputedStyle(this.element);
    const colours = MARK_COLOURS.map((name) => style.getPropertyValue(name).trim());
    const { columns } = this.shape;
    marks.forEach((mark, i) => {
      context.fillStyle = colours[mark] ?? '';
      context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
    });
    const count = (wanted: number): number => marks.filter((mark) => mark === wanted).length;
    this.map.setAttribute('aria-label', `Tokens: ${count(Mark.accepted)} drafts taken, ${count(Mark.target)} drawn by the model`);
  }
}

function fileName(prompt: string): string {
  return prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 60) || 'picture';
}
