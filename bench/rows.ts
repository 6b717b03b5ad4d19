/** What is measured, as rows: the figures of each round, their median and bounds, and the goal. */

/** What a row is to reach. */
export interface Goal {
  readonly kind: 'at most' | 'at least';
  readonly limit: number;
}

/** One line of the table. */
export interface Row {
  readonly group: string;
  readonly name: string;
  readonly unit: string;
  /** One figure a round. */
  readonly values: readonly number[];
  readonly goal?: Goal;
}

/** Collects rows round by round: the rounds of all rows are interleaved. */
export class Rows {
  readonly #group: string;
  readonly #rows = new Map<string, { unit: string; goal: Goal | undefined; values: number[] }>();

  constructor(group: string) {
    this.#group = group;
  }

  /** Notes one round's figure. The first call of a name fixes its unit and goal. */
  add(name: string, unit: string, value: number, goal?: Goal): void {
    const row = this.#rows.get(name) ?? { unit, goal, values: [] };
    this.#rows.set(name, row);
    row.values.push(value);
  }

  /** All rows, in the order of their first figures. */
  finish(): Row[] {
    return [...this.#rows].map(([name, { unit, goal, values }]) => ({
      group: this.#group,
      name,
      unit,
      values,
      ...(goal === undefined ? {} : { goal }),
    }));
  }
}

export function atMost(limit: number): Goal {
  return { kind: 'at most', limit };
}

export function atLeast(limit: number): Goal {
  return { kind: 'at least', limit };
}

/** The middle one, or the mean of the two in the middle. @throws RangeError when there is none. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? 0; // half < length
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? 0) + upper) / 2;
}

/** Whether the median reaches the goal; undefined where there is none. */
export function reaches({ values, goal }: Row): boolean | undefined {
  if (goal === undefined) return undefined;
  return goal.kind === 'at most' ? median(values) <= goal.limit : median(values) >= goal.limit;
}

/** Three digits that say something, grouped: `1,158`, `23.1`, `7.75`. */
export function figure(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  const [whole = '', fraction] = value.toFixed(digits).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** The table in Markdown, a heading for each group. */
export function renderMarkdown(rows: readonly Row[]): string {
  const lines: string[] = [];
  for (const group of new Set(rows.map((row) => row.group))) {
    const some = rows.filter((row) => row.group === group);
    lines.push(`### ${group}`, '', '| what | median | min..max | unit | goal | |');
    lines.push('| --- | ---: | ---: | --- | --- | --- |');
    for (const row of some) {
      const { name, unit, values, goal } = row;
      const bounds = `${figure(Math.min(...values))}..${figure(Math.max(...values))}`;
      const wanted = goal === undefined ? '' : `${goal.kind} ${figure(goal.limit)}`;
      const cells = [name, `**${figure(median(values))}**`, bounds, unit, wanted, verdict(row)];
      lines.push(`| ${cells.join(' | ')} |`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

/** The table for a terminal. */
export function renderText(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(({ name }) => name.length));
  const lines: string[] = [];
  let group = '';
  for (const row of rows) {
    if (row.group !== group) lines.push(...(group === '' ? [] : ['']), row.group);
    group = row.group;
    const { name, unit, values, goal } = row;
    const bounds = `[${figure(Math.min(...values))}..${figure(Math.max(...values))}]`;
    const wanted = goal === undefined ? '' : `${goal.kind} ${figure(goal.limit)}: ${verdict(row)}`;
    const head = `  ${name.padEnd(width)}  ${figure(median(values)).padStart(9)} ${unit.padEnd(6)}`;
    lines.push(`${head} ${bounds.padEnd(20)} ${wanted}`.trimEnd());
  }
  return lines.join('\n');
}

function verdict(row: Row): string {
  const good = reaches(row);
  return good === undefined ? '' : good ? 'reached' : 'MISSED';
}
