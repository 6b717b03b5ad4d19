/** Counts of places by method, and of those that nothing serves by reason. */

import { atMost, type Row } from './rows.ts';

/** Methods in the order of the planner. */
const METHODS: readonly string[] = ['nop', 'jump', 'short-jump', 'pun', 'pun, by a springboard'];

/** What became of some places. */
export class Tally {
  #places = 0;
  readonly #methods = new Map<string, number>();
  readonly #reasons = new Map<string, number>();

  /** A place that a method serves. */
  served(method: string): void {
    this.#places++;
    increase(this.#methods, method, 1);
  }

  /** One that none does. */
  refused(reason: string): void {
    this.#places++;
    increase(this.#reasons, general(reason), 1);
  }

  /** Adds another's. */
  add(other: Tally): void {
    this.#places += other.#places;
    for (const [method, count] of other.#methods) increase(this.#methods, method, count);
    for (const [reason, count] of other.#reasons) increase(this.#reasons, reason, count);
  }

  /** `3,724 (0.05 % not)`. */
  summary(): string {
    const refused = this.#refused();
    return `${this.#places.toLocaleString('en')} (${this.#share(refused).toFixed(2)} % not, ${refused})`;
  }

  /** @param most of a hundred places may not be served */
  rows(group: string, what: string, most: number): Row[] {
    const row = (name: string, unit: string, value: number): Row => {
      return { group, name, unit, values: [value] };
    };
    const reasons = [...this.#reasons].sort(([, a], [, b]) => b - a);
    return [
      row(what, '', this.#places),
      ...METHODS.map((method) =>
        row(`by \`${method}\``, '%', this.#share(this.#methods.get(method) ?? 0)),
      ),
      { ...row('by none of them', '%', this.#share(this.#refused())), goal: atMost(most) },
      ...reasons.map(([reason, count]) => row(`… ${reason}`, what, count)),
    ];
  }

  #refused(): number {
    return [...this.#reasons.values()].reduce((sum, count) => sum + count, 0);
  }

  #share(count: number): number {
    return this.#places === 0 ? 0 : (100 * count) / this.#places;
  }
}

function increase(counts: Map<string, number>, key: string, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by);
}

/** A reason without the addresses of this one place. */
function general(reason: string): string {
  return reason.replace(/0x[0-9a-f]+/g, '…').replace(/^.*; (?=pun: )/, '');
}
