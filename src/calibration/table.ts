import type { CalibratedMode, CalibrationResult } from './calibrate.js';

/** A table of the modes for people: what each gives, what it costs in quality, and whether that passed. */
export function calibrationTable({ modes, spread, auto }: CalibrationResult): string {
  const head = ['mode', 'speedup', 'tokens/round', 'accepted', 'gap', 'tolerance', 'γ max', 'drafting', 'gate', 'FD', 'Δ FD (95 %)', 'adherence', 'diversity', 'guard'];
  const lines = [head, ...modes.map(rowOf)];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const { vanilla, diversityWanted } = modes[0]?.verdict ?? {};
  const print = (line: readonly string[]): string => `| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [
    print(head),
    `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
    ...lines.slice(1).map(print),
    '',
    vanilla === undefined ? '' : `vanilla: FD ${vanilla.fd.toFixed(3)}, adherence ${vanilla.adherence.toFixed(3)}, diversity ${vanilla.diversity.toFixed(3)}, at least ${diversityWanted?.toFixed(3)} wanted`,
    `vanilla against itself with other seeds, 95 %: FD ${signed(spread.fd.low)} … ${signed(spread.fd.high)}, adherence ${signed(spread.adherence.low)} … ${signed(spread.adherence.high)}`,
    `auto: ${auto.mode}, few_step ${auto.fewStep}`,
  ].join('\n');
}

function rowOf({ key, verdict, speedup, settings, trial, gate }: CalibratedMode): string[] {
  const { scores, diversityWanted, fdDifference, fdDifferenceInterval: interval } = verdict;
  return [
    key,
    `${speedup.toFixed(2)}x`,
    trial === null ? '' : trial.tokensPerRound.toFixed(2),
    settings === null ? '' : settings.acceptance.toFixed(3),
    gate === null ? '' : gate.statistic.median.toPrecision(3),
    settings === null || settings.tolerance === 0 ? '' : settings.tolerance.toPrecision(3),
    settings === null ? '' : String(settings.maxDraftTokens),
    settings?.draftJumps === undefined ? (settings?.drafting ?? '') : `${settings.draftJumps} jump${settings.draftJumps === 1 ? '' : 's'}`,
    gate === null ? '' : `${settings?.gate.kind ?? ''} (AUC ${Math.max(...gate.layers.map(({ auc }) => auc)).toFixed(3)})`,
    scores.fd.toFixed(3),
    `${signed(fdDifference)} (${signed(interval.low)} … ${signed(interval.high)})`,
    scores.adherence.toFixed(3),
    `${((100 * scores.diversity) / diversityWanted).toFixed(1)} %`,
    verdict.passed ? 'passed' : verdict.faults.join('; '),
  ];
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
}
