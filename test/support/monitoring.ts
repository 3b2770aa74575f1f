import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { PACKAGE_ROOT } from '../../src/engine/native.js';

export const DASHBOARD = join(PACKAGE_ROOT, 'deploy', 'grafana', 'ardiff.json');
export const PROMETHEUS_DIRECTORY = join(PACKAGE_ROOT, 'deploy', 'prometheus');

/** A PromQL expression and where it stands, for messages. */
export interface Expression {
  where: string;
  expr: string;
}

interface Panel {
  title: string;
  targets?: { expr: string }[];
}

interface Dashboard {
  panels: Panel[];
  annotations: { list: { name: string; expr: string }[] };
}

export interface AlertRule {
  alert: string;
  expr: string;
}

export function dashboardExpressions(): Expression[] {
  const { panels, annotations } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as Dashboard;
  return [
    ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ where: `panel ${title}`, expr }))),
    ...annotations.list.map(({ name, expr }) => ({ where: `annotation ${name}`, expr })),
  ];
}

export function alertRules(): AlertRule[] {
  const { groups } = readYaml<{ groups: { rules: AlertRule[] }[] }>('alerts.yml');
  return groups.flatMap(({ rules }) => rules);
}

export function readYaml<T>(name: string): T {
  return parse(readFileSync(join(PROMETHEUS_DIRECTORY, name), 'utf8')) as T;
}

/** As Grafana would send it with everything selected. */
export function withVariables(expr: string, rateInterval: string): string {
  return expr.replaceAll('$__rate_interval', rateInterval).replaceAll(/\$(instance|model)\b/g, '.*');
}

export interface MetricUse {
  name: string;
  /** Labels that its selector names. */
  labels: string[];
}

/** Metrics an expression reads. Names are what is left when strings, label lists and functions are gone. */
export function metricsIn(expr: string): MetricUse[] {
  const plain = expr.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""').replaceAll(/\[[^\]]*\]/g, '');
  const names = plain.replaceAll(/\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  return [...names.matchAll(/([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\(|[\w:])/g)]
    .filter(([, name]) => name!.includes('_') ? !FUNCTIONS.has(name!) : name === 'up')
    .map(([, name, selector = '']) => ({ name: name!, labels: [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map((match) => match[1]!) }));
}

/** Labels an expression groups by. */
export function groupingLabels(expr: string): string[] {
  return [...expr.matchAll(/\b(?:by|on|without|ignoring)\s*\(([^)]*)\)/g)].flatMap((match) => match[1]!.split(',').map((label) => label.trim())).filter((label) => label !== '');
}

const FUNCTIONS: ReadonlySet<string> = new Set(['histogram_quantile', 'group_left', 'group_right', 'label_replace']);
