import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGateway, type Gateway } from '../support/gateway-harness.js';
import { alertRules, dashboardExpressions, DASHBOARD, groupingLabels, metricsIn, PROMETHEUS_DIRECTORY, readYaml } from '../support/monitoring.js';

/** Set by whoever scrapes. */
const SCRAPE_LABELS = ['instance', 'job'];

const expressions = [...dashboardExpressions(), ...alertRules().map(({ alert, expr }) => ({ where: `alert ${alert}`, expr }))];

let gateway: Gateway;
/** Label names of every series that /metrics can have, by name as PromQL sees it. */
const series = new Map<string, ReadonlySet<string>>([['up', new Set(SCRAPE_LABELS)]]);

beforeAll(async () => {
  gateway = await createGateway();
  const { registry } = gateway.metrics;
  for (const { name, type } of await registry.getMetricsAsJSON()) {
    const { labelNames = [] } = registry.getSingleMetric(name) as unknown as { labelNames?: string[] };
    // Process metrics exist once per worker too.
    const own = [...labelNames, ...SCRAPE_LABELS, ...(/^(nodejs|process)_/.test(name) ? ['worker'] : [])];
    const suffixes = String(type) === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes) series.set(name + suffix, new Set(suffix === '_bucket' ? [...own, 'le'] : own));
  }
});

afterAll(async () => {
  await gateway.close();
});

describe('metrics that dashboard and alerts use', () => {
  it('reads expressions as they are meant', () => {
    const expr = 'histogram_quantile(0.95, sum by (le, model) (rate(a_b_bucket{model=~"x_y", k!="v"}[5m]))) / on() group_left() sum(c_d_total) or up{job="z"}';
    expect(metricsIn(expr)).toEqual([{ name: 'a_b_bucket', labels: ['model', 'k'] }, { name: 'c_d_total', labels: [] }, { name: 'up', labels: ['job'] }]);
    expect(groupingLabels(expr)).toEqual(['le', 'model']);
    expect(expressions.length).toBeGreaterThan(70);
  });

  it.each(expressions)('$where: $expr', ({ expr }) => {
    const used = metricsIn(expr);
    expect(used).not.toHaveLength(0);
    for (const { name, labels } of used) {
      expect([...series.keys()]).toContain(name);
      for (const label of labels) expect([name, ...series.get(name)!]).toContain(label);
    }
    const grouping = groupingLabels(expr);
    for (const label of grouping) expect(used.flatMap(({ name }) => [...series.get(name)!])).toContain(label);
  });

  it('leaves no metric of ours without a panel', () => {
    const shown = new Set(dashboardExpressions().flatMap(({ expr }) => metricsIn(expr)).map(({ name }) => name));
    const families = [...series.keys()].filter((name) => name.startsWith('ardiff_')).map((name) => name.replace(/_(bucket|sum|count)$/, ''));
    const hidden = [...new Set(families)].filter((family) => ![family, `${family}_bucket`, `${family}_sum`, `${family}_count`].some((name) => shown.has(name)));
    // Constants: the build panel names the build.
    expect(hidden.sort()).toEqual(['ardiff_engine_info', 'ardiff_model_loaded']);
  });
});

describe('the dashboard file', () => {
  it('has ids once, and a description wherever the title does not say all', () => {
    const { panels, uid } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as { uid: string; panels: { id: number; gridPos: { x: number; w: number } }[] };
    expect(uid).toBe('fast-ardiff');
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
  });
});

const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
if (!hasPromtool) console.error('\n*** SKIPPED: promtool is not installed (Debian: prometheus); the alert rules were not run ***\n');

describe.skipIf(!hasPromtool)('promtool', () => {
  const promtool = (...args: string[]): string => execFileSync('promtool', args, { cwd: PROMETHEUS_DIRECTORY, encoding: 'utf8' });

  it('accepts configuration and rules', () => {
    expect(promtool('check', 'config', 'prometheus.yml')).toContain('is valid prometheus config');
    expect(promtool('check', 'rules', 'alerts.yml')).toContain(`${alertRules().length} rules found`);
  });

  it('sees every alert ring and rest as alerts.test.yml says', () => {
    expect(promtool('test', 'rules', 'alerts.test.yml')).toContain('SUCCESS');
  });

  it('has a ringing and a resting case for every alert', () => {
    interface Case {
      alertname: string;
      exp_alerts: unknown[];
    }
    const { tests } = readYaml<{ tests: { alert_rule_test: Case[] }[] }>('alerts.test.yml');
    const cases = tests.flatMap(({ alert_rule_test: list }) => list);
    for (const { alert } of alertRules()) {
      const own = cases.filter(({ alertname }) => alertname === alert);
      expect([alert, own.some(({ exp_alerts: rings }) => rings.length > 0), own.some(({ exp_alerts: rings }) => rings.length === 0)]).toEqual([alert, true, true]);
    }
  });
});
