import type { Spread } from '../stats.js';
import type { WayQuality } from './quality.js';

export interface PlotPoint {
  name: string;
  /** Milliseconds of one picture. */
  latency: Spread;
  quality: Pick<WayQuality, 'fd' | 'fd_interval' | 'equal_to_vanilla'>;
}

const WIDTH = 760;
const HEIGHT = 440;
const MARGIN = { left: 64, right: 24, top: 24, bottom: 52 };

/** How a way is drawn: by its family, so that the eye finds what belongs together. */
const FAMILIES = [
  { colour: '#6b7280', has: (name: string) => name.startsWith('off') },
  { colour: '#2563eb', has: (name: string) => name.startsWith('few_step') },
  { colour: '#059669', has: (name: string) => name === 'exact' },
  { colour: '#d97706', has: (name: string) => name === 'relaxed' },
  { colour: '#dc2626', has: (name: string) => name.startsWith('relaxed:') },
];

/**
 * Latency (logarithmic) against FD (logarithmic: vanilla with one timestep is far off) with the bootstrap interval of each.
 * Filled: of equal quality with vanilla. Null: nothing to show.
 */
export function latencyQualityPlot(points: readonly PlotPoint[]): string | null {
  if (points.length === 0) return null;
  const x = scale(points.map(({ latency }) => latency.median), MARGIN.left, WIDTH - MARGIN.right);
  const y = scale(points.flatMap(({ quality }) => quality.fd_interval), HEIGHT - MARGIN.bottom, MARGIN.top);
  const bottom = HEIGHT - MARGIN.bottom;
  const grid = [
    ...x.ticks.map((tick) => `<path d="M${x.at(tick)} ${MARGIN.top}V${bottom}" class="grid"/><text x="${x.at(tick)}" y="${bottom + 18}" text-anchor="middle">${tick}</text>`),
    ...y.ticks.map((tick) => `<path d="M${MARGIN.left} ${y.at(tick)}H${WIDTH - MARGIN.right}" class="grid"/><text x="${MARGIN.left - 8}" y="${y.at(tick) + 4}" text-anchor="end">${tick}</text>`),
  ];
  const labels = placeLabels(points, x.at, y.at);
  const marks = points.map(({ name, latency, quality }, i) => {
    const [px, py] = [x.at(latency.median), y.at(quality.fd)];
    const colour = familyOf(name).colour;
    const interval = `<path d="M${px} ${y.at(quality.fd_interval[0])}V${y.at(quality.fd_interval[1])}" stroke="${colour}" stroke-width="1.5" opacity="0.6"/>`;
    const fill = quality.equal_to_vanilla === false ? '#fff' : colour;
    const title = `<title>${escape(name)}: ${latency.median} ms, FD ${quality.fd}</title>`;
    return `${interval}<circle cx="${px}" cy="${py}" r="5" fill="${fill}" stroke="${colour}" stroke-width="2">${title}</circle>${nameBeside(px, labels[i]!, name, colour)}`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Latency against FD of every way of drawing">`,
    '<style>.grid{stroke:#e5e7eb;fill:none}text{fill:#374151}</style>',
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    ...grid,
    `<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">latency of one picture, ms</text>`,
    `<text transform="translate(18 ${(MARGIN.top + bottom) / 2}) rotate(-90)" text-anchor="middle">FD, lower is better (bars: 95 %)</text>`,
    ...marks,
    `<text x="${WIDTH - MARGIN.right}" y="${MARGIN.top + 12}" text-anchor="end">filled: of equal quality with off</text>`,
    '</svg>',
    '',
  ].join('\n');
}

/** Right of its point, or left of it where the picture ends. */
function nameBeside(px: number, py: number, name: string, colour: string): string {
  const GAP = 9;
  const LETTER = 7;
  const isLeft = px + GAP + LETTER * name.length > WIDTH;
  return `<text x="${px + (isLeft ? -GAP : GAP)}" ${isLeft ? 'text-anchor="end" ' : ''}y="${py}" fill="${colour}">${escape(name)}</text>`;
}

interface Scale {
  at: (value: number) => number;
  ticks: number[];
}

/** Logarithmic, a little wider than the values; ticks at 1, 2 and 5, and between them where the range is less than a decade. */
function scale(values: readonly number[], from: number, to: number): Scale {
  const low = Math.min(...values) / 1.15;
  const high = Math.max(...values) * 1.35;
  const at = (value: number): number => Number((from + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from)).toFixed(1));
  const digits = high < 10 * low ? [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8] : [1, 2, 5];
  const ticks = [-2, -1, 0, 1, 2, 3].flatMap((power) => digits.map((digit) => Number((digit * 10 ** power).toPrecision(2)))).filter((tick) => tick >= low && tick <= high);
  return { at, ticks };
}

/** Heights of the names beside their points, moved down where two would lie on each other. */
function placeLabels(points: readonly PlotPoint[], x: (value: number) => number, y: (value: number) => number): number[] {
  const LINE = 14;
  const REACH = 150;
  const placed: { x: number; y: number }[] = [];
  const heights = new Array<number>(points.length).fill(0);
  const order = points.map((_, i) => i).sort((a, b) => y(points[a]!.quality.fd) - y(points[b]!.quality.fd));
  for (const i of order) {
    const px = x(points[i]!.latency.median);
    let py = y(points[i]!.quality.fd) + 4;
    while (placed.some((other) => Math.abs(other.x - px) < REACH && Math.abs(other.y - py) < LINE)) py += 2;
    placed.push({ x: px, y: py });
    heights[i] = py;
  }
  return heights;
}

function familyOf(name: string): (typeof FAMILIES)[number] {
  return FAMILIES.find(({ has }) => has(name)) ?? FAMILIES[0]!;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
